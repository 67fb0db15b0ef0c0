"""What every command that asks a model has open: settings, secrets, servers and the ledger."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miyabi_cli.commands.begun import Begun
from miyabi_cli.events import Event, ProgressMade, WarningRaised
from miyabi_cli.relay import Relay

if TYPE_CHECKING:
    from miyabi_cli.ledger.store import Ledger
    from miyabi_cli.llm.provider import Provider
    from miyabi_cli.llm.table import Servers
    from miyabi_cli.redaction import Redactor
    from miyabi_cli.settings.schema import Settings

Show = Callable[[Event], None]
Secrets = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Access:
    """Settings, and the servers that they name; `warn` is told what a server does that a person should know."""

    settings: Settings
    servers: Servers
    ledger: Ledger
    environ: Mapping[str, str]
    redactor: Redactor
    warn: Relay

    async def provider(
        self,
        command: str,
        run_id: str | None,
        *,
        repository: str = "",
        cost_capped: bool = False,
        warn: Relay | None = None,
    ) -> Provider:
        """Return a provider that puts its requests to the account of `run_id`, a run of `command`, without secrets.

        With None for the run there is no account, and no request may be sent. `cost_capped`: the user has named a cap.
        """
        from miyabi_cli.llm.metering import Account

        account, warn = None, warn or self.warn
        if run_id is not None:
            budget, tell = self.settings.budget, functools.partial(warn, "cost")
            caps = (budget.monthly_usd, budget.per_run_usd)
            stops = budget.on_exceed == "stop"
            account = Account(self.ledger, command, repository, run_id, *caps, cost_capped, stops, tell)
        provider = await self.servers.provider(account, functools.partial(warn, "provider"))
        provider.redactor = self.redactor
        return provider


@contextlib.asynccontextmanager
async def open_access(settings: Settings, show: Show, begun: Begun, secrets: Secrets = ()) -> AsyncIterator[Access]:
    """Open servers and ledger for the block. `begun` learns the secrets before anything is asked of a server; to those
    of environment and settings come `secrets`, names and values. `show` hears of what is no single run's.
    """
    from miyabi_cli.ledger.store import FILE, Ledger
    from miyabi_cli.llm.table import Servers
    from miyabi_cli.places import data_dir
    from miyabi_cli.redaction import redactor_of, secrets_in_environment
    from miyabi_cli.settings.keys import secrets_in_settings

    begun.redactor = redactor_of(secrets_in_environment(os.environ), secrets_in_settings(settings), secrets)

    def tell(what: str) -> None:
        show(ProgressMade(begun.redactor.redact(what)))

    warn = Relay(lambda kind, what: show(WarningRaised(kind, "", begun.redactor.redact(what))))
    async with contextlib.AsyncExitStack() as opened:
        ledger = Ledger(data_dir() / FILE)
        opened.callback(ledger.close)
        servers = Servers(settings, tell, functools.partial(warn, "provider"))
        opened.push_async_callback(servers.close)
        yield Access(settings, servers, ledger, os.environ, begun.redactor, warn)
