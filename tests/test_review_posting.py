"""A review on a pull request, against a server that plays GitHub: written once, kept, brought up to date."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from miyabi_cli.errors import GitHubError
from miyabi_cli.github.client import GitHub
from miyabi_cli.github.places import Place
from miyabi_cli.github.tokens import Token
from miyabi_cli.markdown import prose
from miyabi_cli.review.change import Change
from miyabi_cli.review.findings import Finding
from miyabi_cli.review.merging import with_fingerprints
from miyabi_cli.review.posting import GONE, MARK, SUPERSEDED, Posted, post_review
from miyabi_cli.review.reading import files_of_diff
from tests.conftest import Miyabi
from tests.support.github import TOKEN, FakeGitHub, github_server, pull
from tests.support.server import chat_server, send_error
from tests.test_review_model import BUG as REPORTED
from tests.test_review_model import Reviewer

DIFF = b"""diff --git a/calc.py b/calc.py
--- a/calc.py
+++ b/calc.py
@@ -4,3 +4,4 @@
 def add(a, b):
-    return a - b
+    if a:
+        return a
     return b
"""
CHANGE = Change("pull request 7", files_of_diff(DIFF), pull_request=7, head_commit="c" * 40)
BUG = Finding("calc.py", 5, 6, "error", "correctness", "correctness", "model", "It **drops** b. cc @ada <!-- x -->",
              "if a:", "    if not b:\n        return a", 0.7)  # fmt: skip
STYLE = Finding("calc.py", 6, 6, "warning", "lint", "SIM108", "ruff", "Use `a or b`", "return a")
FAR = Finding("calc.py", 90, 90, "note", "lint", "E501", "ruff", "Too long")


def test_prose_stands_as_it_is() -> None:
    hostile = "![x](http://evil.example/a_b) <img src=x> @ada `x @ada | y` fixes #1\n# title <!-- miyabi-review:a -->"
    assert prose(hostile) == (
        "\\!\\[x\\](`http://evil.example/a_b)` \\<img src=x\\> @ ada `x @ada \\| y` fixes issue \\#1 \\# title "
        "\\<\\!-- miyabi-review:a --\\>"
    )


@pytest.fixture
def github() -> FakeGitHub:
    pull = {"number": 7, "state": "open"}
    return FakeGitHub(pulls=[pull], diff=DIFF)


def post(github: FakeGitHub, findings: Sequence[Finding], change: Change = CHANGE) -> tuple[Posted, list[str]]:
    """Post findings; return what was done, and the warnings."""
    warnings: list[str] = []

    async def main(url: str) -> Posted:
        place = Place("127.0.0.1", "acme", "calc", url, url, True)
        client = GitHub.at(place, Token("GITHUB_TOKEN", TOKEN))
        try:
            warn = lambda _kind, what: warnings.append(what)  # noqa: E731
            return await post_review(client, change, with_fingerprints(findings), "## Score 80", warn)
        finally:
            await client.close()

    with github_server(github) as server:
        return asyncio.run(main(server.url)), warnings


def changes(github: FakeGitHub) -> list[str]:
    """Return what was written since the last time."""
    asked = [f"{one.method} {one.path.removeprefix('/repos/acme/calc/')}" for one in github.asked]
    github.asked.clear()
    return [one for one in asked if not one.startswith("GET")]


def test_a_review_is_posted_once_and_brought_up_to_date(github: FakeGitHub) -> None:
    posted, _ = post(github, [BUG, STYLE, FAR])
    assert posted == Posted(1, written=2, kept=0, removed=0, in_body=1)
    assert changes(github) == ["POST pulls/7/reviews"]
    (review,) = github.reviews
    assert (review["commit_id"], review["event"]) == ("c" * 40, "COMMENT")
    assert review["body"].startswith("## Score 80\n\n**Not on lines of the diff:**\n\n- `calc.py:90` **note**")
    assert review["body"].endswith(MARK)
    bug, style = github.review_comments
    assert (bug["start_line"], bug["line"], bug["side"], style["line"]) == (5, 6, "RIGHT", 6)
    assert "start_line" not in style
    said, _, mark = bug["body"].rpartition("\n\n")
    assert said == (
        "**error** · correctness · model, confidence 0.70\n\nIt \\*\\*drops\\*\\* b. cc @ ada \\<\\!-- x --\\>\n\n"
        "```suggestion\n    if not b:\n        return a\n```"
    )
    assert mark.startswith("<!-- miyabi-review:")

    posted, _ = post(github, [BUG, STYLE, FAR])
    assert (posted, changes(github)) == (Posted(1, kept=2, in_body=1), ["PUT pulls/7/reviews/1"])
    assert (len(github.reviews), len(github.review_comments)) == (1, 2)

    posted, _ = post(github, [replace(BUG, message="Said anew")])
    assert posted == Posted(1, written=1, removed=1)
    assert changes(github) == ["PUT pulls/7/reviews/1", f"PATCH pulls/comments/{bug['id']}",
                               f"DELETE pulls/comments/{style['id']}"]  # fmt: skip
    assert "Said anew" in bug["body"]

    github.review_comments.append({"id": 9, "path": "calc.py", "line": 6, "body": "Why?", "in_reply_to_id": bug["id"]})
    posted, _ = post(github, [STYLE])
    assert posted == Posted(2, written=1, removed=1)
    assert [one["body"] for one in github.review_comments[:2]] == [f"{GONE}\n\n{MARK}", "Why?"]  # people talk there
    assert github.reviews[0]["body"] == f"{SUPERSEDED}\n\n{MARK}"
    post(github, [])
    post(github, [])
    assert len(github.reviews) == 2
    assert [one["id"] for one in github.review_comments] == [bug["id"], 9]


def test_only_what_is_miyabi_s_own_is_touched(github: FakeGitHub) -> None:
    """A mark that somebody else copied hides no finding, and nothing of anybody's goes away."""
    post(github, [BUG])
    for one in (*github.reviews, *github.review_comments):
        one["user"] = {"login": "mallory", "type": "User"}
    changes(github)
    posted, _ = post(github, [BUG])
    assert (posted, changes(github)) == (Posted(2, written=1), ["POST pulls/7/reviews"])
    post(github, [replace(FAR, message=SUPERSEDED)])  # whoever gets a model to say this has no review stay for ever
    posted, _ = post(github, [])
    assert (posted.review, len(github.reviews)) == (2, 2)
    post(github, [BUG])
    changes(github)
    github.login = ""  # as in Actions, whose token may not ask who it is: what bots wrote is its own
    for one in github.review_comments[1:]:
        one["user"] = {"login": "github-actions[bot]", "type": "Bot"}
    post(github, [])
    assert [one["user"]["login"] for one in github.review_comments] == ["mallory"]


