"""Each historical bug, from end to end: the real CLI, the checks that it finds, a model that replays the true fix."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Miyabi
from tests.real.projects import Project, as_patch, check_out, fixed_paths, projects, repositories
from tests.support.server import call, chat_server, say
from tests.test_codegen import model, result_of

Git = Callable[..., str]

PATIENCE_S = 900.0


@pytest.fixture(params=projects(), ids=lambda project: project.repository)
def project(request: pytest.FixtureRequest) -> Project:
    known: Project = request.param
    return known


@pytest.fixture
def root(project: Project, tmp_path: Path, git: Git) -> Path:
    """The project as it was before the fix, with what its tests need."""
    folder = repositories()
    if folder is None:
        pytest.skip("MIYABI_TEST_REPOSITORIES names no folder of bare clones: make test-real")
    if not (folder / project.folder).exists():
        pytest.skip(f"no clone of {project.repository} in {folder}: make test-real")
    root = check_out(project, folder / project.folder, tmp_path, git)
    if project.packages:
        _install(project.packages, root)
    return root


def test_the_true_fix_is_verified_by_the_known_test(project: Project, root: Path, miyabi: Miyabi, git: Git) -> None:
    sources, tests = fixed_paths(project, root, git)
    git("checkout", project.fix, "--", *tests, cwd=root)
    git("commit", "-qm", "The tests of the fix", cwd=root)
    result = _replayed(project, sources, root, miyabi, git)
    assert result["status"] == "verified"
    assert result["files_modified"] == sources
    fixed = [name for check in result["checks"] for name in check["tests"]["fixed"]]
    assert all(any(known in name for name in fixed) for known in project.tests), fixed
    assert not any(check["tests"]["broken"] for check in result["checks"])


def test_the_tests_of_the_true_fix_are_told_from_its_sources(
    project: Project, root: Path, miyabi: Miyabi, git: Git
) -> None:
    sources, tests = fixed_paths(project, root, git)
    result = _replayed(project, [*sources, *tests], root, miyabi, git)
    assert sorted(result["files_modified"]) == sorted([*sources, *tests])
    if project.rewrites:  # an old test does not pass any more, and the patch can't tell us that it need not
        assert result["status"] == "unverified"
        assert "with the base's tests" in result["summary"]
        return
    assert result["status"] == "verified"
    assert result["tests_added"] >= project.added
    not_telling = [warning["message"] for warning in result["warnings"] if warning["kind"] == "test_not_telling"]
    assert not any(known in message for message in not_telling for known in project.tests)


def _replayed(project: Project, paths: list[str], root: Path, miyabi: Miyabi, git: Git) -> dict[str, Any]:
    """Let a model apply the fix to these paths; return the result of a run that ends at the tree of the fix."""
    patch = as_patch(project, paths, root, git)
    script = [call("repo_browser.apply_patch", {"patch": patch}), say("It is fixed.")]
    with chat_server(*script) as server:
        ran = miyabi(
            *("codegen", project.task, *model(server), "--format", "json"),
            *(("--check", project.check) if project.check else ()),
            cwd=root,
            env=_tools(),
            timeout=PATIENCE_S,
        )
    result = result_of(ran)
    print(result["checks"], result["warnings"], ran.stderr)  # shown where the test fails, or with -s
    assert ran.code == (0 if result["status"] == "verified" else 1)
    made, true = (git("rev-parse", f"{commit}^{{tree}}", cwd=root) for commit in (result["branch"], project.fix))
    assert made == true
    assert git("status", "--porcelain", cwd=root) == ""
    return result


def _tools() -> dict[str, str]:
    """Return the variables by which the languages' tools are found, which may lie in a home."""
    rustup = {"RUSTUP_HOME": str(Path.home() / ".rustup")}
    return rustup | {name: os.environ[name] for name in ("PATH", "RUSTUP_HOME", "CARGO_HOME") if name in os.environ}


def _install(packages: tuple[str, ...], root: Path) -> None:
    """Install these alone; but for `--save-prod`, `--omit=dev` would leave them out, and without it all comes."""
    options = ["--no-save", "--save-prod", "--omit=dev", "--no-package-lock", "--ignore-scripts", "--legacy-peer-deps"]
    done = subprocess.run(
        ["npm", "install", *options, *packages], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"npm can't install {' '.join(packages)}: {done.stderr[-200:]}")
