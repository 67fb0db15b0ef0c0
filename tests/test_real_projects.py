"""Open-source projects with a planted bug each, fixed through the real CLI by a scripted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Miyabi
from tests.support.sdists import Sdist, unpack
from tests.support.server import call, chat_server, say
from tests.test_codegen import model, result_of

Git = Callable[..., str]


@dataclass(frozen=True)
class Planted:
    """A bug: `right` becomes `wrong` in `path`; `scope` is the line of the function around it."""

    sdist: Sdist
    path: str
    scope: str
    right: str
    wrong: str
    test: str


PLANTED = [
    Planted(
        Sdist("inflection", "inflection-0.5.1", "1a29730d366e996aaacffb2f1f1cb9593dc38e2ddd30c91250c6dde09ea9b417"),
        "inflection/__init__.py",
        "def ordinal(number: int) -> str:",
        "    if number % 100 in (11, 12, 13):",
        "    if number % 100 in (11, 12):",
        "test_ordinal",
    ),
    Planted(
        Sdist("cachetools", "cachetools-8.0.1", "deb1d376d4d28c2f33f3e3058043b005e0af75c35c094bd54053e27d2906ad95"),
        "src/cachetools/__init__.py",
        "class LFUCache(Cache):",
        "        curr = root.next\n        if curr is root:",
        "        curr = root.prev\n        if curr is root:",
        "test_lfu",
    ),
    Planted(
        Sdist("boltons", "boltons-26.2.0", "d39cfd15c1a1c3bd4d705c82252fa9edb8e4f5e8cc039f8e39afac7b1b47e92c"),
        "boltons/iterutils.py",
        "def chunk_ranges(input_size, chunk_size, input_offset=0, overlap_size=0, align=False):",
        "        yield (i, min(i + chunk_size, input_stop))",
        "        yield (i, i + chunk_size)",
        "test_chunk_ranges",
    ),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.sdist.project)
def test_a_planted_bug_is_found_and_fixed(planted: Planted, miyabi: Miyabi, git: Git, tmp_path: Path) -> None:
    root = unpack(planted.sdist, tmp_path)
    file = root / planted.path
    source = file.read_text()
    assert source.count(planted.right) == 1
    file.write_text(source.replace(planted.right, planted.wrong))
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "as published, with a bug"]):
        git(*command, cwd=root)
    line = source[: source.index(planted.right)].count("\n") + 1
    needle = planted.wrong.split("\n")[0].strip()
    patch = "\n".join(
        [
            "*** Begin Patch",
            f"*** Update File: {planted.path}",
            f"@@ {planted.scope}",
            *(f"-{text}" for text in planted.wrong.split("\n")),
            *(f"+{text}" for text in planted.right.split("\n")),
            "*** End Patch",
        ]
    )
    script = [
        call("repo_browser.search", {"path": "", "query": needle}, thought="Where is it?"),
        call("repo_browser.open_file", {"path": planted.path, "line_start": line - 3, "line_end": line + 3}),
        call("container.exec", {"cmd": ["bash", "-lc", f"python -m pytest -q -k {planted.test} 2>&1 | tail -5"]}),
        call("repo_browser.apply_patch", {"patch": patch}),
        call("container.exec", {"cmd": ["bash", "-lc", f"python -m pytest -q -k {planted.test} 2>&1 | tail -5"]}),
        say("The planted bug is gone."),
    ]
    with chat_server(*script) as server:
        ran = miyabi("codegen", "The tests fail: find out why.", *model(server), "--format", "json", cwd=root)
        outputs = [message["content"] for message in server.requests[-1].json["messages"] if message["role"] == "tool"]
    assert ran.code == 0, ran.stderr
    searched, opened, failed, patched, passed = outputs
    assert f"{planted.path}:{line}:" in searched
    assert needle in opened
    assert "failed" in failed
    assert planted.path in patched
    assert "passed" in passed
    assert "failed" not in passed
    result = result_of(ran)
    assert (result["status"], result["files_modified"]) == ("verified", [planted.path])
    tests = [check["tests"] for check in result["checks"]]
    assert sum(len(check["fixed"]) for check in tests) >= 1
    assert not any(check["broken"] or check["still_failing"] for check in tests)
    assert git("show", f"{result['branch']}:{planted.path}", cwd=root) == source.strip()
    assert git("status", "--porcelain", cwd=root) == ""
