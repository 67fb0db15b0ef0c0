"""Reviews started by git, by pre-commit and by a GitHub Action, each of them run for real."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PYTHON, ROOT, Miyabi
from tests.support.git_repositories import contents
from tests.support.github import TOKEN, FakeGitHub, github_server, pull
from tests.support.schemas import validate
from tests.test_review import BIDI, make_repository_by, marked

Git = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path, git: Git, environment: dict[str, str]) -> Path:
    """A repository whose hooks find this miyabi."""
    environment["PYTHONPATH"] = str(ROOT)
    return make_repository_by(git, tmp_path / "project", {"a.py": "a = 1\n"})


def test_a_hook_stands_beside_another_and_goes_without_a_trace(root: Path, miyabi: Miyabi, git: Git) -> None:
    folder = root / ".husky"
    git("config", "core.hooksPath", ".husky", cwd=root)
    folder.mkdir()
    (folder / "pre-commit").write_text("#!/bin/sh\necho first >> .git/seen\n")
    (folder / "pre-commit").chmod(0o755)
    before = contents(folder)
    assert miyabi("init", "--hook", "pre-commit", "--remove", cwd=root).code == 2
    ran = miyabi("init", "--hook", "pre-commit", "--format", "json", cwd=root)
    assert ran.code == 0, ran.stderr
    validate(json.loads(ran.stdout), "init")
    assert "nothing to change" in miyabi("init", "--hook", "pre-commit", cwd=root).stdout
    (root / "a.py").write_text(marked("a"))
    git("add", "a.py", cwd=root)
    git("commit", "-qm", "refused", cwd=root, check=False)
    assert git("log", "--format=%s", cwd=root) == "first"
    (root / "a.py").write_text("a = 2\n")
    git("commit", "-qam", "fine", cwd=root)
    assert (root / ".git/seen").read_text() == "first\nfirst\n"
    assert git("show", "--format=", "--name-only", cwd=root) == "a.py"
    assert miyabi("init", "--hook", "pre-commit", "--remove", cwd=root).code == 0
    assert contents(folder) == before


def test_a_hook_of_husky_s_goes_by_its_own_name(root: Path, miyabi: Miyabi, git: Git) -> None:
    """husky 9 has one script for all hooks, which runs what the file beside its folder with the hook's name says."""
    folder = root / ".husky/_"
    folder.mkdir(parents=True)
    (folder / "h").write_text('n=$(basename "$0")\ns=$(dirname "$(dirname "$0")")/$n\n[ -f "$s" ] && sh -e "$s" "$@"\n')
    stub = '#!/usr/bin/env sh\n. "$(dirname "$0")/h"'
    git("config", "core.hooksPath", ".husky/_", cwd=root)
    git("init", "-q", "--bare", "../remote", cwd=root)
    git("remote", "add", "origin", "../remote", cwd=root)
    for name, command in (("pre-commit", "echo committing"), ("pre-push", 'echo "$1 $(cut -d " " -f 1)"')):
        (folder / name).write_text(stub)
        (folder / name).chmod(0o755)
        (root / ".husky" / name).write_text(f"{command} >> .git/seen\n! [ -e .git/refuse ]\n")
        assert miyabi("init", "--hook", name, cwd=root).code == 0
    (root / "a.py").write_text("a = 2\n")
    git("commit", "-qam", "fine", cwd=root)
    git("push", "-q", "origin", "main", cwd=root)
    assert (root / ".git/seen").read_text() == "committing\norigin refs/heads/main\n"
    (root / ".git/refuse").touch()
    git("commit", "-qm", "refused", "--allow-empty", cwd=root, check=False)
    assert git("log", "-1", "--format=%s", cwd=root) == "fine"
    (folder / "pre-commit").write_text(stub)  # as an installation of the packages writes it anew
    assert miyabi("init", "--hook", "pre-commit", cwd=root).code == 0
    assert miyabi("init", "--hook", "pre-commit", "--remove", cwd=root).code == 0
    assert (folder / "pre-commit").read_text() == stub


