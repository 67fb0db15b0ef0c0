"""GitHub's client against a server that plays it: where a repository is, who may know the token, limits, pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as some

from miyabi_cli.codegen.issue_task import BODY_LIMIT, COMMENTS_LIMIT, visible, with_issue
from miyabi_cli.codegen.request import CodegenRequest
from miyabi_cli.errors import GitHubError, SettingsError, UsageError
from miyabi_cli.github.client import GitHub, Patience
from miyabi_cli.github.issues import Label, add_labels, create_label, issue_number, list_issues, list_labels
from miyabi_cli.github.places import Place, locate, read_address
from miyabi_cli.github.pulls import (
    LineComment,
    create_review,
    get_pull,
    get_pull_diff,
    list_pull_files,
    list_reviews,
)
from miyabi_cli.github.tokens import Token, find_token
from miyabi_cli.markdown import code_block, inline_code, unlinked
from tests.support.github import TOKEN, FakeGitHub, comment, github_server, issue, pull

T = TypeVar("T")
API = "https://api.github.com"
CALC = Place("github.com", "acme", "calc", API, "https://github.com", takes_token=True)


# where

PLACES = {
    "https://github.com/acme/calc.git": CALC,
    "https://github.com/acme/calc/": CALC,
    "https://ada:secret@GitHub.com/acme/calc": CALC,
    "git@github.com:acme/calc.git": CALC,
    "github.com:acme/calc": CALC,
    "ssh://git@github.com/acme/calc.git": CALC,
    "ssh://git@ssh.github.com:443/acme/calc.git": CALC,
    "git://github.com/acme/calc": CALC,
    "https://github.com/acme/a.b_c-.git": replace(CALC, name="a.b_c-"),
    "git@ghe.corp:acme/calc.git": Place(
        "ghe.corp", "acme", "calc", "https://ghe.corp/api/v3", "https://ghe.corp", takes_token=True
    ),
    "ssh://git@ghe.corp:2222/acme/calc": Place(
        "ghe.corp", "acme", "calc", "https://ghe.corp/api/v3", "https://ghe.corp", takes_token=True
    ),
    "https://ghe.corp:8443/acme/calc": Place(
        "ghe.corp", "acme", "calc", "https://ghe.corp:8443/api/v3", "https://ghe.corp:8443", takes_token=True
    ),
    "https://corp.ghe.com/acme/calc": Place(
        "corp.ghe.com", "acme", "calc", "https://api.corp.ghe.com", "https://corp.ghe.com", takes_token=True
    ),
}
NO_PLACES = (
    "",
    "/srv/git/calc.git",
    "../calc",
    "file:///acme/calc",
    "https://github.com/acme",
    "https://github.com/acme/calc/tree/main",
    "https://github.com/acme/..",
    "https://github.com/../calc.git",
    "https://github.com/acme/calc?x=1",
    "https://gith ub.com/acme/calc",
    "https://[::1/acme/calc",
    "https://github.com:port/acme/calc",
    "https:///acme/calc",
    "ext::sh -c x",
    "-oProxyCommand=x:acme/calc",
    "x" * 5000,
)


@pytest.mark.parametrize("address", PLACES)
def test_an_address_leads_to_a_repository(address: str) -> None:
    assert locate(["/some/path", address], {}) == PLACES[address]


@pytest.mark.parametrize("address", NO_PLACES)
def test_an_address_that_is_none_of_github_s(address: str) -> None:
    assert read_address(address) is None
    with pytest.raises(GitHubError, match="no remote of this repository"):
        locate([address], {})


PARTS = (
    "https://",
    "ssh://",
    "git@",
    "github.com",
    ":",
    "/",
    "..",
    ".git",
    "[::1]",
    "acme",
    "calc",
    "?",
    "#",
    "٣",
    " ",
)


@given(some.lists(some.sampled_from(PARTS), max_size=9).map("".join))
def test_any_address_is_read_or_not(text: str) -> None:
    found = read_address(text)
    assert found is None or ("/" not in found.owner + found.name and found.name not in (".", "..", ""))


ACTIONS = {
    "GITHUB_REPOSITORY": "acme/calc",
    "GITHUB_API_URL": "https://ghe.corp/api/v3",
    "GITHUB_SERVER_URL": "https://ghe.corp",
}


def test_actions_name_the_repository_whatever_is_checked_out() -> None:
    there = Place("ghe.corp", "acme", "calc", "https://ghe.corp/api/v3", "https://ghe.corp", takes_token=True)
    assert locate(["https://github.com/fork/calc"], ACTIONS) == there
    assert locate([], {"GITHUB_REPOSITORY": "acme/calc"}) == CALC
    other = locate(["https://github.com/fork/calc"], {**ACTIONS, "GITHUB_REPOSITORY": ""})
    assert other == replace(CALC, owner="fork")


def test_the_variable_of_the_api_alone() -> None:
    local = {"GITHUB_API_URL": "http://127.0.0.1:8000/"}
    place = locate(["https://github.com/acme/calc"], local)
    assert (place.api, place.server, place.takes_token) == ("http://127.0.0.1:8000", "https://github.com", True)
    # A remote somewhere else is not shown the token of that API.
    place = locate(["https://evil.example/acme/calc"], local)
    assert (place.api, place.takes_token) == ("http://127.0.0.1:8000", False)


@pytest.mark.parametrize(
    "variables",
    [{"GITHUB_REPOSITORY": "calc"}, {"GITHUB_REPOSITORY": "a/b/c"}, {"GITHUB_API_URL": "ftp://x"}],
)
def test_variables_that_can_not_be_used(variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="GITHUB_"):
        locate(["https://github.com/acme/calc"], variables)


# who

ELSEWHERE = locate(["https://ghe.corp/acme/calc"], {})
GIVEN = {"GH_TOKEN": "gho_public", "GH_ENTERPRISE_TOKEN": "gho_enterprise", "PATH": "/nowhere"}


@pytest.mark.parametrize(
    ("place", "configured", "environ", "expected"),
    [
        (CALC, "ghp_configured\n", {}, "ghp_configured"),
        (CALC, None, {}, "gho_public"),
        (CALC, None, {"GH_TOKEN": " "}, None),
        (ELSEWHERE, "ghp_configured", {}, "gho_enterprise"),
        (ELSEWHERE, "ghp_configured", {"GH_ENTERPRISE_TOKEN": ""}, None),
        (ELSEWHERE, None, {"GH_HOST": "ghe.corp"}, "gho_enterprise"),
        (ELSEWHERE, None, {"GH_HOST": "other.corp"}, None),
        (locate([], ACTIONS), "ghs_actions", ACTIONS, "ghs_actions"),
    ],
)
def test_a_token_is_for_its_own_host(
    place: Place,
    configured: str | None,
    environ: dict[str, str],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    token = asyncio.run(find_token(place, configured, {**GIVEN, **environ}))
    assert (token.value if token else None) == expected


def test_a_token_that_no_header_can_carry_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="GITHUB_TOKEN has characters that no token has") as caught:
        asyncio.run(find_token(CALC, "ghp_sécret", {}))
    assert "cret" not in str(caught.value)


# the client


def ask(
    server: FakeGitHub, what: Callable[[GitHub], Awaitable[T]], *, token: str | None = TOKEN, longest: float = 120.0
) -> tuple[T, list[float], list[str]]:
    """Return what a client of that server gives, how long it waited in between, and what it told of that."""
    waits: list[float] = []
    told: list[str] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def main() -> T:
        place = Place("127.0.0.1", "acme", "calc", server.url, server.url)
        patience = Patience(longest_wait=longest, sleep=sleep, jitter=lambda: 1.0)
        github = GitHub.at(place, Token("GITHUB_TOKEN", token) if token else None, told.append, patience)
        try:
            return await what(github)
        finally:
            await github.close()

    return asyncio.run(main()), waits, told


async def repository(github: GitHub) -> Any:
    return (await github.get(""))["full_name"]


async def numbers(github: GitHub) -> list[int]:
    return [one.number async for one in list_issues(github)]


LIMIT = {"message": "API rate limit exceeded for user ID 1.", "documentation_url": "x"}
SECONDARY = {"message": "You have exceeded a secondary rate limit.", "documentation_url": "x"}


def reset_in(seconds: int) -> dict[str, str]:
    return {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"+{seconds}"}


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        ((429, SECONDARY, {"retry-after": "7"}), 7, 7),
        ((403, LIMIT, reset_in(30)), 20, 32),
        ((403, SECONDARY, {}), 60, 60),
        ((502, b"<html>Bad Gateway", {}), 1, 1),
    ],
)
def test_limits_are_waited_for_and_told(fault: Any, least: float, most: float) -> None:
    with github_server(FakeGitHub(faults=[fault])) as server:
        name, (wait,), told = ask(server, repository)
    assert name == "acme/calc"
    assert least <= wait <= most
    line = f"{server.url.removeprefix('http://')} answered {fault[0]}: waiting {wait:.0f} s"
    assert told == ([line] if wait >= 2 else [])


@pytest.mark.parametrize(
    ("faults", "status", "words", "hint"),
    [
        ([(403, LIMIT, reset_in(3500))], 403, "API rate limit exceeded", "the limit of requests is over in 3"),
        ([(429, SECONDARY, {"retry-after": "1"})] * 4, 429, "secondary rate limit", "is over in 1 s"),
        ([(403, {"message": "Resource not accessible"}, {})], 403, "not accessible", "the token lacks a right"),
        ([(404, {"message": "Not Found"}, {})], 404, "Not Found", "may the token see the repository"),
        ([(503, b"", {})] * 4, 503, "answered 503", "GitHub is busy or broken"),
        ([(200, b"<html>", {})], None, "not as GitHub's API describes it", "GITHUB_API_URL"),
        ([(200, b"[" * 100_000, {})], None, "not as GitHub's API describes it", "GITHUB_API_URL"),
        ([(200, b"[]", {})], None, "not as GitHub's API describes it", "GITHUB_API_URL"),
        ([(302, b"", {"location": "/repos/acme/calc"})] * 5, None, "redirects in a circle", ""),
        ([(302, b"", {"location": "http://127.0.0.1:9/x"})], None, "redirects to another server", "address"),
    ],
)
def test_a_refusal_is_an_error_with_a_hint(faults: Any, status: int | None, words: str, hint: str) -> None:
    with github_server(FakeGitHub(faults=[*faults])) as server, pytest.raises(GitHubError) as caught:
        ask(server, repository)
    assert caught.value.status == status
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")
    assert TOKEN not in f"{caught.value} {caught.value.hint}"


def test_what_changes_something_is_sent_once_but_where_twice_is_the_same() -> None:
    with github_server(FakeGitHub(issues=[issue(1, "x")], faults=[(502, b"", {})])) as server:
        with pytest.raises(GitHubError, match="answered 502"):
            ask(server, lambda github: create_label(github, Label("bug")))
        assert len(server.asked) == 1
        server.faults = [(502, b"", {})]
        ask(server, lambda github: add_labels(github, 1, ["bug"]))
        assert len(server.asked) == 3


def test_a_repository_that_was_renamed_is_followed_on_the_same_server() -> None:
    moved = (301, {"message": "Moved Permanently"}, {"location": "/repos/ACME/calc"})
    with github_server(FakeGitHub(faults=[moved])) as server:
        assert ask(server, repository)[0] == "acme/calc"
        assert [one.path for one in server.asked] == ["/repos/acme/calc", "/repos/ACME/calc"]
        assert {one.headers["authorization"] for one in server.asked} == {f"Bearer {TOKEN}"}
        assert server.asked[0].headers["x-github-api-version"] == "2022-11-28"
        assert server.asked[0].headers["accept"] == "application/vnd.github+json"


def test_a_page_that_another_server_has_is_not_asked_for() -> None:
    link = {"link": '<http://127.0.0.1:9/repos/acme/calc/issues?page=2>; rel="next"'}
    server = FakeGitHub(faults=[(200, [issue(1, "x")], link)])
    with github_server(server), pytest.raises(GitHubError, match="redirects to another server"):
        ask(server, numbers)


def test_lists_are_read_page_by_page() -> None:
    rows = [issue(number, "x") for number in range(1, 251)]
    rows[3]["pull_request"] = {"url": "x"}
    rows[5]["state"] = "closed"
    with github_server(FakeGitHub(issues=rows, faults=[(502, b"", {})])) as server:
        found, waits, _ = ask(server, numbers)
    assert found == [number for number in range(1, 251) if number not in (4, 6)]
    assert len(waits) == 1
    assert [one.query.get("page") for one in server.asked] == [None, None, "2", "3"]
    assert server.asked[0].query["per_page"] == "100"


def test_a_break_is_tried_again_and_then_told() -> None:
    place = Place("127.0.0.1", "acme", "calc", "http://127.0.0.1:9", "http://127.0.0.1:9")

    async def main() -> None:
        async def sleep(_: float) -> None:
            waits.append(1)

        github = GitHub.at(place, None, patience=Patience(sleep=sleep))
        try:
            await github.get("")
        finally:
            await github.close()

    waits: list[int] = []
    with pytest.raises(GitHubError, match=r"127\.0\.0\.1:9 can't be reached") as caught:
        asyncio.run(main())
    assert (len(waits), caught.value.status) == (3, None)
    assert "is there a network" in (caught.value.hint or "")


def test_pull_requests_labels_and_reviews() -> None:
    said = {"title": "Mine", "body": "b", "head": "fix", "base": "main"}
    server = FakeGitHub(
        pulls=[pull(3, said, {"fix": "1" * 40})],
        files=[{"filename": "b", "status": "renamed", "previous_filename": "a"}, {"filename": "c", "patch": "@@"}],
        labels=[{"name": "bug", "color": "d73a4a", "description": None}],
        issues=[issue(1, "x")],
    )

    async def look(github: GitHub) -> list[Any]:
        await add_labels(github, 1, ["bug"])
        review = [LineComment("calc.py", 4, "wrong", first=2), LineComment("calc.py", 9, "why")]
        return [
            await get_pull(github, 3),
            [file async for file in list_pull_files(github, 3)],
            await get_pull_diff(github, 3),
            [label.name async for label in list_labels(github)],
            await create_review(github, 3, commit="1" * 40, body="two", comments=review),
            [one["id"] async for one in list_reviews(github, 3)],
        ]

    with github_server(server):
        one, files, diff, labels, review, reviews = ask(server, look)[0]
    assert (one.head, one.head_commit, one.base, one.author, one.draft) == ("fix", "1" * 40, "main", "grace", False)
    assert [(file.path, file.previous_path, file.patch) for file in files] == [("b", "a", ""), ("c", "", "@@")]
    assert (diff[:10], labels, review, reviews) == (b"diff --git", ["bug"], 1, [1])
    first, second = server.reviews[0]["comments"]
    assert (first["start_line"], first["line"], first["side"], "start_line" in second) == (2, 4, "RIGHT", False)
    assert [label["name"] for label in server.issues[0]["labels"]] == ["bug", "bug"]


# issues


@pytest.mark.parametrize(
    "text", ["12", " #12 ", "https://github.com/ACME/calc/issues/12", "http://www.github.com/acme/calc/issues/12/?x#y"]
)
def test_an_issue_is_named_by_number_or_address(text: str) -> None:
    assert issue_number(text, CALC) == 12


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "٣", "acme/calc#12", "https://[x", "https://github.com/a/b/issues/1"]
)
def test_what_names_no_issue_of_this_repository(text: str) -> None:
    with pytest.raises(UsageError):
        issue_number(text, CALC)


def read(server: FakeGitHub, number: int = 1) -> CodegenRequest:
    with github_server(server):
        return ask(server, lambda github: with_issue(CodegenRequest(""), github, str(number)))[0]


def test_long_issues_are_bounded_and_the_latest_comments_stay() -> None:
    comments = [comment(number, "ada", f"{number} " + "x" * 995) for number in range(1, 251)]
    server = FakeGitHub(issues=[issue(1, "t" * 500, "y" * 100_000)], comments={1: comments})
    request = read(server)
    assert len(request.task) < BODY_LIMIT + COMMENTS_LIMIT + 3_000
    assert f"[cut: {100_000 - BODY_LIMIT:,} characters more]" in request.task
    assert "(238 older comments are left out)" in request.task
    assert "250 xxx" in request.task
    assert "\n238 xxx" not in request.task
    assert request.issue
    assert len(request.issue.title) == 200


def test_an_issue_s_accounts_and_texts_may_be_missing() -> None:
    request = read(FakeGitHub(issues=[issue(1, "Crash", None, user=None, labels=["old"])]))
    assert "by ghost (none), 2026-03-01\n\nLabels: old\n\n(no text)" in request.task


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (issue(1, "x", pull_request={"url": "x"}), "is a pull request, and no issue"),
        (issue(1, "<!-- -->\u200b"), "has no title"),
    ],
)
def test_an_issue_that_can_not_be_a_task(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(FakeGitHub(issues=[data]))


def test_an_issue_that_has_moved_to_another_repository() -> None:
    moved = (200, issue(7, "x"), {})
    with pytest.raises(UsageError, match="has moved to https://github"):
        read(FakeGitHub(faults=[moved]))


@given(some.text(some.sampled_from("<!->x\n\u202e\U000e0041"), max_size=80))
def test_what_nobody_sees_is_left_out(text: str) -> None:
    shown = visible(f"a {text} --> b")
    assert shown.startswith("a")
    assert "\u202e" not in shown
    assert "\U000e0041" not in shown
    assert visible(f"<!--{'x' * 9} {text.replace('-->', '')}-->z").endswith("z")


# Markdown


@given(some.text(some.sampled_from("`@#1a| \n~"), min_size=1, max_size=60))
def test_code_can_not_be_left(text: str) -> None:
    block = code_block(text)
    if block:
        fence = block.split("text\n", 1)[0]
        assert block.endswith(f"\n{fence}")
        assert fence not in block[len(fence) : -len(fence)]
    line = inline_code(text)
    if line:
        fence = line[: len(line) - len(line.lstrip("`"))]
        assert "\n" not in line
        assert "|" not in line.replace("\\|", "")
        assert fence not in line[len(fence) : -len(fence)].replace(fence + "`", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fixes #1", "fixes issue #1"),
        ("Closes: acme/calc#2 and RESOLVED GH-3", "Closes: issue acme/calc#2 and RESOLVED issue GH-3"),
        ("fix https://github.com/acme/calc/issues/1", "fix issue https://github.com/acme/calc/issues/1"),
        ("the fix is in #3; prefix #4, a fixed point", "the fix is in #3; prefix #4, a fixed point"),
        ("@ada and (@team/x), not ada@example.org", "@ ada and (@ team/x), not ada@example.org"),
    ],
)
def test_words_that_github_acts_on(text: str, expected: str) -> None:
    assert unlinked(text) == expected
