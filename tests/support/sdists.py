"""Source distributions from the package index, fetched once and checked against their hashes."""

from __future__ import annotations

import hashlib
import os
import tarfile
import urllib.parse
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from miyabi_cli.llm.local.index import authorities, index_url, project_url
from miyabi_cli.places import cache_dir

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass(frozen=True)
class Sdist:
    """A source distribution: its project, its file name without `.tar.gz`, its sha256."""

    project: str
    name: str
    sha256: str


def unpack(sdist: Sdist, folder: Path) -> Path:
    """Unpack a source distribution into `folder`; return its top. Skips the test where no index is reached."""
    with tarfile.open(fileobj=BytesIO(_fetched(sdist))) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name


def _fetched(sdist: Sdist) -> bytes:
    kept = cache_dir("tests") / f"{sdist.name}.tar.gz"
    if kept.exists() and _is_right(kept.read_bytes(), sdist):
        return kept.read_bytes()
    try:
        data = _download(sdist)
    except httpx.HTTPError as error:
        pytest.skip(f"no package index is reached: {error}")
    assert _is_right(data, sdist), f"{sdist.name} is not what it was"
    kept.write_bytes(data)
    return data


def _download(sdist: Sdist) -> bytes:
    index = index_url(os.environ)
    with httpx.Client(verify=authorities(os.environ), timeout=60, follow_redirects=True) as client:
        page = client.get(project_url(index, sdist.project), headers={"accept": JSON}).raise_for_status()
        (url,) = [file["url"] for file in page.json()["files"] if file["filename"] == f"{sdist.name}.tar.gz"]
        return client.get(urllib.parse.urljoin(str(page.url), url)).raise_for_status().content


def _is_right(data: bytes, sdist: Sdist) -> bool:
    return hashlib.sha256(data).hexdigest() == sdist.sha256
