"""Running git on the host: its environment, its errors, and names that must never become options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError, RepositoryError
from miyabi_cli.workspace.git import Git, GitAnswer, check_name, git_failure, last_word, quoted_path
from tests.support.git_repositories import make_repository, run_git

pytest_plugins = ("tests.support.git_fixtures",)

ROOT = Path(__file__).parent.parent


def test_a_hooks_variables_do_not_reach_git(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in run_git("rev-parse", "--local-env-vars", cwd=project).splitlines():
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_EXEC_PATH", str(tmp_path))
    assert Git(project / ".git").run("rev-parse", "--git-dir") == f"{project / '.git'}\n".encode()


def test_the_users_configuration_is_read_only_on_request(project: Path, user: Path) -> None:
    run_git("config", "--global", "demo.key", "mine", cwd=project)
    assert Git(project / ".git", user_config=True).run("config", "demo.key") == b"mine\n"
    assert Git(project / ".git").ask("config", "demo.key").exit_code == 1


def test_hooks_and_transports_are_off(project: Path, tmp_path: Path) -> None:
    hook = project / ".git/hooks/reference-transaction"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git = Git(project / ".git")
    git.run("update-ref", "refs/heads/other", "HEAD")
    assert not (tmp_path / "ran").exists()
    for transport, address in (("file", str(project)), ("ext", f"ext::touch {tmp_path}/ran")):
        run_git("config", f"protocol.{transport}.allow", "always", cwd=project)
        answer = git.ask("fetch", address, "main")
        assert answer.exit_code != 0
        assert f"transport '{transport}' not allowed" in answer.error
    assert not (tmp_path / "ran").exists()


def test_input_and_output_are_bytes(project: Path) -> None:
    data = b"\x00\xff\r\n" * 100_000
    name = Git(project / ".git").run("hash-object", "-w", "--stdin", input=data).decode().strip()
    assert Git(project / ".git").run("cat-file", "blob", name) == data


def test_a_failure_is_gits_own_last_word(project: Path) -> None:
    with pytest.raises(RepositoryError, match=r"^git cat-file: Not a valid object name nothing$"):
        Git(project / ".git").run("cat-file", "-p", "nothing")


@pytest.mark.parametrize(
    ("stderr", "word"),
    [
        ("warning: a\nfatal: b\nhint: c\n", "b"),
        ("error: first\nerror: second", "second"),
        ("something", "something"),
        ("", "exit code 9"),
    ],
)
def test_last_word(stderr: str, word: str) -> None:
    assert last_word(GitAnswer(9, b"", stderr)) == word


def test_a_full_disk_is_the_machines_fault() -> None:
    for words in ("write error: No space left on device", "sha1 file 'index.lock' write error. Out of diskspace"):
        assert isinstance(git_failure("checkout", GitAnswer(128, b"", f"fatal: {words}")), MachineError)


@pytest.mark.parametrize("name", ["-x", "--upload-pack=touch /tmp/x", "", " ", "a\nb", "a\0b", "\x1b[2J"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(RepositoryError, match="not a revision"):
        check_name(name)


@pytest.mark.parametrize("name", ["main", "HEAD~3", "HEAD@{1 day ago}", ":/fix", "v1.0^{}", "zweig/ümlaut"])
def test_names_that_pass(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["plain", "with space", "a:b", 'a"b', "a\\b", "new\nline", "#first", "ümlaut"])
def test_alternates_of_any_name_are_found(user: Path, tmp_path: Path, name: str) -> None:
    project = make_repository(tmp_path / name)
    (tmp_path / "objects").mkdir()
    git = Git(project / ".git", objects=tmp_path / "objects", alternates=(project / ".git/objects",))
    assert git.run("cat-file", "-t", "HEAD") == b"commit\n"
    assert quoted_path(Path("a:b")) == '"a:b"'


def test_without_git_the_error_says_so(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom miyabi_cli.errors import MachineError\n"
        "from miyabi_cli.workspace.repository import open_repository\n"
        "try:\n    open_repository(Path())\nexcept MachineError as error:\n    print(error.message)\n"
    )
    for extra in ({}, {"GIT_DIR": "x"}):
        done = _python(code, tmp_path, {"PATH": str(tmp_path), **extra})
        assert done.stdout == "git is not installed\n", done.stderr


def test_an_old_git_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.25.1\n")
    old.chmod(0o755)
    code = (
        "from miyabi_cli.errors import MachineError\nfrom miyabi_cli.workspace.git import check_git\n"
        "try:\n    check_git()\nexcept MachineError as error:\n    print(error.message)\n"
    )
    done = _python(code, tmp_path, {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.stdout == "git is too old or broken: git version 2.25.1\n", done.stderr


def test_gitpython_is_imported_where_it_is_used_alone(tmp_path: Path) -> None:
    code = "import sys, miyabi_cli.workspace.delivery, miyabi_cli.commands.worktrees\nprint('git' in sys.modules)\n"
    assert _python(code, tmp_path, {}).stdout == "False\n"


def _python(code: str, cwd: Path, extra: dict[str, str]) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    env = {**kept, "PYTHONPATH": str(ROOT), **extra}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=env, capture_output=True, text=True, check=False)
