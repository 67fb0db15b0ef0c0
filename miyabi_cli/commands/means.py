"""What runs work with, opened for a command: repository, settings, secrets, servers, GitHub; and each run's own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miyabi_cli.commands import flags
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.github import find_github
from miyabi_cli.events import Event, ProgressMade, WarningRaised

if TYPE_CHECKING:
    from miyabi_cli.codegen.means import Means, Relay
    from miyabi_cli.codegen.request import CodegenRequest
    from miyabi_cli.github.client import GitHub
    from miyabi_cli.ledger.store import Ledger
    from miyabi_cli.llm.metering import Account
    from miyabi_cli.llm.table import Servers
    from miyabi_cli.redaction import Redactor
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.workspace.repository import Repository

Show = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all runs of a command have in common; `warn` is told what a server does that a person should know."""

    settings: Settings
    repository: Repository
    servers: Servers
    ledger: Ledger
    environ: Mapping[str, str]
    redactor: Redactor
    github: GitHub | None
    warn: Relay


@contextlib.asynccontextmanager
async def open_shared(
    folder: Path, chosen: dict[str, Any], config: Path | None, show: Show, begun: Begun, *, on_github: bool = False
) -> AsyncIterator[Shared]:
    """Open repository, settings and, if asked for, GitHub; close them after the block, and what its runs have opened.

    `begun` learns the secrets before anything is asked of a server; `show` hears of what is no single run's.
    """
    from miyabi_cli.codegen.means import Relay
    from miyabi_cli.ledger.store import FILE, Ledger
    from miyabi_cli.llm.table import Servers
    from miyabi_cli.places import data_dir
    from miyabi_cli.redaction import redactor_of, secrets_in_environment
    from miyabi_cli.settings.keys import secrets_in_settings
    from miyabi_cli.workspace.repository import open_repository, secrets_in_configuration

    repository = await asyncio.to_thread(open_repository, folder)
    settings = flags.resolve_settings(chosen, config, repository.root)
    configured = await asyncio.to_thread(secrets_in_configuration, repository)
    environment = secrets_in_environment(os.environ)
    begun.redactor = redactor_of(environment, secrets_in_settings(settings), configured)

    def tell(what: str) -> None:
        show(ProgressMade(begun.redactor.redact(what)))

    warn = Relay(lambda kind, what: show(WarningRaised(kind, "", begun.redactor.redact(what))))

    async with contextlib.AsyncExitStack() as opened:
        github = None
        if on_github:
            github = await find_github(repository, settings, functools.partial(warn, "github"))
            opened.push_async_callback(github.close)
            known = [(github.token.name, github.token.value)] if github.token else []
            begun.redactor = redactor_of(environment, secrets_in_settings(settings), configured, known)
        ledger = Ledger(data_dir() / FILE)
        opened.callback(ledger.close)
        servers = Servers(settings, tell, functools.partial(warn, "provider"))
        opened.push_async_callback(servers.close)
        yield Shared(settings, repository, servers, ledger, os.environ, begun.redactor, github, warn)


async def means_of(shared: Shared, request: CodegenRequest, run_id: str | None, warn: Relay) -> Means:
    """Return what one run works with: a sandbox with a disk quota of its own, and a provider that puts its requests to
    the account of `run_id`. With None there is no account, and none may be sent.
    """
    from miyabi_cli.codegen.means import Means
    from miyabi_cli.workspace.policy import policy_of
    from miyabi_cli.workspace.sandbox import open_sandbox

    settings = shared.settings
    sandbox = open_sandbox(
        settings.sandbox.mode,
        repository=shared.repository.root,
        environ=shared.environ,
        policy=policy_of(settings.sandbox, settings.limits),
    )
    account = _account(shared, request, run_id, functools.partial(warn, "cost")) if run_id else None
    provider = await shared.servers.provider(account)
    provider.redactor = shared.redactor
    return Means(settings, shared.repository, provider, sandbox, shared.environ, shared.redactor, shared.github, warn)


def _account(shared: Shared, request: CodegenRequest, run_id: str, tell: Callable[[str], None]) -> Account:
    from miyabi_cli.llm.metering import Account

    budget = shared.settings.budget
    return Account(
        shared.ledger,
        "codegen",
        str(shared.repository.root),
        run_id,
        budget.monthly_usd,
        budget.per_run_usd,
        named=request.cost_capped,
        tell=tell,
    )
