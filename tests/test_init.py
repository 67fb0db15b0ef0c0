"""`miyabi init`: the first settings file of a repository, by the real CLI, with real servers to find."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.init.finding import Found, FoundServer
from miyabi_cli.init.settings_file import settings_text, written_checks
from miyabi_cli.settings.files import parse_settings, substitute
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.check_records import Check
from tests.conftest import Miyabi
from tests.support.ollama import Model, ollama_server
from tests.support.server import chat_server
from tests.support.vllm import vllm_server

Git = Callable[..., str]
NOWHERE = {"VLLM_ENDPOINT": "http://127.0.0.1:9", "OLLAMA_HOST": "http://127.0.0.1:9"}  # where nobody answers


def written(root: Path) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((root / ".miyabi.yml").read_text())
    return data


def test_the_checks_that_are_found_are_written_and_trusted(repository: Path, miyabi: Miyabi) -> None:
    ran = miyabi("init", cwd=repository, env=NOWHERE)
    assert ran.code == 0
    assert ran.stdout.splitlines() == [
        f"wrote {repository}/.miyabi.yml",
        "  language python",
        "  check pytest: python3 -m pytest -q",
        "  provider auto: none yet",
        "  trusted as it is now, on this machine; once you have changed it: miyabi trust",
    ]
    assert ran.stderr == "hint: start vLLM or Ollama, set GROQ_API_KEY, or run: miyabi model pull\n"
    assert written(repository) == {
        "llm": {"provider": "auto"},
        "checks": [{"name": "pytest", "command": "python3 -m pytest -q", "timeout": 600}],
    }
    assert stat.S_IMODE((repository / ".miyabi.yml").stat().st_mode) == 0o644
    assert "trusted\n" in miyabi("trust", "--show", cwd=repository).stdout
    with chat_server() as server:  # and it is read without a question
        ran = miyabi("codegen", "x", "--endpoint", server.url, "-m", "gpt-oss", "--dry-run", cwd=repository)
    assert (ran.code, ran.stderr.count("trust")) == (0, 0)
    assert "check    pytest" in ran.stdout


def test_the_comments_are_settings_once_their_marks_are_taken_away(repository: Path, miyabi: Miyabi) -> None:
    miyabi("init", cwd=repository, env=NOWHERE)
    lines = (repository / ".miyabi.yml").read_text().splitlines()
    inner = [
        line.replace("# ", "", 1) for line in lines if line.startswith("  # ") and ": " in line and "No" not in line
    ]
    outer = [line.removeprefix("# ") for line in lines if line.startswith("# ") and "{" in line]
    text = "\n".join(["llm:", *(line for line in inner if "pull" not in line), *outer])
    tree = parse_settings(text.encode(), "text")
    settings = Settings.model_validate(tree.values)
    assert (settings.llm.fallback, settings.llm.local_only) == (("embedded",), True)
    assert settings.limits == Settings().limits
    assert settings.budget == Settings().budget
    assert settings.worktree == Settings().worktree


@pytest.mark.parametrize("kind", ["vllm", "ollama", "groq"])
def test_a_server_that_answers_is_named_with_its_model(kind: str, repository: Path, miyabi: Miyabi) -> None:
    key = "gsk-0123456789-abcdefghij"
    with vllm_server() as vllm, ollama_server(models=[Model("tiny:1b"), Model("gpt-oss:120b")]) as ollama:
        given: Mapping[str, Mapping[str, str]] = {
            "vllm": {"VLLM_ENDPOINT": vllm.url},
            "ollama": {"OLLAMA_HOST": ollama.url},
            "groq": {"GROQ_API_KEY": key},
        }
        ran = miyabi("init", "--format", "json", cwd=repository, env={**NOWHERE, **given[kind]})
    data = json.loads(ran.stdout)
    models = {"vllm": "openai/gpt-oss-20b", "ollama": "gpt-oss:120b", "groq": "openai/gpt-oss-20b"}
    assert (data["provider"]["name"], data["provider"]["model"]) == (kind, models[kind])
    llm = written(repository)["llm"]
    assert llm["provider"] == kind
    secret = {"api_key": "${GROQ_API_KEY}"} if kind == "groq" else {}
    assert llm[kind] == {**secret, "model": models[kind]}
    assert key not in (repository / ".miyabi.yml").read_text() + ran.stdout + ran.stderr
    assert data["trusted"] is True


def test_a_file_that_is_there_stays_unless_forced(repository: Path, miyabi: Miyabi) -> None:
    mine = repository / ".miyabi.yml"
    mine.write_text("limits: {steps: 7}\n")
    ran = miyabi("init", cwd=repository, env=NOWHERE)
    assert (ran.code, ran.stdout) == (2, "")
    assert ran.stderr == "error: .miyabi.yml is there already\nhint: --force overwrites it\n"
    assert mine.read_text() == "limits: {steps: 7}\n"
    assert miyabi("init", "--force", cwd=repository, env=NOWHERE).code == 0
    assert "limits" not in written(repository)


def test_a_link_is_replaced_and_not_followed(repository: Path, miyabi: Miyabi, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (repository / ".miyabi.yml").symlink_to(tmp_path / "other")
    assert miyabi("init", cwd=repository, env=NOWHERE).code == 2
    assert miyabi("init", "--force", cwd=repository, env=NOWHERE).code == 0
    assert (tmp_path / "other").read_text() == "mine"
    assert not (repository / ".miyabi.yml").is_symlink()


def test_it_needs_no_commit_and_writes_to_the_top(miyabi: Miyabi, git: Git, tmp_path: Path) -> None:
    root = tmp_path / "new"
    (root / "src/deep").mkdir(parents=True)
    git("init", "-q", cwd=root)
    ran = miyabi("init", cwd=root / "src/deep", env=NOWHERE)
    assert ran.code == 0
    assert written(root) == {"llm": {"provider": "auto"}}
    assert "trusted" not in ran.stdout
    other = tmp_path / "elsewhere"
    other.mkdir()
    for arguments, words in (((), "not in a git repository"), (("-C", "none"), "none is not a folder")):
        ran = miyabi("init", *arguments, cwd=other)
        assert ran.code == 4
        assert words in ran.stderr


def test_a_folder_that_can_not_be_written_is_the_machine_s_error(repository: Path, miyabi: Miyabi) -> None:
    (repository / ".miyabi.yml").mkdir()
    ran = miyabi("init", "--force", cwd=repository, env=NOWHERE)
    assert (ran.code, ran.stdout) == (4, "")
    assert "can't write" in ran.stderr


def test_a_workflow_is_written_beside_the_settings(repository: Path, miyabi: Miyabi) -> None:
    workflow = repository / ".github/workflows/miyabi.yml"
    ran = miyabi("init", "--github-action", cwd=repository, env=NOWHERE)
    assert ran.code == 0
    assert ran.stdout.splitlines()[-1] == f"wrote {workflow}: its first lines say what it needs"
    assert written(repository)["checks"]
    data = yaml.load(workflow.read_text(), yaml.BaseLoader)  # noqa: S506 - in which `on` is text
    assert data["on"]["issues"] == {"types": ["labeled"]}
    assert data["permissions"] == {"contents": "write", "issues": "read", "pull-requests": "write"}
    *_, last = data["jobs"]["codegen"]["steps"]
    words = shlex.split(last["run"].replace('"$ISSUE"', "12"), comments=True)
    assert (words[0], words[-2:]) == ("miyabi", ["--max-cost", "1"])
    with chat_server() as server:  # it is a command line that there is
        ran = miyabi(*words[1:], "--endpoint", server.url, "-m", "x", cwd=repository)
    assert "No such option" not in ran.stderr
    assert "${{" not in "".join(step.get("run", "") for step in data["jobs"]["codegen"]["steps"])


def test_a_workflow_is_added_to_settings_that_stay(repository: Path, miyabi: Miyabi) -> None:
    (repository / ".miyabi.yml").write_text("limits: {steps: 7}\n")
    ran = miyabi("init", "--github-action", "--format", "json", cwd=repository, env=NOWHERE)
    assert (ran.code, list(json.loads(ran.stdout))) == (0, ["github_action", "review_action", "triage_action"])
    assert (repository / ".miyabi.yml").read_text() == "limits: {steps: 7}\n"
    again = miyabi("init", "--github-action", cwd=repository, env=NOWHERE)
    assert (again.code, again.stderr.splitlines()[0]) == (2, "error: miyabi.yml is there already")


def test_a_workflow_stays_in_the_repository(repository: Path, miyabi: Miyabi, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (repository / ".github").symlink_to(tmp_path / "outside")
    ran = miyabi("init", "--github-action", cwd=repository, env=NOWHERE)
    assert (ran.code, ran.stdout) == (4, "")
    assert "leads out of the repository" in ran.stderr
    assert not list((tmp_path / "outside").iterdir())
    assert not (repository / ".miyabi.yml").exists()


def found(*checks: Check, notes: tuple[str, ...] = (), server: FoundServer | None = None) -> Found:
    return Found(("python",), checks, notes, server)


def test_checks_that_hold_on_this_machine_alone_are_comments(tmp_path: Path) -> None:
    checks = (Check("pytest", f"{tmp_path}/.venv/bin/python -m pytest"), Check("ruff", "ruff check"))
    text = settings_text(found(*checks), tmp_path)
    assert written_checks(found(*checks), tmp_path) == ()
    assert "checks" not in yaml.safe_load(text)
    assert '#   - {name: "ruff", command: "ruff check", timeout: 600}' in text


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_whatever_is_found_is_read_back_and_nothing_more(name: str, command: str, note: str) -> None:
    server = FoundServer("ollama", "gpt-oss:20b", note)
    what = found(Check(name, command), notes=(note,), server=server)
    text = settings_text(what, Path("/nowhere/at/all"))
    values = substitute(parse_settings(text.encode("utf-8"), "file"), {}).values
    checks = [
        {"name": check.name, "command": check.command, "timeout": 600} for check in written_checks(what, Path("/n/a"))
    ]
    assert values == {
        "llm": {"provider": "ollama", "ollama": {"model": "gpt-oss:20b"}},
        **({"checks": checks} if checks else {}),
    }
    assert bool(checks) == (name + command).isprintable() or str(Path.home()) in name + command
