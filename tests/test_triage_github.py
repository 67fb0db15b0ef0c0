"""`triage` against GitHub's API: rows, labels that are added and never taken, duplicates, and the scheme installed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from miyabi_cli.errors import GitHubError
from miyabi_cli.github.client import GitHub, Patience
from miyabi_cli.github.places import Place
from miyabi_cli.triage.collecting import named_issues
from miyabi_cli.triage.issue import TriageIssue, Unreadable
from miyabi_cli.triage.labels import scheme_labels
from tests.conftest import Miyabi, Ran
from tests.support.github import TOKEN, FakeGitHub, github_server, issue
from tests.support.schemas import validate

Triage = Callable[..., Ran]
CRASH = (
    "Steps to reproduce: run the app, version 1.2.3.\nExpected behavior: it starts. Actual behavior: an error.\n"
    "```\nTraceback (most recent call last):\nValueError: segmentation fault\n```\n"
)


@pytest.fixture
def hub() -> Iterator[FakeGitHub]:
    names = ("bug", "enhancement", "question", "P1", "Sev.2", "needs triage", "trigger:agent-execute", "human")
    labels = [{"name": name, "color": "ffffff", "description": ""} for name in names]
    with github_server(FakeGitHub(labels=labels, page=2)) as served:
        yield served


@pytest.fixture
def on_hub(hub: FakeGitHub, repository: Path, git: Callable[..., str], miyabi: Miyabi) -> Triage:
    git("remote", "add", "origin", "https://github.com/acme/calc.git", cwd=repository)
    environ = {"GITHUB_API_URL": hub.url, "GITHUB_TOKEN": TOKEN}
    return lambda *arguments: miyabi(*arguments, cwd=repository, env=environ)


def labels_of(hub: FakeGitHub, number: int) -> list[str]:
    return [label["name"] for one in hub.issues if one["number"] == number for label in one["labels"]]


def test_open_issues_have_rows_and_labels_are_only_added(hub: FakeGitHub, on_hub: Triage) -> None:
    hub.issues = [
        issue(
            5, "The app crashes with a segfault on start", CRASH, labels=[{"name": "human"}, {"name": "enhancement"}]
        ),
        issue(4, "App crashes with a segmentation fault", CRASH, labels=[]),
        issue(3, "x", "", pull_request={"url": "u"}),
        issue(2, "How do I install it on Windows?", "Is there any way to do so? I have a question.", labels=[]),
        issue(1, "closed", "", state="closed", labels=[]),
    ]
    ran = on_hub("triage", "--all-open", "--no-llm", "--format", "jsonl")
    assert ran.code == 0, ran.stderr
    rows = {row["number"]: row for row in map(json.loads, ran.stdout.splitlines())}
    for row in rows.values():
        validate(row, "triage")
    assert set(rows) == {5, 4, 2}
    assert rows[4]["labels"] == ["bug", "Sev.2", "P1"]
    assert [one["number"] for one in rows[5]["duplicates"]] == [4]
    assert {one.method for one in hub.asked} == {"GET"}  # nothing is written without --apply

    ran = on_hub("triage", "5", "#4", "2", "9", "--no-llm", "--apply")
    assert ran.code == 2  # there is no issue 9; the others have their rows
    assert "there is no issue acme/calc#9" in ran.stderr
    assert labels_of(hub, 4) == ["bug", "Sev.2", "P1"]
    assert labels_of(hub, 2) == ["question"]
    assert labels_of(hub, 5)[:2] == ["human", "enhancement"]  # what people have put there stays
    assert "bug" not in labels_of(hub, 5)  # and stands
    assert "#4: +bug, +Sev.2, +P1" in ran.stderr
    assert {one.method for one in hub.asked} == {"GET", "POST"}


def test_labels_that_the_repository_lacks_are_not_put_on(hub: FakeGitHub, on_hub: Triage, tmp_path: Path) -> None:
    hub.issues = [issue(4, "App crashes with a segmentation fault", CRASH, labels=[])]
    scheme = tmp_path / "labels.json"
    scheme.write_text(json.dumps(["🐛 Bug", {"name": "severity: critical"}, "s2", "urgent"]))
    ran = on_hub("triage", "4", "--no-llm", "--apply", "--labels", str(scheme), "--format", "json")
    assert ran.code == 0, ran.stderr
    assert json.loads(ran.stdout)[0]["labels"] == ["🐛 Bug", "s2"]
    assert labels_of(hub, 4) == ["bug"]  # the repository's own, which has the same text
    assert "s2: not a label of the repository" in ran.stderr
    refused = {"message": "Resource not accessible"}
    hub.faults = [(200, hub.issues[0], {}), (200, hub.labels, {}), (200, [], {}), (403, refused, {})]
    ran = on_hub("triage", "4", "--no-llm", "--apply", "--format", "jsonl")
    assert ran.code == 4
    assert "Resource not accessible" in ran.stderr


def test_what_names_no_issue_is_refused_before_anything_else_is_read(hub: FakeGitHub, on_hub: Triage) -> None:
    hub.issues = [issue(2, "It crashes", CRASH, labels=[]), issue(3, "x", "", pull_request={"url": "u"})]
    for number, told, most in (("abc", "by its number", 0), ("0", "from 1", 0), ("99", "there is no issue", 2)):
        hub.asked.clear()
        ran = on_hub("triage", "2", number, "--no-llm") if most == 0 else on_hub("triage", number, "--no-llm")
        assert (ran.code, ran.stdout, len(hub.asked)) == (2, "", most)
        assert told in ran.stderr
    hub.faults = [(401, {"message": "Bad credentials"}, {})]  # which is everybody's
    ran = on_hub("triage", "1", "2", "--no-llm", "--format", "json")
    assert (ran.code, json.loads(ran.stdout)["error"]["kind"]) == (4, "github")


def test_an_issue_that_github_fails_to_give_stops_no_other(hub: FakeGitHub) -> None:
    async def instantly(_: float) -> None:
        return

    async def found(*numbers: int) -> list[TriageIssue | Unreadable]:
        place = Place("github.com", "acme", "calc", hub.url, "https://github.com")
        github = GitHub.at(place, None, patience=Patience(sleep=instantly))
        try:
            return [entry async for entry in named_issues(github, numbers)]
        finally:
            await github.close()

    hub.issues = [issue(2, "It crashes", CRASH, labels=[]), issue(3, "x", "", pull_request={"url": "u"})]
    busy = (500, {"message": "oops"}, {})
    hub.faults = [busy] * 4
    failed, crash, pull = asyncio.run(found(1, 2, 3, 2))
    assert isinstance(failed, Unreadable)
    assert (failed.place, failed.failure is not None) == ("#1", True)
    assert isinstance(crash, TriageIssue)
    assert pull == Unreadable("#3", "acme/calc#3 is a pull request, and no issue")
    hub.faults = [busy] * 40
    with pytest.raises(GitHubError, match="oops"):
        asyncio.run(found(1, 2, 3, 4, 5))
    assert len(hub.faults) == 40 - 3 * 4


def test_rows_that_are_there_have_their_labels_put_on(hub: FakeGitHub, on_hub: Triage, tmp_path: Path) -> None:
    """`--apply` is a step of its own: what has been looked at is not triaged once more."""
    hub.issues = [issue(n, "App crashes with a segmentation fault", CRASH, labels=[]) for n in (4, 5)]
    rows = tmp_path / "rows.jsonl"
    assert on_hub("triage", "4", "5", "--no-llm", "--format", "jsonl", "-o", str(rows)).code == 0
    edited = rows.read_text().replace('["bug",', '["bug","trigger:agent-execute",', 1)
    rows.write_text(edited)
    hub.asked.clear()
    issues = (200, hub.issues[0], {})
    hub.faults = [issues, (200, hub.labels, {}), issues, (502, {"message": "bad gateway"}, {})]
    ran = on_hub("triage", "4", "5", "--no-llm", "--format", "jsonl", "-o", str(rows), "--apply")
    assert (ran.code, rows.read_text()) == (0, edited)
    assert labels_of(hub, 4) == labels_of(hub, 5) == ["bug", "Sev.2", "P1"]
    assert "#4: +bug, +Sev.2, +P1; trigger:agent-execute: not a label of the repository" in ran.stderr
    assert len(hub.paths("POST")) == 3  # the first of which met a fault, and was sent again
    assert not [one for one in hub.asked if "state" in one.query]  # nothing is looked for that they may be like


def test_the_scheme_is_installed_and_nothing_is_deleted(hub: FakeGitHub, on_hub: Triage) -> None:
    told = on_hub("init", "--labels", "--dry-run").stdout.splitlines()
    assert (told[0][:16], told[-1]) == ("would be created", "nothing is written: 55 created, 2 updated, 0 as they were")
    assert {one.method for one in hub.asked} == {"GET"}
    for expected in ((55, 2, 0), (0, 0, 57)):
        ran = on_hub("init", "--labels", "--format", "json")
        assert ran.code == 0, ran.stderr
        done = json.loads(ran.stdout)
        validate(done, "init")
        assert tuple(len(names) for names in done["labels"].values()) == expected
    names = [one["name"] for one in hub.labels]
    assert names[:8] == [
        "bug",
        "enhancement",
        "question",
        "P1",
        "Sev.2",
        "needs triage",
        "trigger:agent-execute",
        "human",
    ]
    assert len(names) == 8 + 55
    colors = {one["name"]: one["color"] for one in hub.labels}
    assert colors["question"] == next(label.color for label in scheme_labels() if label.name == "❓ question")
    assert {one.method for one in hub.asked} == {"GET", "POST", "PATCH"}
