"""A codegen result for a person: what became of the task, the checks, the diff in colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TextIO

from miyabi_cli.report.display import counted, plain_text, safe_text
from miyabi_cli.report.streams import Streams

STYLES = {"verified": "bold green", "unverified": "bold yellow", "failed": "bold red", "limit": "bold yellow"}
NAMES_SHOWN = 5


def write_result(result: Mapping[str, Any], streams: Streams, stream: TextIO, *, diff: bool = True) -> None:
    """Write a result to `stream`; `result` is the object of `--format json`."""
    console = streams.console(stream)

    def line(text: str = "", style: str | None = None) -> None:
        console.print(safe_text(text), style=style, soft_wrap=True)

    if diff and result["patch"]:
        for text in safe_text(result["patch"]).splitlines():
            line(text, _diff_style(text))
        line()
    line(f"{result['status']}: {plain_text(result['summary'])}", STYLES[result["status"]])
    for check in result["checks"]:
        name, tests = plain_text(check["name"]), _tests(check["tests"])
        line(f"  check {name}: {check['before']} before, {check['after']} after{tests}")
    files = [
        *(f"{path} (new)" for path in result["files_created"]),
        *result["files_modified"],
        *(f"{path} (deleted)" for path in result["files_deleted"]),
    ]
    if files:
        line(f"  files: {_names(files)}, +{result['lines_added']} -{result['lines_removed']}")
    for warning in result["warnings"]:
        line(
            plain_text(f"{warning['path'] + ': ' if warning['path'] else ''}{warning['message']}", "  warning: "),
            "yellow",
        )
    line(plain_text(spent(result), "  "), "dim")
    if result["branch"]:
        base, branch = result["base"][:12], result["branch"]
        line(f"  branch {plain_text(branch)}, commit {result['commit'][:12]}: git diff {base} {plain_text(branch)}")
    if pull := result.get("pull_request"):
        line(plain_text(pull["url"], f"  draft pull request #{pull['number']}: "))
    if result["worktree"]:
        line(plain_text(result["worktree"], "  worktree kept: "))
    line(f"  run {result['run_id']}: miyabi runs show {result['run_id']}", "dim")
    stream.flush()


def _diff_style(line: str) -> str | None:
    if line.startswith(("diff ", "index ", "--- ", "+++ ", "new file", "deleted file")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])


def _tests(tests: Mapping[str, Any]) -> str:
    parts = [
        f"{len(tests[key])} {key.replace('_', ' ')} ({_names(tests[key])})"
        for key in ("fixed", "broken", "still_failing")
        if tests[key]
    ]
    return f"; {'; '.join(parts)}" if parts else ""


def _names(names: Any) -> str:
    shown = ", ".join(plain_text(name) for name in names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"


def spent(result: Mapping[str, Any]) -> str:
    """Return what a run has cost, on one line."""
    usage = result["usage"]
    cost = "cost unknown" if usage["cost_usd"] is None else f"{usage['cost_usd']:.4f} USD"
    return (
        f"{result['model']} ({result['provider']}), {counted(len(result['attempts']), 'attempt')}, "
        f"{counted(usage['requests'], 'request')}, "
        f"{usage['input_tokens']:,} tokens in ({usage['cached_tokens']:,} cached), {usage['output_tokens']:,} out, "
        f"{cost}, {result['seconds']:.1f} s"
    )
