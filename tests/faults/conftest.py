"""Who meets the faults: root and an ordinary user. Whatever a test does, no process may outlive its command."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.orphans import watching_for_orphans
from tests.support.users import User, make_user, ordinary_user


@pytest.fixture(params=["root", "ordinary"])
def user(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[User]:
    """A user with a repository; at the end, none of the processes that the test has started may be left."""
    with watching_for_orphans() as orphans:
        if request.param == "ordinary":
            # pytest's own folders are closed to other users.
            with tempfile.TemporaryDirectory(dir="/var/tmp") as top, ordinary_user(Path(top)) as made:
                yield made
        elif os.geteuid() == 0:
            yield make_user(tmp_path)
        else:
            pytest.skip("only root can be root")
        assert orphans.left() == []
