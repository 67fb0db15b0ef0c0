"""One tree of errors, raised on every floor and turned into exit codes by `app.py` alone.

    MiyabiError
    ├── UsageError               wrong flags or arguments
    │   └── SettingsError        a settings file, a variable or a key is wrong or not trusted
    │       └── NotLocal         `llm.local_only` forbids a provider whose model runs elsewhere
    ├── ProviderError            the model's server: its usage so far is in `usage`
    │   ├── ProviderUnreachable  no connection, or it broke and stayed broken
    │   ├── ProviderRefused      401, 403, 404: key, model or route
    │   │   └── ToolsRefused     the server takes no functions: actions may be asked for as JSON
    │   ├── ProviderOverloaded   429, 503, 5xx: gave up after the retries
    │   ├── RequestTooLarge      the prompt does not fit the model's window
    │   ├── BudgetReached        a request that might pass a cap on money was not sent
    │   └── BrokenReply          a reply that is cut, not JSON or not of the wire's format
    ├── RepositoryError          git, the worktree or a path in it
    │   └── PatchConflict        a patch does not fit the files that are there
    ├── GitHubError              GitHub, or the way to it; `status` where it answered
    ├── SandboxError             no sandbox, or it failed
    └── MachineError             disk, memory, a file that can't be read or written, a model that is not there

This module imports nothing of the project but `messages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miyabi_cli.messages import Usage


class MiyabiError(Exception):
    """An error that a user can act on: `message` is one line, `hint` says what to do."""

    kind = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(MiyabiError):
    kind = "usage"


class SettingsError(UsageError):
    kind = "settings"


class NotLocal(SettingsError):
    kind = "not_local"


class ProviderError(MiyabiError):
    kind = "provider"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        usage: Usage | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """`detail` is the server's own error object, `retry_after` the seconds that it asks to wait."""
        super().__init__(message, hint=hint)
        self.usage = usage or Usage()
        self.status = status
        self.retry_after = retry_after
        self.detail = detail or {}


class ProviderUnreachable(ProviderError):
    kind = "provider_unreachable"


class ProviderRefused(ProviderError):
    """`needs_key`: the server asks for a key, and none was sent."""

    kind = "provider_refused"
    needs_key = False


class ToolsRefused(ProviderRefused):
    kind = "tools_refused"


class ProviderOverloaded(ProviderError):
    kind = "provider_overloaded"


class RequestTooLarge(ProviderError):
    kind = "request_too_large"


class BudgetReached(ProviderError):
    kind = "budget"


class BrokenReply(ProviderError):
    kind = "broken_reply"


class RepositoryError(MiyabiError):
    kind = "repository"


class PatchConflict(RepositoryError):
    kind = "patch_conflict"


class GitHubError(MiyabiError):
    kind = "github"

    def __init__(self, message: str, *, hint: str | None = None, status: int | None = None) -> None:
        """`status` is that of the answer; None where there was none."""
        super().__init__(message, hint=hint)
        self.status = status


class SandboxError(MiyabiError):
    kind = "sandbox"


class MachineError(MiyabiError):
    kind = "machine"