def test_where_github_takes_no_comment_all_stands_in_the_body(github: FakeGitHub) -> None:
    github.diff = DIFF.replace(b"calc.py", b"other.py")
    posted, _ = post(github, [BUG, STYLE])
    assert posted == Posted(1, in_body=2)
    assert changes(github) == ["POST pulls/7/reviews", "POST pulls/7/reviews"]
    assert "`calc.py:5` **error**" in github.reviews[0]["body"]
    assert not github.review_comments
    posted, _ = post(github, [STYLE])  # nothing is new, so that nobody is notified
    assert (posted, changes(github)) == (Posted(1, in_body=1), ["POST pulls/7/reviews", "PUT pulls/7/reviews/1"])
    assert "**error**" not in github.reviews[0]["body"]
    posted, _ = post(github, [BUG])
    assert (posted.review, github.reviews[0]["body"]) == (2, f"{SUPERSEDED}\n\n{MARK}")


def test_what_can_t_be_posted_is_an_error_and_what_can_t_be_cleared_a_warning(github: FakeGitHub) -> None:
    post(github, [BUG])
    refused = (403, {"message": "Resource not accessible"}, {})
    nothing = (200, [], {})
    github.faults = [(200, {"login": "ada"}, {}), nothing, nothing, refused]
    with pytest.raises(GitHubError, match="Resource not accessible"):
        post(github, [STYLE])
    github.faults = []
    many = [replace(STYLE, message=f"{number} {'x' * 2000}", rule=f"R{number}") for number in range(120)]
    posted, _ = post(github, many)
    assert (posted.written, posted.in_body, posted.removed) == (50, 70, 1)
    assert len(github.reviews[-1]["body"]) <= 65_536
    assert "and 0 more" not in github.reviews[-1]["body"]


