"""The files under deploy/ pass linters, which catch broken copies; nothing in them is open, and no key written down."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import PYTHON, ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = sorted((DEPLOY / "compose").glob("*.yml"))


def lint(builtin: str, *files: Path) -> subprocess.CompletedProcess[str]:
    """Check files against a schema that check-jsonschema brings along."""
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed")
    command = [PYTHON, "-m", "check_jsonschema", "--builtin-schema", builtin, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_lint_catches(builtin: str, file: Path, old: str, new: str, folder: Path) -> None:
    """Break a copy of a file: the linter has to say so, or it is none."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name}: {old}"
    broken = folder / file.name
    broken.write_text(text.replace(old, new))
    assert lint(builtin, broken).returncode == 1


def test_nothing_is_open_to_the_network_and_no_key_is_written_down() -> None:
    for file in COMPOSE:
        services = yaml.safe_load(file.read_text())["services"]
        for service in services.values():
            assert all(port.startswith("127.0.0.1:") for port in service["ports"]), file.name
            assert service["cap_drop"] == ["ALL"]
            for name, value in service["environment"].items():
                if name.endswith("_API_KEY"):
                    assert value.startswith(f"${{{name}:?"), f"{file.name}: {name}"


def test_the_pod_has_no_rights_and_its_key_is_a_secret() -> None:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes/vllm.yml").read_text()))
    deployment = next(document for document in documents if document["kind"] == "Deployment")
    service = next(document for document in documents if document["kind"] == "Service")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    [container] = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert {env["name"]: "secretKeyRef" in env["valueFrom"] for env in container["env"]} == {
        "VLLM_API_KEY": True,
        "HF_TOKEN": True,
    }
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")} == {
        "/health"
    }
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert service["metadata"]["name"] != "vllm"  # Kubernetes would set VLLM_PORT


def test_the_compose_files_are_valid() -> None:
    done = lint("vendor.compose-spec", *COMPOSE)
    assert done.returncode == 0, done.stdout


def test_a_broken_compose_file_is_caught(tmp_path: Path) -> None:
    schema = "vendor.compose-spec"
    assert_lint_catches(schema, COMPOSE[0], "    image:", "    imagge:", tmp_path)
    assert_lint_catches(schema, COMPOSE[0], "start_period: 20m", "start_periode: 20m", tmp_path)
    assert_lint_catches(schema, COMPOSE[0], "    cap_drop: [ALL]", "    cap_drop: ALL", tmp_path)


def test_the_workflow_is_valid_and_a_broken_one_caught(tmp_path: Path) -> None:
    schema, file = "vendor.github-workflows", DEPLOY / "ci/github-actions.yml"
    done = lint(schema, file)
    assert done.returncode == 0, done.stdout
    assert_lint_catches(schema, file, "    runs-on:", "    run-on:", tmp_path)
    assert_lint_catches(schema, file, "  contents: read", "  contents: reed", tmp_path)


def test_the_pipeline_is_valid_and_a_broken_one_caught(tmp_path: Path) -> None:
    """The schema passes over hidden jobs, so that what they hand down is put into those that extend them."""
    schema, file, whole = "vendor.gitlab-ci", DEPLOY / "ci/gitlab-ci.yml", tmp_path / "whole.yml"
    pipeline = yaml.safe_load(file.read_text())
    job = pipeline["miyabi-own-server"]
    whole.write_text(yaml.safe_dump({"job": {**pipeline[job["extends"]], **job}}))
    done = lint(schema, file, whole)
    assert done.returncode == 0, done.stdout
    assert_lint_catches(schema, whole, "when: always", "when: ever", tmp_path)


def zizmor(file: Path) -> subprocess.CompletedProcess[str]:
    """Look for holes in a workflow. GitHub's own actions are named by their versions, which is this project's way."""
    program = shutil.which("zizmor", path=str(Path(PYTHON).parent)) or shutil.which("zizmor")
    if program is None:
        pytest.skip("zizmor is not installed")
    policy = file.parent / "zizmor.yml"
    policy.write_text("rules: {unpinned-uses: {config: {policies: {'actions/*': ref-pin}}}}\n")
    command = [program, "--offline", "--no-progress", "--config", str(policy), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "quoted"),
    [
        (DEPLOY / "ci/github-actions.yml", '"$TASK"'),
        (ROOT / "miyabi_cli/init/workflow.yml", '"$ISSUE"'),
        (ROOT / "miyabi_cli/init/review.yml", '"$PULL_REQUEST"'),
    ],
    ids=["deploy", "init", "review"],
)
def test_a_workflow_has_no_hole_and_one_is_caught(tmp_path: Path, file: Path, quoted: str) -> None:
    text = file.read_text()
    workflow = tmp_path / "workflow.yml"
    workflow.write_text(text)
    done = zizmor(workflow)
    assert done.returncode == 0, done.stdout
    assert text.count(quoted) == 1
    assert "persist-credentials: false" in text
    workflow.write_text(text.replace(quoted, "'${{ inputs.task }}'"))
    assert "template-injection" in zizmor(workflow).stdout


def test_the_manifests_are_valid_and_broken_ones_caught() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes/vllm.yml").read_text()))
    assert [document["kind"] for document in documents] == [
        "PersistentVolumeClaim",
        "Deployment",
        "Service",
        "NetworkPolicy",
    ]
    for document in documents:
        validator.validate(document, "1.33", strict=True)
    container = documents[1]["spec"]["template"]["spec"]["containers"][0]
    container["readinesProbe"] = container.pop("readinessProbe")
    with pytest.raises(validator.ValidationError, match="readinesProbe"):
        validator.validate(documents[1], "1.33", strict=True)
