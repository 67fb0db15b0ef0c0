"""The documents of `miyabi bench`: read back from strangers, what they ran on, as tables and as a page in a browser."""

from __future__ import annotations

import asyncio
import getpass
import html
import io
import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from miyabi_cli.bench.comparing import compare
from miyabi_cli.bench.document import KINDS, Document, parse_document
from miyabi_cli.bench.environment import describe_environment
from miyabi_cli.commands.bench_output import open_outlets
from miyabi_cli.errors import MachineError, MiyabiError, UsageError
from miyabi_cli.report.bench import write_document
from miyabi_cli.report.html.bench import render_documents
from miyabi_cli.report.html.charts import Reading, Series, chart_by_load, scatter
from miyabi_cli.report.streams import Streams
from miyabi_cli.settings.schema import Settings
from tests.conftest import ROOT, Miyabi
from tests.support.chromium import open_page
from tests.support.schemas import validate
from tests.support.server import chat_server, say
from tests.test_run_page import EVIL, Page, assert_for_every_reader, assert_harmless, luminance

HARDWARE = {"processor": "a processor", "cores": 2, "memory_bytes": 8 << 30, "gpus": [{"name": "H200"}]}
ENVIRONMENT = {"provider": "vllm", "model": "a-model", "server_version": "0.11", "hardware": HARDWARE, "seeds": [7]}
USAGE = {
    "requests": 3,
    "input_tokens": 900,
    "cached_tokens": 0,
    "output_tokens": 100,
    "reasoning_tokens": 0,
    "cost_usd": 0.01,
}


def spread(mean: float, reach: float | None = None) -> dict[str, Any]:
    """Return a distribution around a mean, with intervals that reach so far to both sides, or without any."""
    figures = {"mean": mean, "p50": mean, "p90": 2 * mean, "p99": 3 * mean}
    if reach is None:
        return figures
    return {**figures, "intervals": {name: [value - reach, value + reach] for name, value in figures.items()}}


def level(concurrency: int, mean: float, reach: float | None = None, **more: Any) -> dict[str, Any]:
    times = {name: spread(mean, reach) for name in ("ttft_ms", "itl_ms", "e2e_ms")}
    rates = {"output_tokens_per_s": 1e5 / mean, "requests_per_min": 6e4 / mean, "goodput": 1.0}
    return {"concurrency": concurrency, "requests": 100, "errors": {}, **times, **rates, **more}


def trial(name: str, passed: bool | None, cost: float = 0.01, **more: Any) -> dict[str, Any]:
    status = "verified" if passed else "unverified"
    usage = {**USAGE, "cost_usd": cost}
    return {"id": name, "trial": 1, "passed": passed, "status": status, "seconds": 5.0, "usage": usage, **more}


