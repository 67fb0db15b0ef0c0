"""What a person should know of a patch that is verified all the same, and what a model may still mend in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from miyabi_cli.codegen.documenting import Undocumented
from miyabi_cli.codegen.weakening import weakened_tests
from miyabi_cli.workspace.check_records import CheckRun
from miyabi_cli.workspace.diffs import FileDiff
from miyabi_cli.workspace.linters import new_findings

LISTED = 20  # concerns of one kind


@dataclass(frozen=True, slots=True)
class Concern:
    """One warning of the result. `mendable`: the model is asked once to do something about it."""

    kind: str
    path: str
    message: str
    mendable: bool = False


def of_tests(diffs: Iterable[FileDiff]) -> Iterator[Concern]:
    """Yield how the patch weakens tests."""
    for found in weakened_tests(diffs):
        yield Concern("weakened_test", found.path, found.message)


def of_new_tests(added: Iterable[str], on_base: Mapping[str, str]) -> Iterator[Concern]:
    """Yield the added tests that pass on the base's code too: they do not tell whether the change works.

    `on_base` is how each test ended there; one that is not in it could not even be loaded, so it tells.
    """
    for name in added:
        if on_base.get(name) == "pass":
            yield Concern("test_not_telling", "", f"{name} passes without the change too", mendable=True)


def of_findings(before: Sequence[CheckRun], after: Sequence[CheckRun]) -> Iterator[Concern]:
    """Yield what linters find after that they did not find before."""
    known = {run.name: run.findings for run in before}
    for run in after:
        for finding in new_findings(known.get(run.name, ()), run.findings):
            rule = f" [{finding.rule}]" if finding.rule else ""
            place = f"line {finding.line}: " if finding.line else ""
            yield Concern("lint", finding.path, f"{place}{finding.message}{rule} ({finding.source})", mendable=True)


def of_documentation(found: Iterable[Undocumented]) -> Iterator[Concern]:
    """Yield the public definitions that lack documentation."""
    for one in found:
        message = f"line {one.line}: {one.name} is public and has no documentation"
        yield Concern("undocumented", one.path, message, mendable=True)


def bounded(concerns: Iterable[Concern]) -> tuple[Concern, ...]:
    """Return the concerns, at most twenty of a kind and a line that counts the others."""
    kept: list[Concern] = []
    counts: Counter[str] = Counter()
    for concern in concerns:
        counts[concern.kind] += 1
        if counts[concern.kind] <= LISTED:
            kept.append(concern)
    more = (Concern(kind, "", f"and {count - LISTED} more") for kind, count in counts.items() if count > LISTED)
    return (*kept, *more)
