"""A model's server opened for a load: its way found, its connections, and the account that it is put to."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from miyabi_cli import __version__
from miyabi_cli.bench.load.connections import Pool, Target
from miyabi_cli.bench.load.drafts import Route, Style, protocol_of, route_of
from miyabi_cli.bench.load.driving import allow_many_files
from miyabi_cli.bench.load.measuring import Load
from miyabi_cli.bench.load.objectives import Objectives
from miyabi_cli.bench.load.prompts import Wish
from miyabi_cli.bench.load.server_metrics import MAX_METRICS_BYTES, read_metrics
from miyabi_cli.bench.load.spending import Spending
from miyabi_cli.errors import ProviderError, UsageError
from miyabi_cli.http import is_loopback, trusted_authorities
from miyabi_cli.ledger.records import Origin
from miyabi_cli.llm.choosing import choose, is_allowed, is_local
from miyabi_cli.llm.failures import connection_error
from miyabi_cli.llm.inspecting.served import Served
from miyabi_cli.llm.inspecting.table import inspect
from miyabi_cli.llm.metering import Account, Metered
from miyabi_cli.llm.prices import find_price
from miyabi_cli.llm.profiles import profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.server import Server
from miyabi_cli.llm.table import OPENERS, Opening
from miyabi_cli.messages import Message, Sampling
from miyabi_cli.redaction import Redactor
from miyabi_cli.settings.schema import Settings

INSPECT_SECONDS = 5.0
METRICS_SECONDS = 5.0  # a server that drips them would hold the load up for ever
COMMAND = "bench serve"
WITH_METRICS = ("vllm", "openai")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A load that may begin, and what the document says of its server."""

    load: Load
    provider: str
    model: str
    server_version: str

    @property
    def protocol(self) -> str:
        """The name of the protocol that is spoken, once the server has shown what it takes."""
        return protocol_of(self.load.route)


@asynccontextmanager
async def open_load(
    settings: Settings,
    account: Account,
    redactor: Redactor,
    wishes: Iterator[Wish],
    style: Style,
    objectives: Objectives | None,
    tell: Tell,
) -> AsyncIterator[Opened]:
    """Open the server that the settings name for a load; `style.whole` holds for vLLM alone where it is not asked for.

    Raises ProviderUnreachable where no connection can be had, ProviderRefused where the key is refused, and
    SettingsError, MachineError, UsageError.
    """
    name = settings.llm.provider if settings.llm.provider != "auto" else await choose(settings)
    if not is_allowed(settings, name):
        hint = "choose a server on this machine, or set llm.local_only to false"
        raise UsageError(f"llm.local_only is set, and the provider {name} is not on this machine", hint=hint)
    provider = await OPENERS[name](Opening(settings, tell, tell, profile_of))
    async with provider:
        provider.redactor = redactor
        route = await route_of(provider.wire)
        style = style if style.whole is not None else replace(style, whole=name == "vllm")
        pool = Pool(_target(route.server))
        try:
            await _check(pool, route.server)
            served = await _served(settings, name)
            allow_many_files()
            price = functools.cache(
                lambda: find_price(name, provider.model_name, route.server.endpoint, settings.prices)
            )
            origin = Origin(name, provider.model_name, account.command, account.repository, account.run_id)
            yield Opened(
                Load(
                    pool,
                    route,
                    style,
                    (replace(wish, text=redactor.redact(wish.text)) for wish in wishes),
                    lambda largest: Spending(account, origin, price(), largest),
                    functools.partial(_learnt, provider, settings, name, account, style),
                    functools.partial(_metrics, route.server if name in WITH_METRICS else None),
                    tell,
                    objectives,
                ),
                name,
                provider.model_name,
                served.version,
            )
        finally:
            pool.close()


def _target(server: Server) -> Target:
    endpoint = server.endpoint
    parts = urlsplit(endpoint)
    if not is_loopback(endpoint) and parts.scheme in getproxies() and not proxy_bypass(parts.hostname or ""):
        hint = f"measure from where {parts.hostname} is reached directly, or let NO_PROXY name it"
        raise UsageError("a proxy stands before the server, and would be measured with it", hint=hint)
    tls = trusted_authorities() if parts.scheme == "https" else None
    key = server.client.headers.get("authorization")
    return Target.of(endpoint, key, f"miyabi/{__version__}", tls, server.client.timeout.read)


async def _check(pool: Pool, server: Server) -> None:
    """Raise ProviderUnreachable where no connection can be had: then there is nothing to measure."""
    try:
        await pool.check()
    except OSError as error:
        failed = httpx.ConnectError(str(error.strerror or error))
        raise connection_error(failed, endpoint=server.endpoint, provider=server.name) from None


async def _served(settings: Settings, name: str) -> Served:
    """Return what the server says of itself; one that says nothing may answer all the same, unless it wants a key."""
    try:
        return await inspect(settings, name, seconds=INSPECT_SECONDS)
    except TimeoutError:
        return Served()
    except ProviderError as error:
        if error.status in (401, 403):
            raise
        return Served()


async def _learnt(
    provider: Provider, settings: Settings, name: str, account: Account, style: Style, wish: Wish
) -> Route:
    """Ask once as every command does, which learns what the server does not understand; return the route since then."""
    endpoint = (await route_of(provider.wire)).server.endpoint
    find = functools.partial(find_price, name, provider.model_name, endpoint, settings.prices)
    metered = Provider(
        Metered(provider.wire, account, find, is_local=is_local(settings, name)), retries=provider.retries
    )
    metered.redactor = provider.redactor
    sampling = Sampling(style.temperature, wish.output_tokens, style.effort, style.seed)
    async for _ in metered.chat([Message("user", wish.text)], sampling=sampling):
        pass
    return await route_of(provider.wire)


async def _metrics(server: Server | None) -> Mapping[str, float]:
    """Return the server's own metrics; nothing where it has none, or does not give them soon."""
    if server is None:
        return {}
    text = bytearray()
    try:
        async with asyncio.timeout(METRICS_SECONDS), server.open("metrics") as response:
            async for block in response.aiter_bytes():
                text += block
                if len(text) > MAX_METRICS_BYTES:
                    break
    except (ProviderError, httpx.HTTPError, TimeoutError):
        return {}
    return read_metrics(text.decode("utf-8", "replace"))
