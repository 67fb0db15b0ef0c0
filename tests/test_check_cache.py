"""The results that are kept of the base's checks."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from miyabi_cli.workspace.check_cache import CheckCache, check_key
from miyabi_cli.workspace.check_records import Check, CheckRun, TestFailure
from tests.support.trees import make_environment, write_tree

RUN = CheckRun("a", "b", "fail", 1.5, {"t": "fail", "u": "pass"}, "é", 1, (TestFailure("t", "m", "d"),))


def test_what_was_put_is_got_back(tmp_path: Path) -> None:
    cache = CheckCache(tmp_path / "checks")
    assert cache.get("key") is None
    assert cache.put("key", (RUN, replace(RUN, name="b")))
    assert cache.get("key") == (RUN, replace(RUN, name="b"))
    assert cache.get("other") is None


def test_what_is_not_conclusive_is_not_kept(tmp_path: Path) -> None:
    cache = CheckCache(tmp_path)
    assert not cache.put("key", (RUN, replace(RUN, conclusive=False)))
    assert not cache.put("none", ())
    assert cache.get("key") is cache.get("none") is None


@pytest.mark.parametrize("damage", ["torn", "empty", "other", "list", "fields", "version"])
def test_a_damaged_entry_is_a_miss(tmp_path: Path, damage: str) -> None:
    cache = CheckCache(tmp_path)
    cache.put("key", (RUN,))
    (path,) = tmp_path.iterdir()
    text = path.read_text()
    damaged = {
        "torn": text[:-20],
        "empty": "",
        "other": "{}",
        "list": "[]",
        "fields": text.replace('"seconds"', '"unknown"'),
        "version": text.replace('"version": 3', '"version": 99'),
    }
    assert damaged[damage] != text
    path.write_text(damaged[damage])
    assert cache.get("key") is None
    cache.put("key", (RUN,))
    assert cache.get("key") == (RUN,)


def test_old_entries_end(tmp_path: Path) -> None:
    cache = CheckCache(tmp_path)
    cache.put("old", (RUN,))
    (path,) = tmp_path.iterdir()
    (tmp_path / "killed.part").write_text("half")
    long_ago = time.time() - 31 * 24 * 3600
    for entry in tmp_path.iterdir():
        os.utime(entry, (long_ago, long_ago))
    assert cache.get("old") is None
    cache.put("new", (RUN,))
    assert len(list(tmp_path.iterdir())) == 1
    assert not path.exists()


def test_their_number_is_bounded(tmp_path: Path) -> None:
    cache = CheckCache(tmp_path)
    for number in range(205):
        cache.put(str(number), (RUN,))
    assert len(list(tmp_path.iterdir())) == 200
    assert cache.get("204") == (RUN,)


def test_a_folder_that_can_not_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not CheckCache(tmp_path / "file/below").put("key", (RUN,))


def test_the_key_follows_what_the_result_depends_on(tmp_path: Path) -> None:
    make_environment(tmp_path / ".venv", "pytest")
    environ = {"PATH": "/usr/bin:/bin"}
    check = Check("a", "pytest")

    def key(
        tree: str = "tree",
        checks: tuple[Check, ...] = (check,),
        kind: str = "off",
        path: str = environ["PATH"],
        extra: tuple[str, ...] = (),
    ) -> str:
        return check_key(tree, checks, sandbox_kind=kind, repository=tmp_path, environ={"PATH": path}, extra=extra)

    keys = [key(), key(tree="other"), key(kind="bubblewrap"), key(path="/bin"), key(extra=("x",))]
    keys += [key(checks=(replace(check, **change),)) for change in ({"command": "x"}, {"timeout": 1.0})]
    keys.append(key(checks=(replace(check, requested=True),)))
    assert key() == keys[0]
    site = next((tmp_path / ".venv/lib").glob("*/site-packages"))
    write_tree(site, {"installed/__init__.py": ""})
    keys.append(key())
    write_tree(tmp_path, {"node_modules/.package-lock.json": "{}"})
    keys.append(key())
    write_tree(tmp_path, {"node_modules/.package-lock.json": "{ }"})
    keys.append(key())
    assert len(set(keys)) == len(keys)
