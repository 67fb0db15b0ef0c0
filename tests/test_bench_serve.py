"""`miyabi bench serve`: what it measures of servers whose delays and failures are known, and what it makes of that."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.bench.document import parse_document
from miyabi_cli.bench.load import arrivals, prompts
from miyabi_cli.bench.load.objectives import PRESETS, find_objectives, misses, read_objectives
from miyabi_cli.bench.load.percentiles import percentile, percentile_interval, spread_ms
from miyabi_cli.bench.load.planning import numbers
from miyabi_cli.bench.load.server_metrics import growth, read_metrics
from miyabi_cli.bench.load.traces import read_trace
from miyabi_cli.errors import UsageError
from miyabi_cli.report.bench import late_levels
from tests.conftest import PYTHON, ROOT, Miyabi, Ran
from tests.support import groq, ollama
from tests.support.ollama import ollama_server
from tests.support.server import chat_server, chunk, picky, say, send_error, send_event, start_events, stream
from tests.support.vllm import final, vllm_server

FIRST, GAP, TOKENS = 0.06, 0.02, 3  # seconds to the first token and between tokens
WHOLE = FIRST + (TOKENS - 1) * GAP
FAST = {"count": 20, "mean": 10.0, "p50": 10.0, "p90": 10.0, "p99": 10.0, "max": 10.0}


def timed(handler: BaseHTTPRequestHandler, _: Any) -> None:
    """Play a reply whose delays are known: role first, as vLLM does, which is no token."""
    start_events(handler)
    send_event(handler, chunk({"delta": {"role": "assistant", "content": ""}, "index": 0}))
    for number in range(TOKENS):
        time.sleep(GAP if number else FIRST)
        send_event(handler, chunk({"delta": {"content": "word "}, "index": 0, "finish_reason": None}))
    send_event(handler, chunk({"delta": {}, "index": 0, "finish_reason": "stop"}))
    send_event(handler, {**chunk(), "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": TOKENS}})
    send_event(handler, "[DONE]")
    handler.wfile.write(b"0\r\n\r\n")


def cut(handler: BaseHTTPRequestHandler, _: Any) -> None:
    """Play a stream that ends as if it were whole, without a finish reason."""
    start_events(handler)
    send_event(handler, chunk({"delta": {"content": "word "}, "index": 0, "finish_reason": None}))
    handler.wfile.write(b"0\r\n\r\n")


def broken(handler: BaseHTTPRequestHandler, _: Any) -> None:
    """Break the connection in the middle of a reply."""
    start_events(handler)
    handler.connection.shutdown(socket.SHUT_RDWR)


def silent(handler: BaseHTTPRequestHandler, _: Any) -> None:
    """Send comments alone, as servers do that keep a connection alive, until the client goes."""
    start_events(handler)
    with contextlib.suppress(ConnectionError):
        while True:
            handler.wfile.write(b"b\r\n: waiting\n\n\r\n")
            time.sleep(0.1)


@pytest.fixture
def serve(miyabi: Miyabi) -> Callable[..., Ran]:
    """Put load on a server of chat completions."""

    def run(url: str, *arguments: str, **options: Any) -> Ran:
        return miyabi(
            "bench", "serve", "--endpoint", url, "--model", "m", "--input-tokens", "20", *arguments, **options
        )

    return run


def document(text: str) -> dict[str, Any]:
    """Return a document, held against its schema."""
    return parse_document(text.encode(), "document").data()


def test_a_closed_loop_measures_what_the_server_does(serve: Callable[..., Ran], tmp_path: Path) -> None:
    written = tmp_path / "load.json"
    with chat_server(timed) as server:
        ran = serve(server.url, "--concurrency", "1,4", "--requests", "8", "--slo", "groq", "--output", str(written))
    assert ran.code == 0, ran.stderr
    assert "objective groq: kept" in ran.stdout
    found = document(written.read_text())
    assert found["summary"] == {
        "requests": 16, "errors": 0, "slo": "groq", "passed": True, "missed": {}, "complete": True
    }  # fmt: skip
    assert len(server.requests) == 16
    assert len({request.body for request in server.requests}) == 16
    one, four = found["results"]
    assert [one["concurrency"], four["concurrency"]] == [1, 4]
    for level in (one, four):
        assert (level["requests"], level["errors"], level["goodput"]) == (8, {}, 1.0)
        assert (
            level["ttft_ms"]["min"] >= 1000 * FIRST - 1
        )  # a stamp is taken behind a server's sleep, to a clock's tick
        assert level["itl_ms"]["count"] == 8 * (TOKENS - 1)
        assert level["itl_ms"]["mean"] >= 1000 * GAP - 10
        assert level["e2e_ms"]["min"] >= 1000 * WHOLE - 1
        assert level["e2e_ms"]["p50"] > level["ttft_ms"]["p50"]
        assert level["output_tokens"] == 8 * TOKENS
        assert level["output_tokens_per_s"] == pytest.approx(8 * TOKENS / level["seconds"], rel=0.01)
        assert level["requests_per_min"] == pytest.approx(60 * 8 / level["seconds"], rel=0.01)
        assert len(level["samples_ms"]["ttft_ms"]) == 8
    assert one["seconds"] >= 8 * WHOLE
    assert one["connect_ms"]["count"] == 1  # a connection is kept
    assert four["connect_ms"]["count"] <= 3


def test_errors_are_counted_by_their_kind_and_are_no_latencies(serve: Callable[..., Ran]) -> None:
    slow_down = send_error(429, {"error": {"message": "slow down"}})
    turns = [timed, slow_down, cut, broken, silent, send_error(500, b"<html>"), slow_down, timed]
    with chat_server(*turns) as server:
        ran = serve(server.url, "--requests", "8", "--timeout", "1", "--slo", "triage", "--format", "json")
    assert ran.code == 1
    (level,) = document(ran.stdout)["results"]
    assert level["errors"] == {
        "http_429": 2, "broken_reply": 1, "connection_lost": 1, "timeout": 1, "http_500": 1
    }  # fmt: skip
    assert (level["requests"], level["completed"], level["e2e_ms"]["count"]) == (8, 2, 2)
    assert level["goodput"] == 0.25
    assert level["error_details"]["http_429"] == "slow down"
    assert "6 of 8 requests failed" in json.loads(ran.stdout)["summary"]["missed"]["1 in parallel"]


def test_an_open_loop_sends_on_while_the_server_stalls_and_shows_the_wait(serve: Callable[..., Ran]) -> None:
    stalled, rate, seed = 8, 40.0, 7
    gate = threading.Barrier(stalled)  # nobody is answered until so many wait: a loop that waits would wait for ever
    count = itertools.count()

    def stalls(handler: BaseHTTPRequestHandler, request: Any) -> None:
        if next(count) < stalled:
            gate.wait(60)
        stream(handler, say("word"))

    with chat_server(stalls) as server:
        given = ("--rate", str(rate), "--seed", str(seed), "--requests", "12", "--timeout", "60")
        ran = serve(server.url, *given, "--format", "json")
    assert ran.code == 0, ran.stderr
    (level,) = document(ran.stdout)["results"]
    assert (level["rate"], level["requests"], level["errors"]) == (rate, 12, {})
    due = list(itertools.islice(arrivals.poisson(rate, seed), stalled))
    waits = [1000 * (due[-1] - moment) for moment in due]
    times = level["samples_ms"]["e2e_ms"][:stalled]
    assert all(time >= wait - 1 for time, wait in zip(times, waits, strict=True))
    assert level["generator"]["lag_ms"]["count"] == 12
    assert level["ttft_scheduled_ms"]["max"] >= waits[0] - 1


@pytest.mark.parametrize(
    ("slo", "code", "load"),
    [
        ("vllm", 0, ("--requests", "20")),
        # never ten in parallel: nothing says that it would hold
        ("vllm", 1, ("--requests", "20", "--concurrency", "1")),
        ("vllm", 1, ("--requests", "5")),
        ({"ttft_ms": {"p90": 0.001}, "goodput": 0.5}, 1, ("--requests", "20")),
    ],
    ids=str,
)
def test_an_objective_decides_the_exit_code(
    serve: Callable[..., Ran], tmp_path: Path, slo: str | dict[str, Any], code: int, load: tuple[str, ...]
) -> None:
    name = slo
    if isinstance(slo, dict):
        name = str(tmp_path / "slo.yaml")
        Path(name).write_text(json.dumps(slo))
    with chat_server(say("word")) as server:
        ran = serve(server.url, *load, "--slo", str(name), "--format", "json")
    found = document(ran.stdout)
    assert ran.code == code, ran.stderr
    assert found["summary"]["passed"] is (code == 0)
    assert found["results"][0]["concurrency"] == (10 if slo == "vllm" and len(load) == 2 else 1)
    assert ("about 10 in parallel, which was not measured" in ran.stderr) == (slo == "vllm" and code == 1)


def test_what_cannot_be_measured_says_so(serve: Callable[..., Ran], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        ran = serve(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert (ran.code, ran.stdout) == (3, "")
    assert "can't be reached" in ran.stderr
    assert "hint: is the server running" in ran.stderr
    with chat_server(send_error(503, b"busy")) as server:
        ran = serve(server.url, "--requests", "3", "--format", "json")
    assert ran.code == 3
    assert "error: no request was answered: http_503: busy\n" in ran.stderr
    assert document(ran.stdout)["results"][0]["errors"] == {"http_503": 3}
    assert document(ran.stdout)["results"][0]["ttft_ms"]["p50"] is None
    for wrong in (("--rate", "1", "--concurrency", "1"), ("--duration", "inf"), ("--rate", ""), ("--slo", "")):
        assert serve("http://127.0.0.1:9", *wrong).code == 2
    for text in ("0", "1,-2", "nan", "", "1,,2", "1e9"):
        with pytest.raises(UsageError, match="list of numbers"):
            numbers(text, "--rate", 1000)
    with pytest.raises(UsageError, match="no objective"):
        find_objectives("fast")
    (tmp_path / "none.jsonl").write_text('{"no": "prompt"}\n')
    with pytest.raises(UsageError, match=r"none\.jsonl, line 1"):
        prompts.read_prompts(tmp_path / "none.jsonl", 1, 0, 0)


def test_an_interrupted_load_keeps_what_it_has_measured(environment: dict[str, str], tmp_path: Path) -> None:
    written = tmp_path / "load.json"
    with chat_server(timed) as server:
        command = [PYTHON, "-m", "miyabi_cli", "bench", "serve", "--endpoint", server.url, "--model", "m"]
        command += ["--concurrency", "2", "--duration", "600", "--input-tokens", "20", "--output", str(written)]
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while len(server.requests) < 10:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk
    found = document(written.read_text())
    assert found["summary"]["complete"] is False
    (level,) = found["results"]
    assert level["completed"] >= 8
    assert level["unfinished"] <= 2
    assert level["errors"] == {}


def test_a_budget_ends_a_load_that_costs_money(serve: Callable[..., Ran], tmp_path: Path) -> None:
    settings = tmp_path / "settings.yml"
    settings.write_text('prices: {m: {input: 0, output: 1000, since: "2026-01-01"}}\n')
    with chat_server(say("word")) as server:  # 20 tokens a reply, as it says: 0.02 USD; at most 30 are asked for
        given = ("--config", str(settings), "--output-tokens", "30", "--requests", "50", "--max-cost", "0.1")
        ran = serve(server.url, *given, "--format", "json")
        assert ran.code == 5, ran.stderr
        assert "budget" in ran.stderr
        found = document(ran.stdout)
        assert 3 <= found["results"][0]["completed"] == len(server.requests) <= 5
        assert found["summary"]["complete"] is False


def test_what_a_server_refuses_is_learned_and_a_refusal_of_all_ends_it(serve: Callable[..., Ran]) -> None:
    def judge(body: dict[str, Any]) -> tuple[int, Any] | None:
        wrong = [name for name in ("stream_options", "ignore_eos") if name in body]
        return (400, {"error": {"message": f"Unknown parameter: '{wrong[0]}'."}}) if wrong else None

    with chat_server(picky(judge, say("word"))) as server:
        ran = serve(server.url, "--requests", "5", "--ignore-eos", "--format", "json")
        assert ran.code == 0, ran.stderr
        found = document(ran.stdout)
    assert (found["results"][0]["requests"], found["results"][0]["errors"]) == (5, {})
    assert found["settings"]["ignore_eos"] is False
    with chat_server(send_error(404, {"error": {"message": "no such model"}})) as server:
        ran = serve(server.url, "--requests", "5")
    assert (ran.code, ran.stdout) == (3, "")
    assert "no such model" in ran.stderr


def test_each_wire_s_replies_and_times_are_read(miyabi: Miyabi, environment: dict[str, str]) -> None:
    def run(provider: str, url: str, *arguments: str) -> dict[str, Any]:
        given = ("-p", provider, "--endpoint", url, "--requests", "3", "--warmup", "2", "--input-tokens", "20")
        ran = miyabi("bench", "serve", *given, "--output-tokens", "40", "--format", "json", *arguments)
        assert ran.code == 0, ran.stderr
        found = document(ran.stdout)
        (level,) = found["results"]
        assert (level["completed"], level["errors"]) == (3, {})
        assert level["ttft_ms"]["count"] == 3
        assert level["output_tokens"] > 0
        return found

    with vllm_server(final("One two three.", "Let me think.")) as vllm:
        found = run("vllm", vllm.url)
        assert len(vllm.requests) == 5  # two of them to warm up
        body = vllm.requests[0].json
        assert (body["ignore_eos"], body["min_tokens"], body["max_tokens"]) == (True, 40, 40)
    assert (found["settings"]["protocol"], found["environment"]["server_version"]) == ("harmony", "0.32.0")
    with vllm_server(final("One two."), serves_completions=False) as vllm:
        assert run("vllm", vllm.url)["settings"]["protocol"] == "chat"
    with ollama_server(ollama.say("One two.")) as server:
        level = run("ollama", server.url)["results"][0]
    assert {"total_ms", "load_ms", "prompt_eval_ms", "eval_ms"} <= set(level["server"]["reported"])
    environment["GROQ_API_KEY"] = "gsk_test"
    with groq.groq_server({"text": "One two."}) as paid:
        level = run("groq", paid.url)["results"][0]
    assert {"queue_ms", "prompt_ms", "completion_ms", "total_ms"} <= set(level["server"]["reported"])


def test_prompts_and_arrivals_come_from_files_and_no_secret_goes_along(
    serve: Callable[..., Ran], environment: dict[str, str], tmp_path: Path
) -> None:
    environment["DEPLOY_TOKEN"] = "s3cr3t-v4lue-0f-th3-us3r"
    asked = tmp_path / "prompts.jsonl"
    asked.write_text(
        '{"prompt": "Why? s3cr3t-v4lue-0f-th3-us3r", "max_tokens": 7}\n"How?"\n'
        '{"messages": [{"role": "user", "content": "Who?"}]}\n'
    )
    azure = tmp_path / "trace.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,30,44\n2023-11-16 18:15:46.7505900,10,9\n2023-11-16 18:15:46.7205900,20,8\n"
    )
    with chat_server(say("word")) as server:
        ran = serve(server.url, "--prompts", str(asked), "--requests", "4", "--shared-prefix", "5", "--format", "json")
        assert ran.code == 0, ran.stderr
        texts = [request.json["messages"][0]["content"] for request in server.requests]
        assert [text.split()[5] for text in texts] == ["Why?", "How?", "Who?", "Why?"]
        assert not any(b"s3cr3t" in request.body for request in server.requests)
        assert len({tuple(text.split()[:5]) for text in texts}) == 1
        assert [request.json["max_tokens"] for request in server.requests] == [7, 128, 128, 7]
        server.requests.clear()
        ran = serve(server.url, "--trace", str(azure), "--trace-speed", "2", "--format", "json")
        assert ran.code == 0, ran.stderr
    (level,) = document(ran.stdout)["results"]
    assert (level["requests"], level["trace_speed"]) == (3, 2.0)
    assert level["rate"] == pytest.approx(3 / 0.07 * 2, rel=0.01)
    sizes = [len(request.json["messages"][0]["content"].split()) for request in server.requests]
    assert sorted(zip(sizes, (one.json["max_tokens"] for one in server.requests), strict=True)) == [
        (10, 9), (20, 8), (30, 44)
    ]  # fmt: skip


def test_a_mooncake_trace_keeps_what_prompts_share_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    rows = [(0, 1100, [1, 2, 3]), (500, 1030, [1, 2, 4]), (900, 600, [5, 6])]
    path.write_text("".join(
        json.dumps({"timestamp": at, "input_length": size, "output_length": 3, "hash_ids": ids}) + "\n"
        for at, size, ids in rows
    ))  # fmt: skip
    trace = read_trace(path, 10)
    assert [one.at for one in trace] == [0.0, 0.5, 0.9]
    first, second, third = (wish.text.split() for wish in prompts.traced(trace, 0, 1))
    assert [len(first), len(second), len(third)] == [1100, 1030, 600]
    assert first[:1024] == second[:1024]
    assert first[:512] != third[:512]
    for text in ("", "a,b\n1,2\n", '{"timestamp": "x"}', '{"timestamp": 1, "input_length": 1e99}', "TIMESTAMP\nnow\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match="trace"):
            read_trace(path, 10)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_percentiles_lie_in_their_intervals_and_agree_with_the_standard_library(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    if len(ordered) > 1:
        cuts = statistics.quantiles(ordered, n=100, method="inclusive")
        assert found == pytest.approx(cuts[round(share * 100) - 1], rel=1e-9, abs=1e-9)
    low, high = percentile_interval(ordered, share)
    assert low is None or high is None or low <= high
    assert high is None or found <= high
    told = spread_ms([value / 1000 for value in values])
    assert told["min"] <= told["p50"] <= told["p90"] <= told["p99"] <= told["max"]


def test_an_interval_is_as_wide_as_the_binomial_says() -> None:
    # David and Nagaraja's table for the median: of 20 values the 6th and the 15th bound it with 95.9 %.
    assert percentile_interval([float(number) for number in range(1, 21)], 0.5) == (6.0, 15.0)
    # 1 - 0.99**299 is above 95 %, but each side has 2.5 % alone: the maximum bounds p99 from 368 values on.
    assert percentile_interval([0.0] * 367, 0.99)[1] is None
    assert percentile_interval([0.0] * 368, 0.99)[1] == 0.0
    assert percentile_interval([1.0], 0.5) == (None, None)


def test_arrivals_are_poisson_and_the_same_for_a_seed() -> None:
    def first(seed: int, count: int) -> list[float]:
        return list(itertools.islice(arrivals.poisson(50.0, seed), count))

    moments = first(3, 20_000)
    assert moments == first(3, 20_000) != first(4, 20_000)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert statistics.fmean(gaps) == pytest.approx(1 / 50, rel=0.05)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.05)  # an exponential's deviation is its mean
    assert list(arrivals.traced([10.0, 11.0, 14.0], 2.0)) == [0.0, 0.5, 2.0]


def test_prompts_have_their_words_and_begin_alike_where_they_share() -> None:
    made = list(itertools.islice(prompts.counted(100, 5, 30, 1), 3))
    assert [len(wish.text.split()) for wish in made] == [130] * 3
    assert len({tuple(wish.text.split()[:30]) for wish in made}) == 1
    assert len({tuple(wish.text.split()[30:]) for wish in made}) == 3
    assert made == list(itertools.islice(prompts.counted(100, 5, 30, 1), 3))


def level(**changed: Any) -> dict[str, Any]:
    """Return a level that keeps to everything."""
    rates = {"requests_per_min": 500.0, "output_tokens_per_s": 100.0, "goodput": 1.0}
    return {
        "concurrency": 10,
        "requests": 20,
        "errors": {},
        **dict.fromkeys(("ttft_ms", "itl_ms", "e2e_ms"), FAST),
        **rates,
        **changed,
    }


def test_objectives_are_read_and_hold() -> None:
    assert {name: (preset.most[("e2e_ms", "mean")]) for name, preset in PRESETS.items()} == {
        "groq": 5000, "vllm": 3000, "ollama": 15000, "codegen": 30000, "review": 10000, "triage": 5000
    }  # fmt: skip
    assert misses(PRESETS["vllm"], level()) == []
    assert misses(PRESETS["vllm"], level(requests_per_min=99.0)) == [
        "requests_per_min is 99, and has to be at least 100"
    ]
    assert len(misses(PRESETS["groq"], level(e2e_ms={**FAST, "mean": 5000.0}, errors={"timeout": 1}))) == 2
    own = read_objectives("own", {"itl_ms": {"p99": 9}, "error_share": 0.1, "request": {"ttft_ms": 100}})
    assert misses(own, level(errors={"timeout": 2})) == ["itl_ms p99 is 10, and has to be under 9"]
    wrong: list[Any] = [{}, [], {"e2e": 1}, {"e2e_ms": 5}, {"e2e_ms": {"p42": 1}}, {"goodput": "much"}]
    wrong += [{"goodput": 95}, {"error_share": 2}, {"concurrency": True}]  # a share, a share, no number
    for value in [*wrong, {"goodput": float("nan")}, {"concurrency": 0}]:
        with pytest.raises(ValueError, match=r"."):
            read_objectives("own", value)


METRICS = """# HELP vllm:generation_tokens_total Number of generation tokens processed.
vllm:generation_tokens_total{{engine="0",model_name="m"}} {tokens}
vllm:generation_tokens_total{{engine="1",model_name="m"}} 5.0
vllm:prefix_cache_hits_total{{engine="0"}} {hits}
vllm:prefix_cache_queries_total{{engine="0"}} {queries}
vllm:time_to_first_token_seconds_sum{{engine="0"}} {seconds}
vllm:time_to_first_token_seconds_count{{engine="0"}} {count}
vllm:time_to_first_token_seconds_bucket{{le="0.5"}} 7
vllm:num_requests_running{{engine="0"}} NaN
python_gc_objects_collected_total 9
vllm:broken{{
"""


def test_a_server_s_metrics_tell_what_a_load_has_changed() -> None:
    before = read_metrics(METRICS.format(tokens=10, hits=0, queries=100, seconds=1.0, count=2))
    after = read_metrics(METRICS.format(tokens=74, hits=30, queries=140, seconds=2.5, count=12))
    assert before["vllm:generation_tokens_total"] == 15.0
    assert growth(before, after) == {
        "counters": {
            "vllm:generation_tokens_total": 64.0,
            "vllm:prefix_cache_hits_total": 30.0,
            "vllm:prefix_cache_queries_total": 40.0,
        },
        "means": {"vllm:time_to_first_token_ms": 150.0},
        "prefix_cache_hit_rate": 0.75,
    }


def vllm_metrics(tokens: int) -> bytes:
    return METRICS.format(tokens=tokens, hits=1, queries=tokens, seconds=1.0, count=tokens).encode()


def drip(handler: BaseHTTPRequestHandler, _: Any) -> None:
    """Send metrics that never end, so slowly that no pause is too long."""
    start_events(handler)
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b"1\r\n#\r\n")
            time.sleep(0.05)


HUGE = b"".join(b'vllm:request_%d_total{a="%d"} 1\n' % (number % 500, number) for number in range(300_000))


@pytest.mark.parametrize(
    ("metrics", "tokens"),
    [
        pytest.param([], None, id="absent"),
        pytest.param([vllm_metrics(10), vllm_metrics(74)], 64.0, id="told"),
        pytest.param([send_error(500, {}), vllm_metrics(74)], None, id="only after"),
        pytest.param([vllm_metrics(74), send_error(404, {})], None, id="only before"),
        pytest.param([vllm_metrics(74), vllm_metrics(10)], None, id="started anew"),
        pytest.param([b"<html>\xff\x00 vllm:generation_tokens_total NaN", b"vllm:\n" * 99], None, id="no metrics"),
        pytest.param([HUGE, HUGE], None, id="huge"),
        pytest.param([drip, send_error(404, {})], None, id="dripping"),
        pytest.param([broken, vllm_metrics(74)], None, id="broken off"),
    ],
)
def test_a_server_s_metrics_are_told_only_where_they_are_the_load_s(
    serve: Callable[..., Ran], metrics: list[Any], tokens: float | None
) -> None:
    with chat_server(say("word")) as server:
        server.metrics += metrics
        ran = serve(server.url, "--concurrency", "1", "--requests", "1", "--warmup", "0", "-f", "json")
    assert ran.code == 0, ran.stderr
    assert len(document(ran.stdout)["results"]) == 1
    assert "/metrics" in server.asked
    found = document(ran.stdout)["results"][0].get("server", {}).get("metrics", {}).get("counters", {})
    assert found.get("vllm:generation_tokens_total") == tokens


@given(st.text())
def test_no_text_of_metrics_is_too_odd(text: str) -> None:
    assert all(isinstance(value, float) for value in read_metrics(f"vllm:{text}\n{text}").values())


LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"TIMESTAMP,ContextTokens,GeneratedTokens", b"2023-11-16 18:15:46.6805900,3,4", b'{"prompt": 1}']
        ),
        st.dictionaries(
            st.sampled_from(["timestamp", "input_length", "output_length", "prompt"]), st.integers() | st.text()
        ).map(lambda row: json.dumps(row).encode()),
    ),
    max_size=5,
)


@given(LINES)
def test_a_file_of_anything_is_read_or_refused(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(b"\n".join(lines))
        with contextlib.suppress(UsageError):
            assert all(one.input_tokens > 0 for one in read_trace(path, 100))
        with contextlib.suppress(UsageError):
            assert all(wish.text for wish in prompts.read_prompts(path, 5, 0, 1))


def test_a_level_without_answers_is_named_and_a_server_that_goes_away_ends_the_load(serve: Callable[..., Ran]) -> None:
    with chat_server(*[say("word")] * 4, send_error(302, b"")) as server:  # the last is played on and on
        ran = serve(server.url, "--concurrency", "2,1", "--requests", "4", "--format", "json")
    assert ran.code == 3
    assert "error: no request was answered at 1 in parallel: http_302\n" in ran.stderr
    assert document(ran.stdout)["summary"]["errors"] == 4

    def leave(handler: Any, _: Any) -> None:
        handler.server.socket.shutdown(socket.SHUT_RDWR)  # it listens no more
        handler.close_connection = True

    with chat_server(timed, timed, leave) as server:
        ran = serve(server.url, "--concurrency", "1,2", "--duration", "600", "--format", "json")
    assert ran.code == 3
    assert "error: the server is gone: 20 requests in a row got no connection: " in ran.stderr
    found = document(ran.stdout)
    (level,) = found["results"]
    assert (level["completed"], level["errors"]["connect"], found["summary"]["complete"]) == (2, 20, False)


def test_a_generator_that_is_late_is_said_and_what_it_reads_is_not_written_over(
    serve: Callable[..., Ran], tmp_path: Path
) -> None:
    spread = {"mean": 12.0, "p50": 1.0, "p99": 90.0}
    level = {"concurrency": 4, "ttft_ms": {"p50": 100.0}, "generator": {"loop_delay_ms": spread, "lag_ms": {}}}
    (said,) = late_levels([level, {**level, "ttft_ms": {"p50": 121.0}}, {**level, "ttft_ms": {"p50": None}}])
    assert said.startswith("4 in parallel: miyabi itself was late by 12.0 ms on average")
    (tmp_path / "prompts.txt").write_text("a prompt\n")
    ran = serve("http://127.0.0.1:9", "--prompts", "prompts.txt", "--html", "./prompts.txt", cwd=tmp_path)
    assert (ran.code, "prompts.txt would be written over" in ran.stderr) == (2, True)