def document(kind: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    parts = {"environment": ENVIRONMENT, "settings": {}, "summary": {}, **more}
    return {"version": 1, "kind": kind, **parts, "results": list(results)}


def read(data: Any) -> Document:
    return parse_document(json.dumps(data).encode(), "a.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"version": 1, "kind": "serve", "summary": NaN}', "no JSON"),
        (b'{"version": 1, "kind": "serve", "summary": 1e999}', "no JSON"),
        (b'{"version": 1, "kind": "serve", "summary": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"[1]", "no document"),
        (b'{"run_id": "a", "version": 1}', "no document"),
        (b'{"version": "1", "kind": "serve"}', "no document"),
        (b'{"version": 2, "kind": "serve"}', "is of version 2, and this miyabi reads 1"),
        (b'{"version": 1, "kind": "compare"}', "of no kind that is known: compare"),
        (b'{"version": 1, "kind": "serve"}', "damaged: data must contain"),
        (json.dumps(document("serve", {"requests": 1})).encode(), "data.results[0]"),
        (json.dumps(document("serve", level(1, 5, errors=[]))).encode(), "data.results[0].errors must be object"),
        (json.dumps(document("codegen", {"id": "a"})).encode(), "data.results[0] must contain"),
        (json.dumps(document("triage", {"id": 3})).encode(), "data.results[0].id must be string"),
    ],
)
def test_what_is_no_document_is_a_usage_error(content: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as found:
        parse_document(content, "a.json")
    assert found.value.message.startswith("a.json")
    assert found.value.hint


json_values = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=40)
@given(
    some.sampled_from(KINDS),
    some.dictionaries(some.sampled_from(sorted(level(1, 2) | trial("a", True))), json_values),
    some.dictionaries(some.sampled_from(["slo", "missed", "pass_rate", "pass_at", "tasks", "failures"]), json_values),
)
def test_a_hostile_document_is_refused_or_becomes_a_page(kind: str, one: Any, summary: Any) -> None:
    whole = level(1, 2) if kind == "serve" else trial("a", True)
    environment = {**ENVIRONMENT, **{name: value for name, value in one.items() if name not in ENVIRONMENT}}
    try:
        found = read(document(kind, {**whole, **one}, summary=summary, settings=one, environment=environment))
    except MiyabiError:
        return
    written = io.StringIO()
    write_document(found, Streams(written, written))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", written.getvalue())
    assert_harmless(Page(render_documents([("", found)]).decode()))
    assert_harmless(Page(render_documents([("a", found), ("b", found)], compare(found, found), 0).decode()))


def test_a_page_of_two_shows_what_strangers_wrote_as_text() -> None:
    evil = {"model": EVIL, "provider": EVIL, "flags": [EVIL], "hardware": {"gpus": [{"name": EVIL}]}}
    results = [trial(f"{EVIL}{number}", number > 2, failure=EVIL, effort=EVIL, language=EVIL) for number in range(5)]
    summary = {"failures": {EVIL: 3}, "pass_rate": 0.4, EVIL: 3}
    one = read(document("codegen", *results, environment=evil, settings={EVIL: EVIL}, summary=summary))
    failed = level(1, 5, errors={EVIL: 2})
    two = read(document("serve", failed, environment=evil, summary={"slo": EVIL, "missed": {EVIL: [EVIL]}}))
    for found in (one, two):
        page = Page(render_documents([(EVIL, found)]).decode())
        assert_harmless(page)
        assert_for_every_reader(page)
        assert "⟨U+202E⟩gnp.exe" in page.text


def test_the_environment_names_the_machine_and_no_person(tmp_path: Path, repository: Path, git: Any) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 570.86.15'\necho 'broken line'\n")
    program.chmod(0o700)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/home/somebody"}
    with chat_server() as server:
        chosen = Settings.model_validate({"llm": {"openai": {"endpoint": server.url, "api_key": "sk-topsecret1"}}})
        told = asyncio.run(
            describe_environment(
                chosen,
                provider="openai",
                model="m",
                flags=["--output", "/home/somebody/x.json"],
                seeds=[3],
                repository=repository,
                environ=environ,
            )
        )
    validate(document("serve", level(1, 5), environment=told), "bench")
    assert told["hardware"]["gpus"] == [
        {"name": "NVIDIA H200", "memory_bytes": 143771 << 20, "driver": "570.86.15"},
    ]
    assert told["hardware"]["cores"] >= 1
    assert told["hardware"]["memory_bytes"] > 1 << 28
    assert (told["flags"], told["seeds"], told["model"]) == (["--output", "~/x.json"], [3], "m")
    assert told["commit"] == git("rev-parse", "HEAD", cwd=repository).strip()
    text = json.dumps({**told, "endpoint": ""})
    for secret in ("sk-topsecret1", "somebody", socket.gethostname(), f"/{getpass.getuser()}/"):
        assert secret not in text


def test_a_benchmark_is_a_document_a_table_and_a_page_in_a_browser(miyabi: Miyabi, tmp_path: Path) -> None:
    log, said = tmp_path / "network.json", tmp_path / "console.log"
    with chat_server(*[say("one two three")] * 12) as server:
        common = ("bench", "serve", "--endpoint", server.url, "-m", "m", "--concurrency", "1,2", "--requests", "5")
        ran = miyabi(*common, "--slo", "triage", "-o", "a.json", "--html", "a.html", "-q", "--color", "always")
    assert ran.code == 0, ran.stderr
    data = json.loads((tmp_path / "a.json").read_text())
    validate(data, "bench")
    assert [result["concurrency"] for result in data["results"]] == [1, 2]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout)
    for words in ("2 in parallel", "between tokens", "requests/min", "█", "objective triage: kept"):
        assert words in plain
    page = (tmp_path / "a.html").read_text()
    measured = "document.title = [root.scrollWidth - root.clientWidth, page.querySelectorAll('svg.plot').length]"
    reading = "const page = document.querySelector('iframe').contentDocument, root = page.documentElement; "
    (tmp_path / "narrow.html").write_text(
        f'<!doctype html><iframe width="400" height="900" srcdoc="{html.escape(page)}"></iframe>'
        f"<script>addEventListener('load', () => {{ {reading}{measured} }})</script>"
    )
    options = (f"--log-net-log={log}", "--enable-logging", f"--log-file={said}")
    shown = open_page(tmp_path / "narrow.html", tmp_path, *options)
    assert "<title>0,3</title>" in shown  # nothing wider than 400 pixels; an answer in one piece has no time between
    assert "CONSOLE" not in said.read_text()
    assert server.url not in log.read_text()
    assert "a-model" not in shown
    found = Page(page)
    assert_harmless(found)
    assert_for_every_reader(found)
    for words in ("objective triage kept", "First token", "Throughput", "2 in parallel, p99:", "Environment"):
        assert words in found.text


