"""The README is true: its commands run, its tables are the code's."""

from __future__ import annotations

import re
import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from miyabi_cli.exits import ExitCode
from tests.conftest import ROOT, Miyabi
from tests.support import ollama
from tests.support.groq import KEY, groq_server
from tests.support.ollama import ollama_server
from tests.support.server import call, chat_server, say
from tests.support.vllm import called, final, vllm_server
from tests.test_codegen import FIX

LABELLED = "repo,label,title,body\n" + "".join(
    f"{repository},{label},{title},It does.\n"
    for repository in ("a/a", "b/b")
    for label, title in (("bug", "It crashes"), ("feature", "Please add it"), ("question", "How do I use it?"))
)
README = (ROOT / "README.md").read_text()


def commands(section: str) -> list[str]:
    """Return the lines of the first code block of a section."""
    text = README.split(f"\n## {section}\n", 1)[1]
    return re.search(r"```\n(.*?)```", text, re.DOTALL)[1].strip().splitlines()  # type: ignore[index]


def server_of(command: str) -> AbstractContextManager[Any]:
    """Return the player of the server that a command names; of chat completions, where it names none that is played."""
    provider = re.search(r"(?:--provider|-p) (\w+)", command)
    patch = {"patch": FIX}
    match provider and provider[1]:
        case "vllm":
            return vllm_server(called("repo_browser.apply_patch", patch), final("Adds."))
        case "ollama":
            return ollama_server(ollama.call("apply_patch", patch), ollama.say("Adds."))
        case "groq":
            return groq_server(call("apply_patch", patch), say("Adds."))
    return chat_server(call("apply_patch", patch), say("Adds."))


def pointed_at(command: str, server: Any) -> list[str]:
    """Return the arguments of a command of the README, with the player in place of the server that it names."""
    words = shlex.split(command.split("<")[0])
    assert words[0] == "miyabi"
    named = {"vllm", "ollama", "groq"} & {*words}
    if words[1] in ("review", "triage") or words[1:3] == ["bench", "triage"]:
        return words[1:]  # no model is asked
    for flag in ("--endpoint",) if named else ("--provider", "--endpoint", "--model"):
        if flag in words:
            at = words.index(flag)
            del words[at : at + 2]
    if words[1] == "codegen" or named:
        words += ["--endpoint", server.url]
    if words[1] == "codegen" and not named:
        words += ["--model", "gpt-oss-20b"]
    return words[1:]


@pytest.mark.parametrize("command", commands("Use"))
def test_a_command_of_the_readme_runs(command: str, repository: Path, miyabi: Miyabi) -> None:
    (repository / "tests").mkdir()
    with server_of(command) as server:
        (repository / "backlog.jsonl").write_text('{"task": "Fix add()."}\n')
        (repository / "issues.jsonl").write_text('{"number": 7, "title": "Crash at start", "body": "TypeError"}\n')
        (repository / "labelled.csv").write_text(LABELLED)
        if "--from" in command:
            with chat_server(call("exec", {"cmd": "echo x >notes.txt"}), say("Noted.")) as earlier:
                miyabi("codegen", "x", "--endpoint", earlier.url, "--model", "m", cwd=repository)
        if " runs " in command:
            miyabi("codegen", "x", "--endpoint", server.url, "--model", "m", cwd=repository)
            server.requests.clear()
        if "model pull" in command:
            server.pulls = [ollama.lines({"status": "success"})]
        stdin = "Fix add().\n" if "<" in command else None
        env = {"GROQ_API_KEY": KEY}
        ran = miyabi(*pointed_at(command, server), cwd=repository, stdin=stdin, env=env)
    # `ruff check` has nothing to say of the fixed repository, and pytest passes on it.
    assert ran.code == 0, ran.stderr


def test_the_exit_codes_are_those_of_the_code() -> None:
    table = README.split("| exit | meaning |")[1].split("\n\n")[0]
    named = {int(number) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for number in row.split(",")}
    assert named == {int(code) for code in ExitCode}


def test_each_dependency_is_justified() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    table = README.split("\n## Dependencies\n", 1)[1]
    for line in wanted:
        assert f"| {re.split('[>=<;[ ]', line)[0]} " in table, line


def test_the_make_targets_that_it_names_are_there_and_ci_runs_them() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^`?make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    ci = (ROOT / ".ci/run").read_text()
    assert "make test" in ci
    assert "make check" in ci


def test_links_lead_somewhere() -> None:
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} points to {target}"


def test_the_contract_s_sample_of_settings_is_documented() -> None:
    reference = (ROOT / "docs/settings.md").read_text()
    sample = yaml.safe_load("{llm: [provider, fallback, local_only], budget: [monthly_usd], limits: [steps, seconds]}")
    for section, keys in sample.items():
        for key in keys:
            assert f"{section}.{key}" in reference or f"`{key}`" in reference