def test_a_push_is_reviewed_from_what_the_remote_has(root: Path, miyabi: Miyabi, git: Git, tmp_path: Path) -> None:
    git("init", "-q", "--bare", str(tmp_path / "remote"), cwd=root)
    git("remote", "add", "origin", str(tmp_path / "remote"), cwd=root)
    assert miyabi("init", "--hook", "pre-push", cwd=root).code == 0

    def push(content: str, *arguments: str) -> str:
        (root / "a.py").write_text(content)
        git("commit", "-qam", "change", cwd=root)
        git("push", "-q", "origin", *arguments, cwd=root, check=False)
        return git("for-each-ref", "--format=%(refname:short) %(objectname)", cwd=tmp_path / "remote")

    assert push(marked("a"), "main") == ""  # a first push is reviewed from the very beginning
    first = push("a = 2\n", "main")
    assert first == f"main {git('rev-parse', 'HEAD', cwd=root)}"
    assert push(marked("b"), "main") == first
    git("checkout", "-qb", "new", cwd=root)
    assert push(marked("c"), "new") == first
    assert push("a = 3\n", "new").endswith(f"new {git('rev-parse', 'HEAD', cwd=root)}")
    git("push", "-q", "origin", ":new", cwd=root)
    # what somebody else has pushed, and was not fetched, is pushed over
    git("clone", "-q", str(tmp_path / "remote"), str(tmp_path / "other"), cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "theirs", cwd=tmp_path / "other")
    git("push", "-q", cwd=tmp_path / "other")
    git("push", "-qf", "origin", "HEAD:main", cwd=root)


