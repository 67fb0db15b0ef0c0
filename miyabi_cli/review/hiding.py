"""Takes secrets that a change adds out of all that is shown of it, or sent to a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.findings import AddedSecret, Finding, SourceResult

SHORTEST = 6  # letters; a shorter value may stand in any text
SHOWN = 4  # letters of a long one, by which its owner knows it
LONG = 16
EVERYWHERE = 200  # values that are looked for in all texts; more than these only where they were found


def hidden(secret: str) -> str:
    """Return what stands for a secret."""
    return f"{secret[:SHOWN]}…" if len(secret) >= LONG else "…"


def without(text: str, values: Iterable[str]) -> str:
    """Return a text without these values, the longest first; of one of several lines each line goes."""
    lines = {line.strip() for value in values for line in value.split("\n")}
    for line in sorted(lines, key=len, reverse=True):
        if line and not _is_frame(line) and line in text:
            text = text.replace(line, hidden(line))
    return text


@dataclass(frozen=True, slots=True)
class Hider:
    """Knows secrets by where they were found, and some of them everywhere."""

    by_place: Mapping[str, Mapping[int, tuple[str, ...]]] = field(default_factory=dict)
    everywhere: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        """Return a text from anywhere without the secrets that are known everywhere."""
        return without(text, [value for value in self.everywhere if value in text])

    def line(self, path: str, number: int | None, text: str) -> str:
        """Return a line of a file without secrets."""
        here = self.by_place.get(path, {}).get(number or 0, ())
        return self.text(without(text, here) if here else text)

    def change(self, change: Change) -> Change:
        """Return a change whose lines are without secrets, each still at its place."""
        return replace(change, files=tuple(self._file(file) for file in change.files)) if self.by_place else change

    def finding(self, finding: Finding) -> Finding:
        """Return a finding whose words and code are without secrets."""
        message, quote, suggestion = (
            self.line(finding.path, finding.line, text) for text in (finding.message, finding.quote, finding.suggestion)
        )
        return replace(finding, message=message, quote=quote, suggestion=suggestion)

    def result(self, result: SourceResult) -> SourceResult:
        """Return what a source gives without secrets; a tool that fails may have printed the line that it failed at."""
        if not self.by_place:
            return result
        findings = tuple(self.finding(finding) for finding in result.findings)
        skipped = tuple(replace(one, reason=self.text(one.reason)) for one in result.skipped)
        return replace(result, findings=findings, skipped=skipped)

    def _file(self, file: ChangedFile) -> ChangedFile:
        text = file.text
        if text is not None:
            text = self.text(text)
            if places := self.by_place.get(file.path):
                lines = text.split("\n")
                for number in places:
                    if number <= len(lines):
                        lines[number - 1] = self.line(file.path, number, lines[number - 1])
                text = "\n".join(lines)
        hunks = tuple(
            replace(
                hunk,
                lines=tuple(replace(line, text=self.line(file.path, line.new, line.text)) for line in hunk.lines),
            )
            for hunk in file.hunks
        )
        return file if (text, hunks) == (file.text, file.hunks) else replace(file, text=text, hunks=hunks)


def hider_of(secrets: Iterable[AddedSecret]) -> Hider:
    """Return what hides these secrets."""
    by_place: dict[str, dict[int, tuple[str, ...]]] = {}
    values: dict[str, None] = {}
    for secret in secrets:
        places = by_place.setdefault(secret.path, {})
        for number in range(secret.line, secret.end_line + 1):
            places[number] = (*places.get(number, ()), secret.value)
        for line in secret.value.split("\n"):
            if len(line.strip()) >= SHORTEST and not _is_frame(line.strip()):
                values[line.strip()] = None
    return Hider(by_place, tuple(sorted(list(values)[:EVERYWHERE], key=len, reverse=True)))


def _is_frame(line: str) -> bool:
    """Say whether it is the first or last line of a key in PEM, which is the same for all."""
    return line.startswith("-----") and line.endswith("-----")