def test_where_a_document_goes_is_looked_at_first(miyabi: Miyabi, tmp_path: Path) -> None:
    for error, words, output, page in (
        (UsageError, "are both", tmp_path / "x", tmp_path / "x"),
        (UsageError, "--html . is a folder", None, Path()),
        (MachineError, "there is no folder", tmp_path / "no/x", None),
    ):
        with pytest.raises(error, match=words):
            open_outlets(output, page, "json")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "a.json").write_text(json.dumps(document("serve", level(1, 5))))
    ran = miyabi("bench", "compare", "a.json", "a.json", "-o", "link.json", "-f", "json")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    assert (tmp_path / "link.json").is_symlink()
    validate(json.loads((tmp_path / "real.json").read_text()), "bench_compare")
    ran = miyabi("bench", "compare", "a.json", "a.json", "-o", "/dev/stdout", "-f", "json")
    assert (ran.code, json.loads(ran.stdout)["kind"], ran.stderr) == (0, "compare", "")


@settings(deadline=None, max_examples=50)
@given(some.lists(some.tuples(some.floats(1e-300, 1e300), some.floats(0, 1e300)), max_size=5))
def test_every_mark_stands_within_the_chart(points: list[tuple[float, float]]) -> None:
    readings = [Reading(x, y, y / 2, y, "a") for x, y in points]
    shares = [Reading(x, 0.5, 0.0, 1.0, "a") for x, _ in points]
    for chart in (
        chart_by_load("t", "x", "y", [Series("a", readings, 0, 0)]),
        scatter("t", "x", "y", [Series("a", shares, 0, 0)]),
    ):
        for label in (*chart.across, *chart.down):
            assert 0 <= label.x <= 400
            assert 0 <= label.y <= chart.height
            assert len(label.text) < 16
        for drawn in chart.series:
            for mark in drawn.marks:
                x, y = map(float, re.findall(r"[\d.]+", mark.path)[:2])
                assert chart.left - 5 <= x <= chart.right + 5
                assert chart.top - 5 <= y <= chart.bottom + 5


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_lines_and_marks_stand_out(mode: int) -> None:
    folder = ROOT / "miyabi_cli/report/html/templates"
    both = [
        re.findall(r":root \{(.*?)\}", (folder / name).read_text(), re.DOTALL) for name in ("style.css", "bench.css")
    ]
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", both[0][mode] + both[1][mode]))
    lines = [color for name, color in colors.items() if name.startswith("color-")]
    assert len(lines) == 4
    for line in lines:
        lighter, darker = sorted((luminance(line), luminance(colors["panel"])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3
