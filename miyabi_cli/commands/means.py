"""What runs in a repository work with, opened for a command: repository, model, GitHub; and each run's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_cli.commands import flags
from miyabi_cli.commands.access import Access, Secrets, Show, open_access
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.github import find_github
from miyabi_cli.events import WarningRaised
from miyabi_cli.relay import Relay

if TYPE_CHECKING:
    from miyabi_cli.codegen.means import Means
    from miyabi_cli.codegen.request import CodegenRequest
    from miyabi_cli.github.client import GitHub
    from miyabi_cli.workspace.repository import Repository


@dataclass(frozen=True, slots=True)
class Shared:
    """What all runs of a command have in common."""

    access: Access
    repository: Repository
    github: GitHub | None


@contextlib.asynccontextmanager
async def open_shared(
    folder: Path,
    chosen: dict[str, Any],
    config: Path | None,
    show: Show,
    begun: Begun,
    *,
    on_github: bool = False,
    unborn: bool = False,
) -> AsyncIterator[Shared]:
    """Open repository, settings and, if asked for, GitHub; close them after the block, and what its runs have opened.

    `unborn`: a repository without a commit will do. `begun` learns the secrets before anything is asked of a server;
    `show` hears of what is no single run's.
    """
    from miyabi_cli.workspace.repository import open_repository, secrets_in_configuration

    repository = await asyncio.to_thread(open_repository, folder, unborn=unborn)
    settings = flags.resolve_settings(chosen, config, repository.root)
    secrets: Secrets = await asyncio.to_thread(secrets_in_configuration, repository)
    async with contextlib.AsyncExitStack() as opened:
        github = None
        if on_github:

            def waits(what: str) -> None:
                show(WarningRaised("github", "", begun.redactor.redact(what)))

            github = await find_github(repository, settings, waits)
            opened.push_async_callback(github.close)
            secrets = [*secrets, *([(github.token.name, github.token.value)] if github.token else [])]
        access = await opened.enter_async_context(open_access(settings, show, begun, secrets))
        yield Shared(access, repository, github)


async def means_of(
    shared: Shared, request: CodegenRequest, run_id: str | None, warn: Relay, *, command: str = "codegen"
) -> Means:
    """Return what one run works with: a sandbox with a disk quota of its own, and a provider that puts its requests to
    the account of `run_id`. With None there is no account, and none may be sent.
    """
    from miyabi_cli.codegen.means import Means
    from miyabi_cli.workspace.policy import policy_of
    from miyabi_cli.workspace.sandbox import open_sandbox

    access, settings = shared.access, shared.access.settings
    root = shared.repository.root
    policy = policy_of(settings.sandbox, settings.limits)
    sandbox = open_sandbox(settings.sandbox.mode, repository=root, environ=access.environ, policy=policy)
    provider = await access.provider(command, run_id, repository=str(root), cost_capped=request.cost_capped, warn=warn)
    return Means(settings, shared.repository, provider, sandbox, access.environ, access.redactor, shared.github, warn)
