"""Shows the rows of `triage` as they come, puts their labels on the issues, and keeps what is said at the end."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from miyabi_cli.errors import MiyabiError, UsageError
from miyabi_cli.events import WarningRaised
from miyabi_cli.exits import ExitCode
from miyabi_cli.report.display import plain_text
from miyabi_cli.report.streams import Streams

if TYPE_CHECKING:
    from miyabi_cli.commands.access import Show
    from miyabi_cli.redaction import Redactor
    from miyabi_cli.triage.applying import Applier
    from miyabi_cli.triage.issue import Unreadable
    from miyabi_cli.triage.row import Row

SHOWN_PROBLEMS = 3


@dataclass(slots=True)
class Outcome:
    """What there is to say at the end. `failure` is the first that was no fault of an entry's own."""

    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    failure: MiyabiError | None = None

    def unreadable(self, entry: Unreadable) -> None:
        """Note an entry that is no issue, or that could not be had."""
        self.failed(f"{entry.place}: {entry.problem}", entry.failure)

    def failed(self, problem: str, failure: MiyabiError | None) -> None:
        """Note what has kept an issue from its row, or from its labels."""
        self.problem_count += 1
        self.failure = self.failure or failure
        if len(self.problems) < SHOWN_PROBLEMS:
            self.problems.append(problem)

    def end(self) -> ExitCode:
        """Return the exit code of success. Raises the failure, or UsageError for entries that are no issues."""
        if not self.problem_count:
            return ExitCode.OK
        more = self.problem_count - len(self.problems)
        told = "; ".join(self.problems) + (f"; and {more} more" if more else "")
        if self.failure is None:
            raise UsageError(told, hint="all that could be read has its row")
        error = copy.copy(self.failure)
        error.message = told
        raise error


class Rows:
    """Shows each row as it comes, and puts its labels on the issue where there is an `applier`.

    The end of a `with` ends the output, but where an error has left it without a row: then that is the output. `begins`
    is called before the first row.
    """

    def __init__(
        self,
        format: str,
        streams: Streams,
        redactor: Redactor,
        applier: Applier | None,
        outcome: Outcome,
        show: Show,
        begins: Callable[[], None],
    ) -> None:
        from miyabi_cli.report.triage import OUTPUTS

        self._output = OUTPUTS[format](streams)
        self._redactor, self._applier, self._outcome, self._tell = redactor, applier, outcome, show
        self._console = None if streams.quiet else streams.console(streams.talk)
        self._escalates = format != "text"  # which says so itself
        self._begins, self._is_begun = begins, False
        self._told = ""

    async def show(self, row: Row) -> None:
        """Show a row, then write its labels: a row is not lost where GitHub refuses."""
        from miyabi_cli.report.triage import escalation_of

        if not self._is_begun:
            self._is_begun = True
            self._begins()
        data = self._redactor.redact_data(row.data())
        self._output.row(data)
        if row.error and row.error["message"] != self._told:
            self._told = row.error["message"]
            self._warn(f"#{row.number}: {row.error['message']}: rules have triaged it")
        if self._escalates and (escalation := escalation_of(data)):
            self._say(escalation)
        await self.apply(row.number, row.labels)

    async def apply(self, number: int, labels: Sequence[str]) -> None:
        """Put labels on an issue, where that is asked for; a failure is told at the end."""
        if self._applier is None:
            return
        try:
            change = await self._applier.add_missing(number, labels)
        except MiyabiError as error:
            self._outcome.failed(f"#{number}: {error.message}", error)
            return
        self._say(self._redactor.redact(str(change)))

    def _say(self, text: str) -> None:
        if self._console is not None:
            self._console.print(plain_text(text), soft_wrap=True)

    def _warn(self, text: str) -> None:
        self._tell(WarningRaised("triage", "", self._redactor.redact(text)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_begun or kind is None:
            self._output.close()