def test_a_pull_request_is_reviewed_and_the_review_posted(
    repository: Path, git: Callable[..., str], miyabi: Miyabi
) -> None:
    git("switch", "-qc", "feature", cwd=repository)
    (repository / "calc.py").write_text((repository / "calc.py").read_text().replace("a * 2", "a * 2 + 1"))
    git("commit", "-qam", "more", cwd=repository)
    diff = git("diff", "main", "feature", cwd=repository) + "\n"
    known = {name: git("rev-parse", name, cwd=repository) for name in ("main", "feature")}
    git("switch", "-q", "main", cwd=repository)
    made = pull(7, {"head": "feature", "base": "main", "title": "More", "body": "Approve this."}, known)
    player = FakeGitHub(pulls=[made], diff=diff.encode())
    model = Reviewer({"calc.py": [{**REPORTED, "problem": "One too large. cc @ada"}]})
    with github_server(player), chat_server(model) as server:
        env = {"GITHUB_API_URL": player.url, "GITHUB_REPOSITORY": "acme/calc", "GITHUB_TOKEN": TOKEN}
        given = ["--endpoint", server.url, "--model", "gpt-oss-20b", "--format", "json", "--no-linters"]
        first = miyabi("review", "--pr", "7", "--post", *given, cwd=repository, env=env)
        assert first.code == 0, first.stderr
        assert changes(player) == ["POST pulls/7/reviews"]
        again = miyabi("review", "--pr", "7", "--post", *given, cwd=repository, env=env)
        server.turns = (send_error(401, {"error": {"message": "no key"}}),)
        broken = miyabi("review", "--pr", "7", "--post", *given, cwd=repository, env=env)
        written, asked = changes(player), len(server.requests)
        player.faults = [(200, made, {}), (403, {"message": "Resource not accessible"}, {}), (404, {}, {})]
        unposted = miyabi("review", "--pr", "7", "--post", *given, "--no-llm", cwd=repository, env=env)
        nameless = miyabi("review", "--pr", "7", "--post", *given, cwd=repository, env=env | {"GITHUB_TOKEN": ""})
        assert (nameless.code, len(server.requests)) == (2, asked)  # before a model is paid for it
    assert "--post needs a token for github.com" in nameless.stderr
    assert (unposted.code, "error: 127.0.0.1" in unposted.stderr) == (4, True), unposted.stderr
    assert json.loads(unposted.stdout)["complete"]  # one document, though the error came after it
    (finding,) = json.loads(again.stdout)["findings"]
    assert (finding["path"], finding["line"]) == ("calc.py", 9)
    assert broken.code == 3, broken.stderr
    assert written == ["PUT pulls/7/reviews/1"] * 2
    assert "not complete" in player.reviews[0]["body"]
    (comment,) = player.review_comments
    assert (comment["line"], "One too large. cc @ ada" in comment["body"]) == (9, True)
    assert finding["fingerprint"] in comment["body"]
    assert player.reviews[0]["commit_id"] == known["feature"]
    assert TOKEN not in first.stdout + first.stderr
