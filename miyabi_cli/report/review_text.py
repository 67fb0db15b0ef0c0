"""A review for a person: findings by file with the code around them, then what they cost and what was left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

from miyabi_cli.report.display import counted, plain_text, safe_text, visible_text
from miyabi_cli.report.streams import Streams
from miyabi_cli.review.change import Change, ChangedFile

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
BANDS = {"good": "bold green", "fair": "green", "weak": "bold yellow", "poor": "bold red"}
AROUND = 2  # lines before and after
LONGEST = 160  # letters of a line of code
SHOWN = 20  # files that were left out

Line = Callable[..., None]


def write_text(result: Mapping[str, Any], change: Change, streams: Streams) -> None:
    """Write a review's result, the object of `--format json`."""
    console = streams.console(streams.output)

    def line(text: str = "", style: str | None = None) -> None:
        console.print(safe_text(text), style=style, soft_wrap=True)

    for path, findings in groupby(result["findings"], key=lambda finding: finding["path"]):
        line(plain_text(path) or "(no file)", "bold")
        for finding in findings:
            _write_finding(finding, change.by_path.get(path), line)
        line()
    _write_end(result, line)


def _write_finding(finding: Mapping[str, Any], file: ChangedFile | None, line: Line) -> None:
    place = f"{finding['line']}" if finding["line"] else "file"
    who = f"{finding['source']} {finding['rule']}".strip()
    sure = f", {finding['confidence']:.0%} sure" if finding["confidence"] < 1 else ""
    words = plain_text(finding["message"])
    line(plain_text(f"{place}: {finding['severity']}: {words} [{who}{sure}]", "  "), STYLES[finding["severity"]])
    if finding["line"]:
        for text in _code(finding, file):
            line(f"      {text}", "dim")
    if suggested := safe_text(finding["suggestion"]).rstrip("\n"):
        line("      suggested in its place:", "dim")
        for text in suggested.split("\n")[:40]:
            line(f"              {text}")


def _code(finding: Mapping[str, Any], file: ChangedFile | None) -> list[str]:
    """Return the lines around a finding; where a secret stands in one, as the finding quotes it."""
    number = finding["line"]
    lines = file.lines if file else {}
    if finding["category"] == "secret" or number not in lines:
        return [f"{number:>5} > {_shortened(finding['quote'])}"] if finding["quote"] else []
    shown = [other for other in range(number - AROUND, number + AROUND + 1) if other in lines]
    while shown and not lines[shown[-1]].strip() and shown[-1] != number:
        shown.pop()
    return [f"{other:>5} {'>' if other == number else '|'} {_shortened(lines[other])}" for other in shown]


def _shortened(text: str) -> str:
    text = visible_text(text.rstrip("\r\n").encode("utf-8", "replace").decode().split("\n")[0][: LONGEST + 1])
    text = text.expandtabs(4)
    return f"{text[:LONGEST]}…" if len(text) > LONGEST else text


def _write_end(result: Mapping[str, Any], line: Line) -> None:
    summary, _, explained = result["summary"].partition("\n")
    line(
        f"score {result['score']} ({result['band']}): {plain_text(summary)}",
        BANDS[result["band"]] if result["passed"] else "bold red",
    )
    for text in safe_text(explained).strip().splitlines():
        line(f"  {text}")
    for deduction in result["breakdown"]:
        line(f"  {deduction['points']:>4}  {plain_text(deduction['reason'])}")
    for failure in result["failures"]:
        line(f"  fails: {plain_text(failure)}", "bold red")
    if not result["complete"]:
        line("  not complete: something was not looked at, so it does not pass", "bold yellow")
    for skipped in result["skipped"][:SHOWN]:
        path = plain_text(skipped["path"])
        line(f"  left out: {path + ': ' if path else ''}{plain_text(skipped['reason'])}", "yellow")
    if len(result["skipped"]) > SHOWN:
        line(f"  left out: {len(result['skipped']) - SHOWN} more; --format json has them all", "yellow")
    for dropped in result["dropped"]:
        line(f"  not shown: {counted(dropped['count'], 'finding')} {plain_text(dropped['reason'])}", "dim")
    line(plain_text(_spent(result), "  "), "dim")


def _spent(result: Mapping[str, Any]) -> str:
    """Return what was reviewed, by whom and at what cost, on one line."""
    ran = [source["name"] for source in result["sources"] if source["status"] in ("ran", "partial")]
    parts = [
        f"{counted(result['files'], 'file')}, +{result['lines_added']} -{result['lines_removed']} ({result['change']})",
        f"by {', '.join(ran)}" if ran else "by nobody",
    ]
    usage = result["usage"]
    if usage["requests"]:
        cost = "cost unknown" if usage["cost_usd"] is None else f"{usage['cost_usd']:.4f} USD"
        parts.append(f"{result['model']} ({result['provider']}), {counted(usage['requests'], 'request')}")
        parts.append(f"{usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} out, {cost}")
    return ", ".join([*parts, f"{result['seconds']:.1f} s"])
