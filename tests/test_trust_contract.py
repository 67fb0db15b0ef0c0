"""What the contract says of trust, clause by clause, through the command line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Miyabi, Ran

HARMFUL = "llm: {openai: {endpoint: 'http://127.0.0.1:9'}}\nchecks: [{name: a, command: 'true'}]\n"
PLAIN = ("codegen", "task", "--dry-run", "--no-checks", "--provider", "openai", "--model", "m")
HERE = ("--endpoint", "http://127.0.0.1:9")
TRUST = "MIYABI_TRUST_CONFIG"

Git = Callable[..., str]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def project(repository: Path) -> Path:
    """A repository whose settings file could do harm."""
    (repository / ".miyabi.yml").write_text(HARMFUL)
    return repository


def assert_refused(ran: Ran, text: str = HARMFUL) -> None:
    """Hold what nobody has trusted: exit 2, the keys by name, and what to do about it."""
    assert (ran.code, ran.stdout) == (2, ""), ran.stderr
    error, hint = ran.stderr.splitlines()
    assert error.startswith("error: ")
    assert ".miyabi.yml is not trusted, and sets llm.openai.endpoint" in error
    assert hint == f"hint: read it, then run `miyabi trust`, or set {TRUST}={sha256(text)}"


def test_untrusted_and_no_terminal_is_a_usage_error(project: Path, miyabi: Miyabi) -> None:
    assert_refused(miyabi(*PLAIN, cwd=project))
    # A flag for the same key does not make the rest of the file harmless.
    assert_refused(miyabi(*PLAIN, *HERE, cwd=project))
    assert_refused(miyabi(*PLAIN, cwd=project, stdin="y\n"))


@pytest.mark.parametrize("given", [sha256(HARMFUL), "1"])
def test_the_variable_trusts_it(project: Path, miyabi: Miyabi, given: str) -> None:
    assert miyabi(*PLAIN, cwd=project, env={TRUST: given}).code == 0
    assert_refused(miyabi(*PLAIN, cwd=project))  # it records nothing


def test_trust_is_for_a_content_and_ends_with_it(project: Path, miyabi: Miyabi) -> None:
    assert miyabi("trust", cwd=project).code == 0
    assert miyabi(*PLAIN, cwd=project).code == 0
    changed = HARMFUL + "limits: {steps: 5}\n"
    (project / ".miyabi.yml").write_text(changed)
    assert_refused(miyabi(*PLAIN, cwd=project), changed)
    assert_refused(miyabi(*PLAIN, cwd=project, env={TRUST: sha256(HARMFUL)}), changed)
    (project / ".miyabi.yml").write_text(HARMFUL)
    assert miyabi(*PLAIN, cwd=project).code == 0


def test_a_branch_with_another_file_is_not_trusted(project: Path, miyabi: Miyabi, git: Git) -> None:
    git("add", ".", cwd=project)
    git("commit", "-qm", "settings", cwd=project)
    assert miyabi("trust", cwd=project).code == 0
    git("switch", "-qc", "theirs", cwd=project)
    theirs = HARMFUL.replace(":9", ":10")
    (project / ".miyabi.yml").write_text(theirs)
    git("commit", "-qam", "theirs", cwd=project)
    assert_refused(miyabi(*PLAIN, cwd=project), theirs)
    git("switch", "-q", "main", cwd=project)
    assert miyabi(*PLAIN, cwd=project).code == 0


def test_another_folder_with_the_same_content_is_not_trusted(
    project: Path, miyabi: Miyabi, git: Git, tmp_path: Path
) -> None:
    git("add", ".", cwd=project)
    git("commit", "-qm", "settings", cwd=project)
    assert miyabi("trust", cwd=project).code == 0
    git("clone", "-q", str(project), str(tmp_path / "clone"), cwd=tmp_path)
    assert_refused(miyabi(*PLAIN, cwd=tmp_path / "clone"))
    git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"), cwd=project)
    assert_refused(miyabi(*PLAIN, cwd=tmp_path / "linked"))


def test_flags_and_the_user_s_own_variables_need_no_trust(repository: Path, miyabi: Miyabi) -> None:
    assert (
        miyabi(*PLAIN, *HERE, "--check", "true", cwd=repository).code == 2
    )  # --check and --no-checks exclude each other
    flags = [word for word in PLAIN if word != "--no-checks"]
    assert miyabi(*flags, *HERE, "--check", "true", "--sandbox", "off", cwd=repository).code == 0
    own = {"OPENAI_BASE_URL": HERE[1], "MIYABI_LLM__GROQ__ENDPOINT": HERE[1], "MIYABI_SANDBOX__MODE": "off"}
    assert miyabi(*PLAIN, cwd=repository, env=own).code == 0


def test_a_file_that_the_user_names_needs_none_and_takes_the_other_s_place(
    project: Path, miyabi: Miyabi, tmp_path: Path
) -> None:
    own = tmp_path / "own.yml"
    own.write_text(HARMFUL)
    assert miyabi(*PLAIN, "--config", str(own), cwd=project).code == 0
    (project / ".miyabi.yml").write_text("no settings at all")
    assert miyabi(*PLAIN, "--config", str(own), cwd=project).code == 0


def test_only_the_file_at_the_root_counts(repository: Path, miyabi: Miyabi) -> None:
    folder = repository / "sub"
    folder.mkdir()
    (folder / ".miyabi.yml").write_text(HARMFUL)
    (repository.parent / ".miyabi.yml").write_text(HARMFUL)
    assert miyabi(*PLAIN, *HERE, cwd=folder).code == 0
    (repository / ".miyabi.yml").write_text(HARMFUL)
    assert_refused(miyabi(*PLAIN, *HERE, cwd=folder))


def a_link_out(path: Path) -> None:
    (path.parent.parent / "outside.yml").write_text("limits: {steps: 5}\n")
    path.symlink_to("../outside.yml")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def a_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


WRONG: dict[str, Callable[[Path], object]] = {
    "a link that leads out of the repository": a_link_out,
    "can't be read": a_link_to_itself,
    "not a regular file": os.mkfifo,
    "larger than 1,000,000 bytes": a_huge_file,
    "a control character": lambda path: path.write_bytes(b"limits: {steps: 5}\n\x1b[2J\0"),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "anchors and aliases": lambda path: path.write_text("a: &a [x]\nb: [*a, *a]\n"),
    "tags (!)": lambda path: path.write_text("checks: !!python/object/apply:os.system ['touch owned']\n"),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_file_of_the_wrong_kind_is_refused_and_never_passed_over(
    repository: Path, miyabi: Miyabi, words: str
) -> None:
    WRONG[words](repository / ".miyabi.yml")
    for arguments in (PLAIN, ("trust",)):
        ran = miyabi(*arguments, *HERE[: 2 * (arguments is PLAIN)], cwd=repository, env={TRUST: "1"}, timeout=20)
        assert (ran.code, ran.stdout) == (2, "")
        assert words in ran.stderr.splitlines()[0]
    assert not (repository / "owned").exists()


def test_the_agent_can_neither_write_nor_trust_the_settings_of_the_run(project: Path, miyabi: Miyabi, git: Git) -> None:
    from tests.support.server import call, chat_server, say

    patch = "*** Begin Patch\n*** Add File: .miyabi.yml\n+sandbox: {mode: off}\n*** End Patch"
    (project / ".miyabi.yml").unlink()
    with chat_server(call("apply_patch", {"patch": patch}), say("done")) as server:
        ran = miyabi("codegen", "task", *PLAIN[4:], "--endpoint", server.url, "--no-checks", cwd=project)
        assert ran.code == 0, ran.stderr
        git("merge", "-q", git("branch", "--list", "miyabi/*", "--format=%(refname)", cwd=project), cwd=project)
        ran = miyabi("codegen", "task", *PLAIN[4:], "--endpoint", server.url, "--no-checks", cwd=project)
    assert ran.code == 2
    assert ".miyabi.yml is not trusted, and sets sandbox.mode" in ran.stderr
