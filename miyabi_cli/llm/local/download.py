"""Downloading one file so that nothing is fetched twice: broken and interrupted downloads go on where they ended."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx

from miyabi_cli.llm.local.index import without_credentials

TRIES = 4
PAUSE_SECONDS = 0.3
RETRIED = (408, 425, 429, 500, 502, 503, 504)

Received = Callable[[int], None]


class SourceFailed(Exception):
    """A source can't give the file; the text says why, without credentials."""


async def download(
    client: httpx.AsyncClient,
    url: str,
    path: Path,
    received: Received,
    *,
    size: int | None = None,
    patient: bool = False,
) -> None:
    """Fetch a URL into a file, from the end of what the file already holds (RFC 9110, range requests).

    `received` hears how many bytes the file holds; `size` is how many it must hold in the end, where that is known.
    A break is tried again, `TRIES` times without any bytes; a server of which nothing was ever heard only where
    `patient` says so. Raises SourceFailed, OSError.
    """
    failures = 0
    while True:
        start = _held(path, size)
        if start == size:
            received(start)
            return
        try:
            await _receive(client, url, path, start, size, received)
            return
        except httpx.HTTPError as error:
            failures = 1 if _held(path, size) > start else failures + 1
            silent = isinstance(error, httpx.ConnectError | httpx.TimeoutException) and not _held(path, size)
            if failures >= TRIES or (silent and not patient):
                raise SourceFailed(f"{without_credentials(url)}: {reason(error)}") from None
            await asyncio.sleep(PAUSE_SECONDS * failures)
        except httpx.InvalidURL:
            raise SourceFailed(f"{without_credentials(url)} can't be asked for") from None


def _held(path: Path, size: int | None) -> int:
    held = path.stat().st_size if path.exists() else 0
    return 0 if size is not None and held > size else held


async def _receive(
    client: httpx.AsyncClient, url: str, path: Path, start: int, size: int | None, received: Received
) -> None:
    # A coded body (gzip) could not be resumed by its bytes.
    headers = {"accept-encoding": "identity", **({"range": f"bytes={start}-"} if start else {})}
    async with client.stream("GET", url, headers=headers, follow_redirects=True) as response:
        if response.status_code == 416 and response.headers.get("content-range") == f"bytes */{start}":
            return
        if response.status_code == 416 and size is None:
            os.truncate(path, 0)  # longer than the file there: not a beginning of it
            raise httpx.HTTPError(f"HTTP {response.status_code}")
        start = _start(response, start)
        _check_size(response, start, size)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as file:
            file.truncate(start)
            file.seek(start)
            held = start
            async for piece in response.aiter_raw():
                held += len(piece)
                if size is not None and held > size:
                    raise SourceFailed(f"{without_credentials(url)} sends more than {size} bytes")
                file.write(piece)
                received(held)


def _start(response: httpx.Response, start: int) -> int:
    """Return the offset at which the body begins."""
    if response.status_code == 206:
        given = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
        if given and int(given[1]) <= start:
            return int(given[1])
        raise SourceFailed(f"{without_credentials(str(response.url))} sends another range than it was asked for")
    if response.status_code in RETRIED:
        raise httpx.HTTPError(f"HTTP {response.status_code}")
    if response.status_code != 200:
        raise SourceFailed(f"{without_credentials(str(response.url))}: HTTP {response.status_code}")
    return 0


def _check_size(response: httpx.Response, start: int, size: int | None) -> None:
    length = response.headers.get("content-length", "")
    if size is not None and length.isdigit() and start + int(length) != size:
        whole = start + int(length)
        raise SourceFailed(f"{without_credentials(str(response.url))} has {whole} bytes and not {size}")


def reason(error: httpx.HTTPError) -> str:
    """Return an error of httpx in words."""
    # httpx's texts hold no credentials, but a time-out has no text at all.
    return " ".join(str(error).split()) or type(error).__name__
