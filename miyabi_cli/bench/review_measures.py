"""Measures a review: what good comments it makes, what false alarms, and whether each stands on a line of the change.

The data are JSON lines, one case each; unknown keys are passed over. Always there is one of

    diff                a unified diff: what is reviewed
    correct, buggy      two versions of the file `path`; they make two cases: the change that brings the bug in, whose
                        changed lines are the good comment, and the one that mends it, of which there is nothing to say

and further

    id                  text, unique in the file; the line's number where there is none
    comments            what a good reviewer says: {"path", "from_line", "to_line", "note"}, lines of the file after
                        the change; [] where there is nothing to say
    negative_comments   the same of what was said and rejected
    texts               {path: text}: files after the change, as context
    language            for the report
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from miyabi_cli.bench.tasks import plain_paths, read_objects
from miyabi_cli.errors import UsageError
from miyabi_cli.messages import Usage
from miyabi_cli.workspace.diffs import FileDiff, parse_diff

NEAR = 3  # lines between a finding and a comment on the same thing
EXAMPLE = '{"id": "a", "diff": "…", "comments": [{"path": "calc.py", "from_line": 4, "to_line": 4, "note": "…"}]}'
_LARGEST_LINE = 10**9


@dataclass(frozen=True, slots=True)
class Comment:
    """What a reviewer says of lines of a file after the change; `last` is at least `first`."""

    path: str
    first: int
    last: int
    note: str = ""


Pair = tuple[Comment, Comment]  # a finding, and what a reviewer says


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """A change, and what good reviewers say of it; `rejected` is what was said and found wrong.

    `texts` are files after the change, by path.
    """

    id: str
    diff: bytes
    good: tuple[Comment, ...] = ()
    rejected: tuple[Comment, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    language: str = ""

    @property
    def digest(self) -> str:
        """Tells whether two cases are the same."""
        return hashlib.sha256(repr((self.diff, self.good, self.rejected, self.texts)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review gave on a case: its findings, and how it went.

    `failure` is the kind of the error of which nothing can be told, "" for none; `out_of_time`: its time was over
    before all was read, and the findings are those of what was.
    """

    findings: tuple[Comment, ...] = ()
    complete: bool = True
    dropped: int = 0
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    failure: str = ""
    out_of_time: bool = False


def read_cases(path: Path) -> tuple[ReviewCase, ...]:
    """Return the cases of a JSONL file; see the module.

    Raises UsageError for the first line that is wrong, with its number, and for a file without cases; MachineError for
    one that can't be read.
    """
    cases: dict[str, ReviewCase] = {}
    for number, data in read_objects(path):
        try:
            made = list(_cases(data, number))
        except (ValueError, UsageError) as error:
            raise UsageError(f"{path}, line {number}: {error}", hint=f"a line is such as {EXAMPLE}") from None
        for case in made:
            if case.id in cases:
                raise UsageError(f"{path}, line {number}: the id {case.id!r} is that of an earlier line too")
            cases[case.id] = case
    if not cases:
        raise UsageError(f"there is no case in {path}", hint=f"a line is such as {EXAMPLE}")
    return tuple(cases.values())


def near_pairs(case: ReviewCase, reviewed: Reviewed, near: int = NEAR) -> list[Pair]:
    """Return each finding with each comment, good or rejected, that it stands on or at most `near` lines from."""
    comments = (*case.good, *case.rejected)
    return [(found, comment) for found in reviewed.findings for comment in comments if _is_near(found, comment, near)]


