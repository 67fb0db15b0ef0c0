"""`bench triage`: each repository by what it has not seen; the figures; and the workflow that `init` writes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from miyabi_cli.bench.triage_measures import Guess, calibration_error, summarise
from miyabi_cli.triage.learning import fit, labelled
from tests.conftest import PYTHON, ROOT, Miyabi
from tests.support.github import TOKEN, FakeGitHub, github_server, issue
from tests.support.schemas import validate
from tests.support.server import chat_server, say, send_error

WORDS = {"bug": "crash error broken fails", "feature": "please add support option", "question": "how do I use this"}
LABELLED = [
    {"repo": f"acme/{repo}", "label": label, "title": f"{words} {repo}", "body": f"{words} number {n} of {repo}"}
    for repo in ("a", "b", "c")
    for n in range(6)
    for label, words in WORDS.items()
]


def test_rules_are_measured_on_repositories_that_they_have_not_seen(miyabi: Miyabi, tmp_path: Path) -> None:
    data, output = tmp_path / "data.jsonl", tmp_path / "bench.json"
    data.write_text("".join(json.dumps(one) + "\n" for one in LABELLED))
    ran = miyabi("bench", "triage", "--data", str(data), "--no-llm", "--output", str(output))
    assert ran.code == 0, ran.stderr
    document = json.loads(output.read_text())
    validate(document, "bench")
    assert len(document["results"]) == len(LABELLED)
    summary = document["summary"]
    assert summary["macro_f1"] > 0.9
    assert sum(sum(row.values()) for row in summary["confusion"].values()) == len(LABELLED)
    with chat_server(say('{"type": "bug"}')) as server:
        model = ("--endpoint", server.url, "--model", "m", "--limit", "6", "--examples", "--format", "json")
        ran = miyabi("bench", "triage", "--data", str(data), *model)
        asked = [request.json["messages"][1]["content"] for request in server.requests]
    assert ran.code == 0, ran.stderr
    summary = json.loads(ran.stdout)["summary"]
    assert (summary["by_model"], summary["tokens_per_issue"]) == (6, 120)
    assert all("=> type: " in text for text in asked)
    data.write_text(json.dumps(LABELLED[0]))
    ran = miyabi("bench", "triage", "--data", str(data), "--no-llm")
    assert (ran.code, "fewer than 2 repositories" in ran.stderr) == (2, True)


def test_weights_leave_out_what_one_repository_alone_says() -> None:
    issues = [labelled(one["repo"], one["label"], one["title"], one["body"]) for one in LABELLED]
    fitted = fit(issues)
    assert "b:crash" in fitted.weights
    assert not {"b:a", "b:b", "t:c"} & set(fitted.weights)
    assert fit(issues) == fitted


def test_the_figures_are_those_of_the_books() -> None:
    said = [("bug", "bug", 0.9), ("bug", "feature", 0.9), ("feature", "feature", 0.5), ("feature", "feature", 0.3)]
    guesses = [Guess(str(n), "a/b", truth, guess, sure) for n, (truth, guess, sure) in enumerate(said)]
    summary = summarise(guesses, ["bug", "feature"])
    assert summary["classes"]["bug"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "issues": 2}
    assert summary["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert calibration_error(guesses) == pytest.approx((abs(1 - 1.8) + 0.5 + 0.7) / 4)
    at = {point["threshold"]: (point["coverage"], point["accuracy"]) for point in summary["abstention"]}
    assert (at[0.0], at[0.6]) == ((1.0, 0.75), (0.5, 0.5))
    assert summarise([], ["bug"])["macro_f1"] is None


def test_the_workflow_lets_no_text_of_an_issue_near_a_shell(
    miyabi: Miyabi, environment: dict[str, str], repository: Path, git: Callable[..., str], tmp_path: Path
) -> None:
    written = miyabi("init", "--github-action", "--format", "json", cwd=repository)
    validate(json.loads(written.stdout), "init")
    git("add", "-A", cwd=repository)
    git("commit", "-qm", "workflows", cwd=repository)
    path = Path(json.loads(written.stdout)["triage_action"])
    assert path == repository / ".github/workflows/miyabi-triage.yml"
    workflow = yaml.safe_load(path.read_text())
    assert workflow[True]["issues"] == {"types": ["opened"]}  # YAML 1.1 reads `on` so
    assert (workflow["permissions"], workflow["jobs"]["triage"]["permissions"]) == (
        {},
        {"contents": "read", "issues": "write"},
    )
    steps = workflow["jobs"]["triage"]["steps"]
    assert not [step for step in steps if "${{" in step.get("run", "")]
    command = steps[-1]["run"]
    program = tmp_path / "bin/miyabi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {PYTHON} -m miyabi_cli "$@"\n')
    program.chmod(0o755)
    evil = issue(7, "App crashes `touch pwned` $(touch pwned)", "'; touch pwned; '\nTraceback (most recent", labels=[])
    labels = [{"name": name} for name in ("bug", "needs triage")]
    with github_server(FakeGitHub(issues=[evil], labels=labels)) as hub:
        environ = {"GITHUB_REPOSITORY": "acme/calc", "GITHUB_API_URL": hub.url, "GITHUB_TOKEN": TOKEN, "ISSUE": "7"}
        environ["PATH"] = f"{program.parent}:{environment['PATH']}"
        ran = subprocess.run(
            ["bash", "-ec", command],
            cwd=repository,
            env={**environment, **environ, "PYTHONPATH": str(ROOT), "GITHUB_ACTIONS": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    assert [one["name"] for one in hub.issues[0]["labels"]] == ["bug"]
    assert git("status", "--porcelain", cwd=repository) == ""


def test_what_the_model_failed_on_is_in_no_figure_and_decides_the_exit_code(miyabi: Miyabi, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in LABELLED))
    command = ("bench", "triage", "--data", str(data), "--limit", "4", "--model", "m", "--format", "json")
    with chat_server(say('{"type": "bug"}'), send_error(401, b"\x1b[31mno"), say('{"type": "bug"}')) as server:
        ran = miyabi(*command, "--endpoint", server.url)
    assert ran.code == 3
    assert "error: 1 trial of which nothing can be told: " in ran.stderr
    assert "\x1b" not in ran.stderr
    document = json.loads(ran.stdout)
    validate(document, "bench")
    told, summary = [row["passed"] for row in document["results"]], document["summary"]
    assert (told.count(None), summary["trials"], summary["complete"]) == (1, 4, False)
    assert sum(sum(row.values()) for row in summary["confusion"].values()) == 3
    with chat_server(say('{"type": "bug"}')) as server:
        capped = miyabi(*command, "--endpoint", server.url, "--max-cost", "0")
    assert (capped.code, "4 trials of which nothing can be told: " in capped.stderr) == (5, True)
    assert json.loads(capped.stdout)["summary"]["pass_rate"] is None