def test_pre_commit_runs_the_hook_of_the_manifest(root: Path, git: Git, environment: dict[str, str]) -> None:
    manifest = ROOT / ".pre-commit-hooks.yaml"
    command = [PYTHON, "-m", "pre_commit"]
    subprocess.run([*command, "validate-manifest", manifest], check=True, capture_output=True, env=environment)
    # its own environment would be the package and all that it needs from an index: it is that of the tests here
    hooks = [
        {**hook, "language": "system", "entry": hook["entry"].replace("miyabi", f"{PYTHON} -m miyabi_cli", 1)}
        for hook in yaml.safe_load(manifest.read_text())
    ]
    (root / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": hooks}]}))
    environment.pop("PYTHONWARNINGS")
    both = ("--hook-type", "pre-commit", "--hook-type", "pre-push")
    done = subprocess.run(
        [*command, "install", *both], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (root / "a.py").write_text(marked("a"))
    git("add", "-A", cwd=root)
    (root / "a.py").write_text("a = 2\n")
    git("commit", "-qm", "refused", cwd=root, check=False)
    assert git("log", "--format=%s", cwd=root) == "first"
    git("commit", "-qam", "fine", cwd=root)
    assert git("show", "HEAD:a.py", cwd=root) == "a = 2"
    # a first push, for which pre-commit names no commit to begin after
    git("init", "-q", "--bare", "../remote", cwd=root)
    git("remote", "add", "origin", "../remote", cwd=root)
    (root / "b.py").write_text(marked("b"))
    git("add", "-A", cwd=root)
    git("commit", "-qnm", "past the hook", cwd=root)
    git("push", "-q", "origin", "main", cwd=root, check=False)
    assert git("ls-remote", "origin", cwd=root) == ""
    git("push", "-q", "origin", "HEAD~1:refs/heads/main", cwd=root)
    git("push", "-q", "origin", "main", cwd=root, check=False)
    assert git("ls-remote", "origin", "main", cwd=root).split()[0] == git("rev-parse", "HEAD~1", cwd=root)


def steps_of_the_action() -> list[dict[str, Any]]:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps: list[dict[str, Any]] = action["runs"]["steps"]
    return steps


def test_the_action_reviews_a_pull_request_with_the_base_s_configuration(
    root: Path, git: Git, environment: dict[str, str], tmp_path: Path
) -> None:
    """Its shell steps run one after the other, as a runner runs them, but for the installation."""
    git("checkout", "-qb", "feature", cwd=root)
    (root / "a.py").write_text(marked("a"))
    (root / ".miyabi.yml").write_text("review: {fail_under: 0, tools: [{name: x, command: touch /tmp/owned}]}\n")
    git("add", "-A", cwd=root)
    git("commit", "-qm", "feature", cwd=root)
    known = dict(
        line.split(" ")
        for line in git("for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads", cwd=root).splitlines()
    )
    fake = FakeGitHub(pulls=[pull(7, {"title": "A change", "body": "", "head": "feature", "base": "main"}, known)])
    git("remote", "add", "origin", "https://github.com/acme/calc.git", cwd=root)
    temp = tmp_path / "temp"
    program = temp / "miyabi-venv/bin/miyabi"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {PYTHON} -m miyabi_cli "$@"\n')
    program.chmod(0o755)
    outputs = temp / "outputs"
    outputs.touch()
    with github_server(fake) as server:
        codes = []
        for step in steps_of_the_action():
            if "run" not in step or step["name"] == "Install miyabi":
                continue
            values = {
                "inputs.pull-request": "7",
                "inputs.base": known["main"],
                "inputs.fail-under": "80",
                "inputs.token": TOKEN,
                "runner.temp": str(temp),
                "steps.review.outputs.code": outputs.read_text().partition("code=")[2].split("\n")[0],
            }
            given = {key: filled(str(value), values) for key, value in step.get("env", {}).items()}
            runner = {"GITHUB_OUTPUT": str(outputs), "RUNNER_TEMP": str(temp), "GITHUB_ACTIONS": "true"}
            own = {"GITHUB_API_URL": server.url}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=root,
                env={**environment, **runner, **own, **given},
                capture_output=True,
                text=True,
                check=False,
            )
            codes.append((step["name"], done.returncode, done.stdout, done.stderr))
    assert [code for _, code, _, _ in codes] == [0, 1], codes
    log = json.loads((temp / "miyabi.sarif").read_text())
    assert [one["ruleId"] for one in log["runs"][0]["results"]] == ["unicode/bidi-control"]
    assert "::error file=a.py,line=1" in codes[0][2]
    assert not Path("/tmp/owned").exists()
    assert BIDI not in codes[0][2]


def filled(text: str, values: dict[str, str]) -> str:
    """Fill in the expressions of an action, those that are not known with nothing."""
    while "${{" in text:
        before, _, rest = text.partition("${{")
        name, _, after = rest.partition("}}")
        text = before + values.get(name.strip().split(" ")[0], "") + after
    return text


def test_the_action_is_pinned_and_holds_no_expression_in_its_scripts(tmp_path: Path, miyabi: Miyabi) -> None:
    steps = steps_of_the_action()
    assert all("${{" not in step.get("run", "") for step in steps)
    assert all(len(step["uses"].partition("@")[2]) == 40 for step in steps if "uses" in step)
    action, workflow = ROOT / "action.yml", ROOT / "miyabi_cli/init/review.yml"
    done = subprocess.run(
        ["zizmor", "--offline", "--no-progress", "--persona=regular", str(action)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # the workflow of `init --github-action` checks out the base, and its command line is one that there is
    steps = yaml.safe_load(workflow.read_text())["jobs"]["review"]["steps"]
    assert steps[0]["with"]["ref"] == "${{ github.event.pull_request.base.sha }}"
    (command,) = [step["run"] for step in steps if step.get("name") == "Review"]
    ran = miyabi(*command.removeprefix("miyabi ").replace('"$PULL_REQUEST"', "1").split(), cwd=tmp_path)
    assert "not in a git repository" in ran.stderr