def measure(
    case: ReviewCase, reviewed: Reviewed, near: int = NEAR, unlike: Collection[Pair] = frozenset()
) -> dict[str, Any]:
    """Return the row of a case in a document of `bench review`, as schemas/bench.json describes a trial.

    It has passed where a good comment is met, or where all was read and nothing said of what there is nothing to say
    of. A comment is met where a finding stands near it, unless it is known that the two are `unlike`. A finding that
    meets none is a false alarm: of real pull requests that is an upper bound, since reviewers do not say all.
    """
    diffs = parse_diff(case.diff)
    meeting = {pair for pair in near_pairs(case, reviewed, near) if pair not in unlike}
    met = [good for good in case.good if any((found, good) in meeting for found in reviewed.findings)]
    alarms = [found for found in reviewed.findings if not any((found, good) in meeting for good in case.good)]
    repeated = [bad for bad in case.rejected if any((found, bad) in meeting for found in alarms)]
    measures: dict[str, float | bool | None] = {
        "changed_lines": changed_lines(diffs),
        "comments": len(case.good),
        "comments_met": len(met),
        "rejected_comments": len(case.rejected),
        "rejected_hits": len(repeated),
        "findings": len(reviewed.findings),
        "false_alarms": len(alarms),
        "anchors_valid": sum(_is_anchored(found, diffs) for found in reviewed.findings),
        "dropped": reviewed.dropped,
        "complete": reviewed.complete,
    }
    passed = bool(met) if case.good else reviewed.complete and not alarms
    return {
        "id": case.id,
        "digest": case.digest,
        "trial": 1,
        "status": "error" if reviewed.failure else "limit" if reviewed.out_of_time else "reviewed",
        "passed": None if reviewed.failure else passed,
        "measures": measures,
        "failure": reviewed.failure or (None if passed else _failure(reviewed, missed=bool(case.good))),
        "seconds": round(reviewed.seconds, 3),
        "usage": _usage(reviewed.usage),
    }


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the rows come to; a case of which nothing could be told counts in `failures` alone."""
    told = [row for row in rows if row["passed"] is not None]
    usage = sum((Usage(**row["usage"]) for row in rows), Usage())

    def total(name: str) -> int:
        return sum(row["measures"][name] for row in told)

    clean = [row for row in told if not row["measures"]["comments"]]
    failures: dict[str, int] = {}
    for row in rows:
        if row["failure"]:
            failures[row["failure"]] = failures.get(row["failure"], 0) + 1
    return {
        "tasks": len(rows),
        "trials": len(rows),
        "passed": sum(row["passed"] is True for row in rows),
        "pass_rate": _share(sum(row["passed"] is True for row in told), len(told)),
        "detection": _share(total("comments_met"), total("comments")),
        "false_alarms_per_100_lines": _share(100 * total("false_alarms"), total("changed_lines")),
        "clean_rate": _share(sum(row["passed"] is True for row in clean), len(clean)),
        "rejected_hit_rate": _share(total("rejected_hits"), total("rejected_comments")),
        "anchor_validity": _share(total("anchors_valid"), total("findings")),
        "complete_rate": _share(total("complete"), len(told)),
        "findings": total("findings"),
        "tokens": usage.input_tokens + usage.output_tokens,
        "seconds": round(sum(row["seconds"] for row in rows), 3),
        "cost_usd": usage.cost_usd,
        "failures": failures,
        "usage": _usage(usage),
    }


def changed_lines(diffs: Sequence[FileDiff]) -> int:
    """Return how many lines come and go."""
    return sum(sum(1 for _ in diff.added) + sum(1 for _ in diff.removed) for diff in diffs)


def _failure(reviewed: Reviewed, *, missed: bool) -> str:
    """Say why a case has not passed. Silence about what was not read is no good review."""
    if reviewed.out_of_time:
        return "limit"
    if missed:
        return "missed"
    return "false_alarm" if reviewed.findings else "incomplete"


def _is_near(found: Comment, comment: Comment, near: int) -> bool:
    return found.path == comment.path and found.first - near <= comment.last and comment.first - near <= found.last


def _is_anchored(found: Comment, diffs: Sequence[FileDiff]) -> bool:
    """Say whether a finding begins on a line that the diff shows of the file after the change."""
    return any(
        diff.path == found.path and any(line.new == found.first for hunk in diff.hunks for line in hunk.lines)
        for diff in diffs
    )


def _cases(data: Mapping[str, Any], number: int) -> Iterator[ReviewCase]:
    """Yield the cases of a line's object; raises ValueError that says what is wrong, UsageError for a broken diff."""
    name = data.get("id", number)
    if not isinstance(name, str | int) or not 0 < len(str(name)) <= 200:
        raise ValueError("id is to be a short text")
    if "diff" in data:
        diff = _text(data, "diff").encode("utf-8", "surrogatepass")
        if not parse_diff(diff):
            raise ValueError("diff changes no file")
        good, rejected = (tuple(_comments(data, key)) for key in ("comments", "negative_comments"))
        yield ReviewCase(str(name), diff, good, rejected, _texts(data), str(data.get("language", ""))[:50])
        return
    if "correct" not in data or "buggy" not in data:
        raise ValueError("it needs a diff, or correct and buggy")
    path = data.get("path", f"{name}.py")
    if not isinstance(path, str) or not plain_paths([path]):
        raise ValueError("path is to be a path within the repository")
    yield from _planted(str(name), path, _text(data, "correct"), _text(data, "buggy"))


def _planted(name: str, path: str, correct: str, buggy: str) -> Iterator[ReviewCase]:
    """Yield the change that brings a bug in, and the one that mends it."""
    language = PurePosixPath(path).suffix.lstrip(".")
    bringing, mending = _diff(path, correct, buggy), _diff(path, buggy, correct)
    if not bringing:
        raise ValueError("correct and buggy are the same")
    places = difflib.SequenceMatcher(None, correct.splitlines(), buggy.splitlines(), autojunk=False).get_opcodes()
    bugs = tuple(Comment(path, first + 1, max(first + 1, last)) for tag, _, _, first, last in places if tag != "equal")
    yield ReviewCase(f"{name} (bug)", bringing, bugs, texts={path: buggy}, language=language)
    yield ReviewCase(f"{name} (fix)", mending, texts={path: correct}, language=language)


def _diff(path: str, before: str, after: str) -> bytes:
    lines = difflib.unified_diff(
        [f"{line}\n" for line in before.splitlines()],
        [f"{line}\n" for line in after.splitlines()],
        f"a/{path}",
        f"b/{path}",
    )
    return "".join(lines).encode("utf-8", "surrogatepass")


def _comments(data: Mapping[str, Any], key: str) -> Iterator[Comment]:
    rows = data.get(key) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{key} is to be a list of objects")
    for row in rows:
        last = row.get("to_line")
        first = row.get("from_line") or last
        if not isinstance(row.get("path"), str) or not _is_line(first) or not (last is None or _is_line(last)):
            raise ValueError(f"each of {key} needs a path, a from_line and a to_line")
        if row.get("side", "right") != "left":  # lines of the file before the change are not spoken of
            yield Comment(row["path"], first, max(first, last or first), str(row.get("note", "")))


def _texts(data: Mapping[str, Any]) -> Mapping[str, str]:
    texts = data.get("texts") or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("texts is to be an object of paths and texts")
    return texts


def _text(data: Mapping[str, Any], key: str) -> str:
    text = data.get(key)
    if not isinstance(text, str):
        raise ValueError(f"{key} is to be a text")
    return text


def _is_line(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST_LINE


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _usage(usage: Usage) -> dict[str, Any]:
    names = ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd")
    return {name: getattr(usage, name) for name in names}
