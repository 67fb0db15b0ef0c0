"""A review in Markdown, as GitHub and GitLab show it in a comment or a step's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from miyabi_cli.fences import backticks
from miyabi_cli.markdown import prose
from miyabi_cli.report.display import counted, safe_text, visible_text
from miyabi_cli.report.markdown import code
from miyabi_cli.report.streams import Streams
from miyabi_cli.review.change import Change

MARKS = {"error": "🔴", "warning": "🟡", "note": "🔵"}
SHOWN = 100  # findings, and files that were left out


def write_markdown(result: Mapping[str, Any], _change: Change, streams: Streams) -> None:
    """Write a review's result, the object of `--format json`."""
    print(review_markdown(result), file=streams.output)


def review_markdown(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown, in which nothing that a repository or a model wrote is markup."""
    verdict = "passed" if result["passed"] else "did not pass"
    lines = [f"## Review: {result['score']} of 100 ({result['band']}), {verdict}", ""]
    lines += [prose(safe_text(line)) for line in result["summary"].splitlines() if line.strip()]
    lines += ["", *(f"- **{prose(safe_text(failure))}**" for failure in result["failures"])]
    if not result["complete"]:
        lines.append("- **The review is not complete**, so it does not pass.")
    lines += ["", *_findings(result), *_breakdown(result), *_left_out(result)]
    return "\n".join(lines).rstrip()


def _findings(result: Mapping[str, Any]) -> Iterator[str]:
    findings = result["findings"]
    for path, group in groupby(findings[:SHOWN], key=lambda finding: finding["path"]):
        yield f"### {code(path)}"
        yield ""
        for finding in group:
            yield from _finding(finding)
        yield ""
    if len(findings) > SHOWN:
        yield f"… and {counted(len(findings) - SHOWN, 'finding')} more"
        yield ""


def _finding(finding: Mapping[str, Any]) -> Iterator[str]:
    place = f"line {finding['line']}" if finding["line"] else "the file"
    who = code(f"{finding['source']} {finding['rule']}".strip())
    yield f"- {MARKS[finding['severity']]} **{place}**, {finding['severity']}: {_prose(finding['message'])} ({who})"
    if finding["quote"]:
        yield from _block(finding["quote"])
    if finding["suggestion"].strip():
        yield "  Suggested in its place:"
        yield from _block(finding["suggestion"])


def _block(text: str) -> Iterator[str]:
    shown = visible_text(text).rstrip("\n")
    fence = backticks(shown)
    yield ""
    yield from (f"  {line}" for line in (fence, *shown.split("\n"), fence))
    yield ""


def _breakdown(result: Mapping[str, Any]) -> Iterator[str]:
    if result["breakdown"]:
        yield from ("| points | for |", "|---:|---|", "| 100 | the start |")
        yield from (f"| {one['points']} | {_prose(one['reason'])} |" for one in result["breakdown"])
        yield from (f"| **{result['score']}** | **the score** |", "")


def _left_out(result: Mapping[str, Any]) -> Iterator[str]:
    skipped, dropped = result["skipped"], result["dropped"]
    if not skipped and not dropped:
        return
    yield from ("<details><summary>What was left out</summary>", "")
    for one in skipped[:SHOWN]:
        yield f"- {code(one['path']) + ': ' if one['path'] else ''}{_prose(one['reason'])}"
    if len(skipped) > SHOWN:
        yield f"- … and {len(skipped) - SHOWN} more"
    yield from (f"- {counted(one['count'], 'finding')}: {_prose(one['reason'])}" for one in dropped)
    yield from ("", "</details>")


def _prose(text: str) -> str:
    return prose(safe_text(text))
