"""A run inside the user's own commit: fault F20, through the real CLI in a real pre-commit hook."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.support.scripts import arguments
from tests.support.server import call, chat_server, say
from tests.support.users import User, copy_user

WAYS = {
    "plain": ("git add calc.py mine.txt", "git commit -qm mine"),
    "all": ("git add mine.txt", "git commit -qam mine"),
    "one path": ("git add mine.txt", "git commit -qm mine calc.py"),
    "a linked worktree": ("git worktree add -q ../linked -b side && cd ../linked && MINE", "git commit -qam mine"),
}
DATES = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
MINE = "printf 'def add(a, b):\\n    return a - b - 0\\n' >calc.py; echo mine >mine.txt; git add mine.txt"


def commit_with_hook(user: User, way: str, hook: str) -> str:
    """Commit the user's edit with a pre-commit hook; return the commit and what the index and status are then."""
    prepare, commit = WAYS[way]
    return user.shell(
        f"""
mkdir -p .git/hooks; printf '#!/bin/sh\\n%s\\n' {shlex.quote(hook)} >.git/hooks/pre-commit
chmod 755 .git/hooks/pre-commit
{MINE if way != "a linked worktree" else ":"}
{prepare.replace("MINE", MINE)}
{commit}
git cat-file commit HEAD; git ls-tree -r HEAD; git ls-files --stage; git status --porcelain
""",
        **DATES,
    )


@pytest.mark.parametrize(
    ("way", "delivery"), [*((way, "branch") for way in WAYS), ("one path", "apply"), ("a linked worktree", "apply")]
)
def test_f20_inside_pre_commit_the_user_s_commit_is_theirs(user: User, way: str, delivery: str) -> None:
    top = user.home.parent
    expected = commit_with_hook(copy_user(user, top / "twin"), way, ":")
    new = call("exec", {"cmd": "echo agent >agent.txt; git status --short"})
    with chat_server(new, say("Made.")) as server:
        options = ("--apply",) if delivery == "apply" else ()
        given = " ".join(arguments(server, *options, task="Make"))
        hook = f"{user.python} -m miyabi_cli {given} >{top}/out 2>{top}/err || exit 9"
        found = commit_with_hook(user, way, hook)
    result = json.loads((top / "out").read_text())
    assert result["files_created"] == ["agent.txt"]
    if delivery == "branch":
        assert found == expected
        assert user.git("show", f"{result['branch']}:agent.txt") == "agent"
    else:
        assert found.replace("?? agent.txt", "").strip() == expected.strip()
        tree = user.repository if way != "a linked worktree" else top / "linked"
        assert (tree / "agent.txt").read_text() == "agent\n"


def test_f20_a_tool_that_calls_git_as_it_is_spoils_the_commit(user: User) -> None:
    """That the variables of a hook do harm: without this the tests above would show nothing."""
    top = user.home.parent
    expected = commit_with_hook(copy_user(user, top / "twin"), "a linked worktree", ":")
    user.git("clone", "-q", str(user.repository), str(top / "other"))
    hook = f"cd {top}/other && echo agent >agent.txt && git add agent.txt"
    found = commit_with_hook(user, "a linked worktree", hook)
    assert found != expected
    assert "agent.txt" in found
