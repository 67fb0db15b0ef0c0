"""A review as workflow commands of GitHub Actions, which become annotations of the changed lines.

Format: docs.github.com/actions, "Workflow commands for GitHub Actions". GitHub shows ten of a kind for a step and fifty
for a job, so the gravest come first, and what is over is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from miyabi_cli.report.display import counted, plain_text, visible_text
from miyabi_cli.report.streams import Streams
from miyabi_cli.review.change import Change

KINDS = {"error": "error", "warning": "warning", "note": "notice"}
MOST = 10  # of a kind


def write_annotations(result: Mapping[str, Any], _change: Change, streams: Streams) -> None:
    """Write the findings as commands, and the end of the review as the last of them."""
    for line in annotation_lines(result):
        print(line, file=streams.output)


def annotation_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a command for each finding that GitHub would show, and one for the result."""
    closing = "note" if result["passed"] else "error"
    for severity, kind in KINDS.items():
        found = [finding for finding in result["findings"] if finding["severity"] == severity]
        found.sort(key=lambda finding: -finding["confidence"])
        room = MOST - 1 if severity == closing else MOST
        yield from (_command(kind, finding) for finding in found[:room])
        if len(found) > room:
            yield f"{counted(len(found) - room, severity)} more, which GitHub would not show:"
            yield from (_plain(finding) for finding in found[room:])
    yield _closing(KINDS[closing], result)


def _closing(kind: str, result: Mapping[str, Any]) -> str:
    words = [f"score {result['score']} ({result['band']}): {result['summary'].partition(chr(10))[0]}"]
    words += result["failures"]
    words += [] if result["complete"] else ["the review is not complete"]
    return f"::{kind} title=miyabi review::{_data('; '.join(words))}"


def _command(kind: str, finding: Mapping[str, Any]) -> str:
    who = f"{finding['source']} {finding['rule']}".strip()
    properties: list[tuple[str, str]] = [("file", finding["path"])]
    if finding["line"]:
        properties += [("line", str(finding["line"])), ("endLine", str(finding["end_line"]))]
    properties.append(("title", who))
    told = ",".join(f"{name}={_property(visible_text(value))}" for name, value in properties)
    return f"::{kind} {told}::{_data(_words(finding))}"


def _plain(finding: Mapping[str, Any]) -> str:
    """Return a line for the log, which is no command whatever a path or message holds."""
    return plain_text(f"- {finding['path']}:{finding['line']}: {finding['severity']}: {finding['message']}")


def _words(finding: Mapping[str, Any]) -> str:
    suggestion = finding["suggestion"].strip()
    return visible_text(finding["message"] + (f"\n\n{suggestion}" if suggestion else ""))


def _data(text: str) -> str:
    """Escape a command's message (actions/toolkit, `escapeData`)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a command's property (actions/toolkit, `escapeProperty`)."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
