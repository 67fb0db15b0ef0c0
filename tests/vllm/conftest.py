"""One real vLLM for all tests of this folder. They run where `MIYABI_TEST_VLLM` names its virtual environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vllm.server import VllmServer, vllm_server

INSTALLED = os.environ.get("MIYABI_TEST_VLLM", "")
collect_ignore_glob = [] if INSTALLED else ["test_*.py"]


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    """The server. It takes about a minute to boot."""
    with vllm_server(Path(INSTALLED), tmp_path_factory.mktemp("vllm")) as server:
        yield server
