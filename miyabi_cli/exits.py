"""Exit codes, and the one table from errors to them; the table is proven complete by a test."""

from __future__ import annotations

from enum import IntEnum

from miyabi_cli.errors import (
    BudgetReached,
    GitHubError,
    MachineError,
    MiyabiError,
    ProviderError,
    RepositoryError,
    SandboxError,
    UsageError,
)


class ExitCode(IntEnum):
    """What a command's end means to the caller."""

    OK = 0
    NOT_GOOD_ENOUGH = 1
    USAGE = 2
    PROVIDER = 3
    MACHINE = 4
    LIMIT = 5
    BUG = 70
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES: dict[type[MiyabiError], ExitCode] = {
    UsageError: ExitCode.USAGE,
    ProviderError: ExitCode.PROVIDER,
    BudgetReached: ExitCode.LIMIT,
    RepositoryError: ExitCode.MACHINE,
    GitHubError: ExitCode.MACHINE,
    SandboxError: ExitCode.MACHINE,
    MachineError: ExitCode.MACHINE,
}


def exit_code_of(error: MiyabiError) -> ExitCode:
    """Return the code of the nearest class of an error that is in the table."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
