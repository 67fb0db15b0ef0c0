"""The deployment guide is true: its commands and settings are miyabi's, and its sums hold."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from miyabi_cli.app import command_line
from miyabi_cli.ledger.records import NANO
from miyabi_cli.llm.prices import find_price
from miyabi_cli.settings.schema import Price, known_keys
from miyabi_cli.settings.sources import load_settings
from miyabi_cli.settings.variables import NOT_SETTINGS
from tests.conftest import ROOT

GUIDE = ROOT / "docs/deployment.md"
TEXT = GUIDE.read_text()
DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.rglob("*.yml"))
GROQ = "https://api.groq.com/openai/v1"
RUNS_A_MONTH = 500
PLANS_RUN = (2_000, 0, 1_000)  # tokens of input, of them cached, of output
HOURS_A_MONTH = 730
KEYS = {"VLLM_API_KEY": "key-of-vllm", "LLAMA_API_KEY": "key-of-llama"}


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of the guide in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def joined(text: str) -> list[str]:
    """Return the lines of a script, with those that end in a backslash put together."""
    return text.replace("\\\n", " ").splitlines()


def scripts() -> Iterator[str]:
    """Yield each script of the files for CI."""
    workflow = yaml.safe_load((DEPLOY / "ci/github-actions.yml").read_text())
    yield from (step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step)
    pipeline = yaml.safe_load((DEPLOY / "ci/gitlab-ci.yml").read_text())
    yield from (line for job in pipeline.values() for line in job.get("script", []))


def commands() -> list[str]:
    """Return each command line of miyabi that the guide and the files for CI name."""
    in_scripts = [line for text in (*blocks("sh"), *scripts()) for line in joined(text)]
    in_prose = re.findall(r"`(miyabi [^`]+)`", TEXT)
    found = (re.search(r"(?:^|\| )(miyabi .+)", line) for line in (*in_scripts, *in_prose))
    return list(dict.fromkeys(match[1].split(" < ")[0] for match in found if match))


def parse(words: list[str]) -> None:
    """Read arguments as the command line does, without running anything. Raises what it raises."""
    command: Any = get_command(command_line())
    context, name, rest = None, "miyabi", words
    while command is not None:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def rows(heading: str) -> list[tuple[int, list[str]]]:
    """Return the rows of the first table below a heading: the number of the line, and the cells."""
    lines = TEXT.splitlines()
    at = next(number for number, line in enumerate(lines) if line.endswith(f"# {heading}"))
    first = next(number for number in range(at, len(lines)) if lines[number].startswith("|---")) + 1
    table = []
    for number in range(first, len(lines)):
        if not lines[number].startswith("|"):
            break
        table.append((number + 1, [cell.strip() for cell in lines[number].strip("|").split("|")]))
    return table


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def usd_of(model: str, input_tokens: int, cached: int, output_tokens: int, **overrides: Price) -> float:
    price = find_price("groq", f"openai/{model}", GROQ, overrides)
    assert price is not None
    return price.nano(input_tokens, cached, output_tokens) / NANO


def assert_cells(line: int, cells: list[str], expected: list[str]) -> None:
    right = "| " + " | ".join([*cells[: -len(expected)], *expected]) + " |"
    assert cells[-len(expected) :] == expected, f"change line {line} of {GUIDE.name} to:\n{right}"


@pytest.mark.parametrize("command", commands())
def test_a_command_line_of_the_guide_is_one(command: str) -> None:
    parse(shlex.split(command.rstrip("\\"))[1:])


def test_every_kind_of_command_is_found_and_a_wrong_one_refused() -> None:
    found = {command.split()[1] for command in commands()}
    assert {"codegen", "doctor", "init", "model", "usage"} <= found
    assert any("--max-cost 0.50 --patch" in command for command in commands())  # from GitLab's file
    for words in (["codegen", "x", "--efort", "low"], ["codegen", "x", "--effort", "lo"], ["docter"]):
        with pytest.raises(Exception, match=r"No such (option|command)|is not one of"):
            parse(words)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_settings_of_the_guide_load(block: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yml"
    file.write_text(block)
    settings = load_settings(flags={}, environ={**KEYS, "HOME": str(tmp_path)}, repository=None, config=file)
    for name in set(re.findall(r"\$\{(\w+)\}", block)):
        assert KEYS[name] in (
            key.get_secret_value() for key in (settings.llm.vllm.api_key, settings.llm.openai.api_key) if key
        )


def test_the_settings_and_variables_that_prose_names_are_there() -> None:
    keys = {".".join(path) for path, _ in known_keys()}
    named = set(re.findall(r"`((?:llm|budget|limits|sandbox|github)\.[a-z_.]+?)(?:: \S+)?`", TEXT))
    assert named
    assert named <= keys
    everything = TEXT + "".join(file.read_text() for file in FILES)
    variables = set(re.findall(r"\bMIYABI_[A-Z_]+", everything)) - NOT_SETTINGS - {"MIYABI_PACKAGE"}
    assert variables
    assert {name.removeprefix("MIYABI_").lower().replace("__", ".") for name in variables} <= keys


def test_what_runs_cost_at_groq() -> None:
    table = rows("At Groq")
    assert [tuple(map(number, cells[1:4])) for _, cells in table[:2]] == [PLANS_RUN, PLANS_RUN]
    for line, cells in table:
        usd = usd_of(cells[0], *(int(number(cell)) for cell in cells[1:4]))
        assert_cells(line, cells, [f"{usd:.5f}", f"{usd * RUNS_A_MONTH:.3f}"])


def test_the_prices_that_the_guide_names() -> None:
    named = re.search(r"genai-prices (\S+),.*?the 20b (\S+) for .*?\((\S+)\s+cached\) and (\S+) of", TEXT, re.DOTALL)
    assert named
    million = 1_000_000
    rates = [(million, 0, 0), (million, million, 0), (0, 0, million)]
    assert [number(cell) for cell in named.groups()[1:]] == [usd_of("gpt-oss-20b", *tokens) for tokens in rates]
    larger = re.search(r"the 120b (\S+) \((\S+)\) and (\d\.\d+)", TEXT)
    assert larger
    assert [number(cell) for cell in larger.groups()] == [usd_of("gpt-oss-120b", *tokens) for tokens in rates]


def test_what_the_plan_s_own_prices_came_to() -> None:
    price = Price(input=0.10, output=0.50)
    usd = usd_of("gpt-oss-20b", *PLANS_RUN, **{"openai/gpt-oss-20b": price}) * RUNS_A_MONTH
    assert f"the first came to {usd:.2f}" in " ".join(TEXT.split())


def test_where_an_own_gpu_breaks_even() -> None:
    for line, cells in rows("When a GPU of one's own is cheaper"):
        model, hourly, speed = cells[0], number(cells[2]), number(cells[3])
        month = hourly * HOURS_A_MONTH
        runs = month / usd_of(model, *PLANS_RUN)
        tokens = PLANS_RUN[0] + PLANS_RUN[2]
        share = runs * tokens / (speed * HOURS_A_MONTH * 3_600)
        assert_cells(line, cells, [f"{month:,.0f}", f"{runs:,.0f}", f"{share * 100:.0f} %"])


def test_the_inputs_of_the_break_even_that_are_sums_themselves() -> None:
    table = {(cells[0], cells[1]): cells for _, cells in rows("When a GPU of one's own is cheaper")}
    bought = 2_000 / (36 * HOURS_A_MONTH) + 0.45 * 0.15
    card = table["gpt-oss-20b", "RTX 4090, bought"]
    assert card[2:4] == [f"{bought:.3f}", f"{225 * 3}"]
    one = table["gpt-oss-120b", "H100 SXM, RunPod Secure"]
    [two] = [cells for (_, gpu), cells in table.items() if gpu.startswith("2 ")]
    assert number(two[2]) == 2 * number(one[2])
    first = next(iter(table.values()))
    own = number(first[2]) / (number(first[3]) * 3_600 * 0.4) * 1_000_000
    assert f"{{input: {own:.3f}, output: {own:.3f}, provider: vllm" in TEXT


def test_links_within_the_guide_lead_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    named = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert named
    assert named <= slugs


def test_the_files_that_the_guide_names_are_those_there_are() -> None:
    named = set(re.findall(r"deploy/[\w./-]+\.yml", TEXT))
    assert named == {str(file.relative_to(ROOT)) for file in FILES}


def vllm_flags() -> set[str]:
    """Return the flags of `vllm serve` in the guide and in the files of deploy/."""
    served = [line for block in blocks("sh") for line in joined(block) if "vllm serve" in line]
    in_tables = [cell for _, cells in rows("vLLM") for cell in [cells[0]]]
    in_files = [file.read_text() for file in FILES if "vllm/vllm-openai" in file.read_text()]
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join([*served, *in_tables, *in_files])))


def test_vllm_s_flags_are_vllm_s() -> None:
    installed = os.environ.get("MIYABI_TEST_VLLM")
    assert {"--tool-call-parser", "--enable-auto-tool-choice", "--tensor-parallel-size"} <= vllm_flags()
    if not installed:
        pytest.skip("MIYABI_TEST_VLLM names no virtual environment with vLLM")
    command = [f"{installed}/bin/vllm", "serve", "--help=all"]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert vllm_flags() - set(re.findall(r"--[a-z][a-z-]+", known)) - {"--from-literal"} == set()
