"""Puts the findings of all sources together: one thing is told once, and each has a fingerprint that outlasts edits."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from miyabi_cli.review.change import Change
from miyabi_cli.review.findings import Dropped, Finding

DUPLICATE = "told already by another source"
_SPACE = re.compile(r"\s+")
_MAXIMUM_QUOTE = 400  # characters
_REACH = 2  # lines between a model's finding and another that may tell the same
# The rank of those that find the same: who is surest, or says it best, comes first.
_RANK = {"secrets": 0, "unicode": 1, "bandit": 3, "model": 9}
_PASSWORD_RULES = re.compile(r"[BS]10[567]")
# Words that tell nothing of what is wrong.
_COMMON = frozenset(
    "a an the is are be to of in on and or not it this that with for by as at from may can will".split()  # noqa: SIM905
)


def merge(change: Change, found: Iterable[Finding]) -> tuple[tuple[Finding, ...], tuple[Dropped, ...]]:
    """Return the findings by place, each once and with its quote and fingerprint, and how many were dropped."""
    ordered = sorted(found, key=_order)
    kept: dict[str, list[Finding]] = {}
    duplicates = 0
    for finding in ordered:
        quoted = _with_quote(change, finding)
        others = kept.setdefault(finding.path, [])
        if any(_same(other, quoted) for other in _near(others, quoted.line)):
            duplicates += 1
        else:
            others.append(quoted)
    merged = [finding for findings in kept.values() for finding in findings]
    return with_fingerprints(merged), (Dropped(DUPLICATE, duplicates),) if duplicates else ()


def _order(finding: Finding) -> tuple[str, int, bool, int, int, str, str]:
    """Sort by place; of several findings at one the best told comes first, a model's after all others."""
    rank = _RANK.get(finding.source, 5)
    severity = ("error", "warning", "note").index(finding.severity)
    return finding.path, finding.line, finding.source == "model", severity, rank, finding.rule, finding.message


def with_fingerprints(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return findings with fingerprints, which are of the code and not of where it stands: lines may move.

    Of a linter's the rule counts, of a model's only the category, for it never says a thing twice in the same words.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    marked = []
    for finding in findings:
        rule = finding.category if finding.source == "model" else finding.rule or _SPACE.sub(" ", finding.message)
        code = _SPACE.sub(" ", finding.quote).strip()
        parts = (finding.source, rule, finding.path, code)
        seen[parts] += 1
        text = "\0".join((*parts, str(seen[parts])))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        marked.append(replace(finding, fingerprint=digest))
    return tuple(marked)


def _near(findings: Sequence[Finding], line: int) -> Iterator[Finding]:
    """Yield the last of findings, sorted by line, as long as they are close to a line."""
    return itertools.takewhile(lambda finding: line - finding.line <= _REACH, reversed(findings))


def _with_quote(change: Change, finding: Finding) -> Finding:
    """Return a finding with the line that it speaks of."""
    file = change.by_path.get(finding.path)
    if finding.quote or file is None or not finding.line:
        return finding
    return replace(finding, quote=_line(file.lines, finding.line)[:_MAXIMUM_QUOTE])


def _line(lines: Mapping[int, str], number: int) -> str:
    return lines.get(number, "").rstrip("\r")


def _same(one: Finding, other: Finding) -> bool:
    """Say whether two findings speak of the same thing; they are of one file, and near."""
    if one.line == other.line and one.source != other.source:
        if "secret" in (one.category, other.category) and (_is_password(one) and _is_password(other)):
            return True
        # bandit's rules go on in ruff under another letter
        if {one.source, other.source} == {"bandit", "ruff"} and one.rule[1:] == other.rule[1:] and one.rule[:1] in "BS":
            return True
    if one.source == other.source == "model":
        return one.line == other.line and one.category == other.category
    if "model" in (one.source, other.source):
        return one.category == other.category or _similar(one.message, other.message)
    if one.source != other.source and one.line == other.line:
        return _similar(one.message, other.message)
    return (one.line, one.source, one.rule, one.message) == (other.line, other.source, other.rule, other.message)


def _is_password(finding: Finding) -> bool:
    return finding.category == "secret" or bool(_PASSWORD_RULES.fullmatch(finding.rule))


def _similar(one: str, other: str) -> bool:
    words, others = _words(one), _words(other)
    smaller = min(len(words), len(others))
    return smaller > 1 and len(words & others) >= max(2, 0.6 * smaller)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) - _COMMON
