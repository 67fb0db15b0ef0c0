"""Which provider `auto` takes, and what each refuses."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import Miyabi
from tests.support.ollama import Model, call, ollama_server, say
from tests.support.schemas import validate
from tests.support.server import chat_server, send_error
from tests.test_codegen import FIX, FIXING, TASK, model, result_of


def test_auto_takes_vllm_where_it_lists_its_models(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        server.models = ["openai/gpt-oss-20b"]
        env = {"VLLM_ENDPOINT": server.url}
        result = result_of(miyabi("codegen", TASK, "--format", "json", cwd=repository, env=env))
    assert (result["provider"], result["model"], result["effort"]) == ("vllm", "openai/gpt-oss-20b", "high")
    assert server.requests[0].json["reasoning_effort"] == "high"


@pytest.mark.parametrize("page", [b"<html>a shop</html>", b"[" * 200_000], ids=["a page", "deep JSON"])
def test_auto_is_not_fooled_by_another_server_and_says_what_to_do(
    repository: Path, miyabi: Miyabi, page: bytes
) -> None:
    class Shop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        env = {"VLLM_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"}
        ran = miyabi("codegen", TASK, "--format", "json", cwd=repository, env=env)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert ran.code == 3, ran.stderr
    error = json.loads(ran.stdout)["error"]
    assert error["message"] == "no model's server was found"
    assert "miyabi model pull" in error["hint"]


OLLAMA_FIXING = (call("apply_patch", {"patch": FIX}, thought="Mend it."), say("add subtracted; it adds now."))


def test_auto_takes_ollama_before_groq_and_after_vllm(repository: Path, miyabi: Miyabi) -> None:
    with ollama_server(*OLLAMA_FIXING) as server:
        env = {"OLLAMA_HOST": server.url, "GROQ_API_KEY": "x", "VLLM_ENDPOINT": "http://127.0.0.1:9"}
        result = result_of(miyabi("codegen", TASK, "--format", "json", cwd=repository, env=env))
        assert server.chats[0]["options"]["num_ctx"] == 65536
        assert server.chats[0]["think"] == "high"
        with chat_server(*FIXING) as vllm:
            vllm.models = ["openai/gpt-oss-20b"]
            first = result_of(
                miyabi("codegen", TASK, "-f", "json", cwd=repository, env={**env, "VLLM_ENDPOINT": vllm.url})
            )
    assert (result["status"], result["provider"], result["model"]) == ("verified", "ollama", "gpt-oss:20b")
    assert result["usage"]["cost_usd"] == 0.0
    assert first["provider"] == "vllm"


def test_auto_passes_over_an_ollama_model_that_would_leave_the_machine(repository: Path, miyabi: Miyabi) -> None:
    with ollama_server(models=[Model("gpt-oss:20b-cloud", remote=True)]) as server:
        env = {"OLLAMA_HOST": server.url, "MIYABI_LLM__OLLAMA__MODEL": "gpt-oss:20b-cloud"}
        ran = miyabi("codegen", TASK, cwd=repository, env={**env, "MIYABI_LLM__LOCAL_ONLY": "true"})
    assert ran.code == 3
    assert "no model's server was found" in ran.stderr
    assert "hint: start vLLM or Ollama on this machine, or get a small model" in ran.stderr
    assert server.asked == []


@pytest.mark.parametrize("name", ["gpt-oss:20b-cloud", "gpt-oss:cloud", "alias:latest"])
def test_local_only_refuses_a_model_that_ollama_runs_elsewhere(repository: Path, miyabi: Miyabi, name: str) -> None:
    """Its name says so, or (for a copy under another name) the server does; no prompt has left by then."""
    with ollama_server(models=[Model(name, remote=True)]) as server:
        env = {"OLLAMA_HOST": server.url, "MIYABI_LLM__LOCAL_ONLY": "true"}
        ran = miyabi("codegen", TASK, "-p", "ollama", "-m", name, cwd=repository, env=env)
        assert server.chats == []
    assert ran.code == 2, ran.stderr
    assert "llm.local_only is set" in ran.stderr
    assert "hint: " in ran.stderr


def test_local_only_takes_a_model_of_this_machine(repository: Path, miyabi: Miyabi) -> None:
    with ollama_server(*OLLAMA_FIXING) as server:
        env = {"OLLAMA_HOST": server.url, "MIYABI_LLM__LOCAL_ONLY": "true"}
        assert miyabi("codegen", TASK, "-p", "ollama", cwd=repository, env=env).code == 0
        assert server.paths()[0] == "/api/show"


def test_a_model_that_ollama_does_not_have_says_how_to_get_it(repository: Path, miyabi: Miyabi) -> None:
    with ollama_server() as server:
        ran = miyabi("codegen", TASK, "-p", "ollama", "-m", "gpt-oss:120b", "--endpoint", server.url, cwd=repository)
    assert ran.code == 3
    assert "error: ollama answered 404: model 'gpt-oss:120b' not found\n" in ran.stderr
    assert "hint: get it: miyabi model pull gpt-oss:120b -p ollama\n" in ran.stderr


def test_local_only_refuses_what_is_elsewhere(repository: Path, miyabi: Miyabi) -> None:
    env = {"MIYABI_LLM__LOCAL_ONLY": "true", "GROQ_API_KEY": "x"}
    ran = miyabi("codegen", TASK, "--provider", "groq", cwd=repository, env=env)
    assert ran.code == 2
    assert "not on this machine" in ran.stderr
    with chat_server(*FIXING) as server:
        assert miyabi("codegen", TASK, *model(server), cwd=repository, env=env).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--provider", "replay"], 2, "needs a recording"),
        (["--provider", "replay", "--model", "/nowhere"], 4, "can't read the recording"),
        (["--provider", "embedded", "--model", "nonsense"], 2, "no model is called nonsense"),
        (["--provider", "embedded"], 4, "is not on this machine"),
        (["--model", "m"], 2, "--model needs a provider"),
    ],
)
def test_a_provider_that_can_not_be_opened_says_why(
    repository: Path, miyabi: Miyabi, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    """The file that was to take the result says so too: empty, it would look like one."""
    file = tmp_path / "result"
    ran = miyabi("codegen", TASK, *arguments, "-f", "json", "-o", str(file), cwd=repository)
    assert ran.code == code, ran.stderr
    assert words in ran.stderr
    assert "hint: " in ran.stderr or "can't read" in words
    assert words in json.loads(ran.stdout)["error"]["message"]
    assert not file.exists() or file.read_text() == ran.stdout
    assert file.exists() or "--model needs" in words


def test_a_file_for_the_result_as_text_gets_the_error_as_text(repository: Path, miyabi: Miyabi, tmp_path: Path) -> None:
    file = tmp_path / "result"
    ran = miyabi("codegen", TASK, "-p", "embedded", "-o", str(file), cwd=repository)
    assert (ran.code, ran.stdout) == (4, "")
    assert file.read_text().startswith(
        "error: the model qwen2.5-coder-1.5b is not on this machine\nhint: miyabi model "
    )
    assert file.read_text() in ran.stderr


@pytest.mark.parametrize(
    ("first", "reason", "more"),
    [
        ("embedded", "the model qwen2.5-coder-1.5b is not on this machine", {}),
        ("groq", "groq answered 401: Invalid API Key", {}),
        ("groq", "llm.local_only is set", {"MIYABI_LLM__LOCAL_ONLY": "true", "GROQ_API_KEY": "x"}),
        ("auto", "no model's server was found", {"VLLM_ENDPOINT": "http://127.0.0.1:9"}),
    ],
    ids=["not pulled", "no key", "local only", "none found"],
)
def test_a_provider_that_can_not_be_had_gives_way_to_the_fallback(
    repository: Path, miyabi: Miyabi, first: str, reason: str, more: dict[str, str]
) -> None:
    with (
        chat_server(*FIXING) as server,
        chat_server(send_error(401, {"error": {"message": "Invalid API Key"}})) as paid,
    ):
        env = {"OPENAI_BASE_URL": server.url, "MIYABI_LLM__OPENAI__MODEL": "gpt-oss-20b", **more}
        env |= {"MIYABI_LLM__FALLBACK": '["embedded", "openai"]', "OLLAMA_HOST": "http://127.0.0.1:9"}
        if "GROQ_API_KEY" not in env:
            env["MIYABI_LLM__GROQ__ENDPOINT"] = paid.url
        ran = miyabi("codegen", TASK, "-p", first, "-f", "jsonl", cwd=repository, env=env)
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    result = events[-1]["result"]
    assert (ran.code, result["status"], result["provider"]) == (0, "verified", "openai"), ran.stderr
    (switched,) = [event for event in events if event["type"] == "provider_switched"]
    validate(switched, "event")
    assert (switched["failed"], switched["provider"]) == (first, "openai")
    assert reason in switched["reason"]
    (told,) = [one["message"] for one in result["warnings"] if "is given up" in one["message"]]
    assert told.startswith(f"{first} is given up (")
    assert ran.stderr.count("is given up") == 1


def test_settings_that_are_wrong_are_no_reason_for_a_fallback(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        env = {"OPENAI_BASE_URL": server.url, "MIYABI_LLM__OPENAI__MODEL": "m", "MIYABI_LLM__FALLBACK": '["openai"]'}
        ran = miyabi("codegen", TASK, "-p", "embedded", "-m", "nonsense", cwd=repository, env=env)
        assert (ran.code, server.requests) == (2, [])
        seen = miyabi("codegen", TASK, "-p", "embedded", "--dry-run", cwd=repository, env=env)
    assert seen.code == 0, seen.stderr
    assert "embedded is given up (the model qwen2.5-coder-1.5b is not on this machine)" in seen.stderr


def test_a_model_goes_to_the_provider_of_the_settings(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        env = {"OPENAI_BASE_URL": f"{server.url}/v1", "MIYABI_LLM__PROVIDER": "openai", "OPENAI_API_KEY": "k"}
        result = result_of(miyabi("codegen", TASK, "-m", "gpt-oss-120b", "-f", "json", cwd=repository, env=env))
        assert server.requests[0].headers["authorization"] == "Bearer k"
    assert (result["provider"], result["model"]) == ("openai", "gpt-oss-120b")


def test_the_model_hears_nothing_of_keys(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        env = {"OPENAI_API_KEY": "sk-canary", "GITHUB_TOKEN": "gh-canary"}
        ran = miyabi("codegen", TASK, *model(server), "--verbose", cwd=repository, env=env)
        assert all(b"canary" not in request.body for request in server.requests)
    assert "canary" not in ran.stdout + ran.stderr


def test_what_a_server_refuses_is_told_on_stderr(repository: Path, miyabi: Miyabi) -> None:
    refusal = send_error(400, {"error": {"message": "Unrecognized request argument supplied: top_p"}})
    with chat_server(refusal, *FIXING) as server:
        ran = miyabi("codegen", TASK, *model(server), cwd=repository)
    assert ran.code == 0, ran.stderr
    assert ran.stderr.count("warning: openai refuses top_p: it is left out") == 1
