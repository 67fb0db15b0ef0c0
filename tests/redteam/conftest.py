"""The four machines of the table, each besieged once for all of its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redteam.rows import TABLE, SandboxKind
from tests.redteam.siege import Siege, Who, besieged_user, lay_siege, machine_of

CELLS: tuple[tuple[Who, SandboxKind], ...] = (
    ("root", "bubblewrap"),
    ("root", "landlock"),
    ("ordinary user", "bubblewrap"),
    ("ordinary user", "landlock"),
)


def besiege(who: Who, sandbox: SandboxKind) -> Iterator[Siege]:
    """Make a machine, let all attacks of the table be tried on it, and clear it away at the end."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        rows = [row for row in TABLE if row.calls and (sandbox != "off" or row.reaches is not None)]
        with besieged_user(who, sandbox, Path(folder)) as user, machine_of(user) as machine:
            yield lay_siege(sandbox, machine, rows)


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def siege(request: pytest.FixtureRequest) -> Iterator[Siege]:
    """One of the four: who runs miyabi, and the sandbox that this machine has for it."""
    yield from besiege(*request.param)


@pytest.fixture(scope="module", params=["root", "ordinary user"])
def undefended(request: pytest.FixtureRequest) -> Iterator[Siege]:
    """The same without a sandbox: the attacks that take nothing away from the machine itself."""
    yield from besiege(request.param, "off")
