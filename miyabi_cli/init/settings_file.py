"""The text of a `.miyabi.yml`: what was found, as settings, and what else one may want to set, as comments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import yaml

from miyabi_cli.init.finding import Found
from miyabi_cli.settings.schema import Budget, LimitSettings
from miyabi_cli.workspace.check_records import Check

HEAD = """\
# What miyabi needs to know of this repository. A key that is not here has its default; docs/settings.md has them all.
# What could do harm here (checks, keys, endpoints, sandbox) holds only for those who have run `miyabi trust`.
"""
KEYS = {"groq": ("api_key", "GROQ_API_KEY")}


def settings_text(found: Found, root: Path) -> str:
    """Return the file's text. No secret's value is in it, and it reads back as what was found."""
    return "\n".join([HEAD, *_llm(found), "", *_checks(found, root), "", *_more()]) + "\n"


def written_checks(found: Found, root: Path) -> tuple[Check, ...]:
    """Return the checks that are settings in the file: all that were found, or none.

    One whose command names a path of this machine, or can't be written, would fail elsewhere; and as a list replaces
    what miyabi finds by itself, it has all of them or is left out.
    """
    return found.checks if all(_is_for_everybody(check, root) for check in found.checks) else ()


def _llm(found: Found) -> Iterator[str]:
    yield "llm:"
    server = found.server
    if server is None:
        yield "  # No server answered. auto: the first of vLLM, Ollama, Groq (a key is set), embedded that is there."
        yield "  # A small model for this machine: miyabi model pull"
        yield "  provider: auto"
    else:
        yield f"  provider: {server.provider}  # {_remark(server.reason)}; or auto: the first that answers"
        yield f"  {server.provider}: {_flow(server.provider, server.model)}"
    yield "  # fallback: [embedded]             # to go on with when the provider fails"
    yield "  # local_only: true                 # nothing leaves this machine, whatever keys exist"
    yield "  # default_reasoning_effort: medium # low, medium or high"


def _flow(provider: str, model: str) -> str:
    key = f'{KEYS[provider][0]}: "${{{KEYS[provider][1]}}}", ' if provider in KEYS else ""
    return f"{{{key}model: {_quoted(model)}}}"


def _checks(found: Found, root: Path) -> Iterator[str]:
    if found.languages:
        yield f"# Found: {', '.join(found.languages)}."
    yield "# A patch is verified by these, before and after. Without the list miyabi looks for checks at each run."
    for note in found.notes:
        yield f"# Note: {_remark(note)}"
    if found.notes:
        yield "# Once that is mended: miyabi init --force"
    written = written_checks(found, root)
    if found.checks and not written:
        yield "# As comments, since one of them holds on this machine alone."
    lead = "" if written else "# "
    yield f"{lead}checks:"
    for check in found.checks:
        name, command = _quoted(check.name), _quoted(check.command)
        yield f"{lead}  - {{name: {name}, command: {command}, timeout: {check.timeout:g}}}"
    if not found.checks:
        yield '#   - {name: tests, command: "make test", timeout: 600}'


def _more() -> Iterator[str]:
    limits, budget = LimitSettings(), Budget()
    yield "# The defaults:"
    yield f"# limits: {{steps: {limits.steps}, seconds: {limits.seconds:g}}}  # of one attempt; of one run"
    yield f"# budget: {{monthly_usd: {budget.monthly_usd:g}, per_run_usd: {budget.per_run_usd:g}}}"
    yield "# sandbox: {network: false}        # true: commands of the agent and the checks may use the network"
    yield "# worktree: {setup: [], include: []}  # commands to run, and ignored files to copy, in each new worktree"


def _is_for_everybody(check: Check, root: Path) -> bool:
    text = check.name + check.command
    return text.isprintable() and str(root) not in text and str(Path.home()) not in text


def _quoted(text: str) -> str:
    """Return text as a value of the file, in which `${` would stand for a variable."""
    if not text.isprintable():
        return json.dumps(text)
    quoted: str = yaml.safe_dump(text.replace("${", "$${"), default_style='"', allow_unicode=True, width=10**6)
    return quoted.strip()


def _remark(text: str) -> str:
    """Return text that can't leave its comment."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:500]
