"""What a benchmark of tasks ends with: an exit code, or the error that all its last trials have ended by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miyabi_cli.errors import (
    BudgetReached,
    MachineError,
    MiyabiError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
    SandboxError,
)
from miyabi_cli.exits import ExitCode

if TYPE_CHECKING:
    from miyabi_cli.bench.codegen import Course
    from miyabi_cli.bench.document import Document

# Of the exit codes of trials of which nothing could be told the first of these is that of all.
WORST_FIRST = (ExitCode.BUG, ExitCode.LIMIT, ExitCode.MACHINE, ExitCode.PROVIDER, ExitCode.USAGE)
HINT = "with --output FILE the same command goes on with what is left"


def exit_code_of_trials(document: Document, course: Course, least: float | None) -> int:
    """Return what the benchmark ends with. Raises MiyabiError where it was given up."""
    from miyabi_cli.bench.codegen import common_kind
    from miyabi_cli.bench.trials import UNASKED

    if course.given_up is not None:
        raise _given_up(common_kind(course.given_up), str(course.given_up.get("message") or "a cap was reached"))
    codes = {row.get("exit_code", ExitCode.MACHINE) for row in document.results if row["passed"] is None}
    codes |= {ExitCode.LIMIT for row in document.results if common_kind(dict(row)) == UNASKED}
    if codes:
        return next((code for code in WORST_FIRST if code in codes), ExitCode.MACHINE)
    return ExitCode.NOT_GOOD_ENOUGH if shortfall(document, least) else ExitCode.OK


def shortfall(document: Document, least: float | None) -> str:
    """Return what says that the pass rate is below the `least`, a share or above 1 per cent; "" where it is not."""
    from miyabi_cli.report.figures import share

    rate = document.summary["pass_rate"]
    wanted = (least / 100 if least > 1 else least) if least is not None else 0.0
    if rate is not None and rate >= wanted:
        return ""
    told = "nothing was measured" if rate is None else f"the pass rate is {share(rate)}"
    return f"{told}, and has to be at least {100 * wanted:g} %\n"


def error_of_trials(document: Document, reason: str = "", hint: str = HINT) -> str:
    """Return the lines that say of how many trials nothing can be told, and why of the first; "" for none.

    `reason` is for documents that hold no messages, `hint` for benchmarks that keep no journal.
    """
    from miyabi_cli.report.display import counted, plain_text

    untold = [row for row in document.results if row["passed"] is None]
    if not untold:
        return ""
    why = plain_text(str(untold[0].get("message") or reason or untold[0]["failure"]))
    return f"error: {counted(len(untold), 'trial')} of which nothing can be told: {why}\nhint: {hint}\n"


def _given_up(kind: str, message: str) -> MiyabiError:
    """Return the error that ends a benchmark whose last trials all ended by the same."""
    from miyabi_cli.bench.codegen import MOST_IN_A_ROW
    from miyabi_cli.bench.trials import UNASKED

    told = f"{MOST_IN_A_ROW} trials in a row: {message}"
    if kind == UNASKED:
        return BudgetReached(told, hint=HINT)
    kinds = {"sandbox": SandboxError, "machine": MachineError}
    if kind in kinds:
        return kinds[kind](told, hint=HINT)
    provider = {one.kind: one for one in (ProviderUnreachable, ProviderRefused, ProviderOverloaded)}
    return provider[kind](told, hint=HINT)
