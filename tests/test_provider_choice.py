"""Which provider `auto` takes, and what each refuses."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.conftest import Miyabi
from tests.support.server import chat_server
from tests.test_codegen import FIXING, TASK, model, result_of


def test_auto_takes_vllm_where_it_lists_its_models(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        server.models = ["openai/gpt-oss-20b"]
        env = {"VLLM_ENDPOINT": server.url}
        result = result_of(miyabi("codegen", TASK, "--format", "json", cwd=repository, env=env))
    assert (result["provider"], result["model"], result["effort"]) == ("vllm", "openai/gpt-oss-20b", "high")
    assert server.requests[0].json["reasoning_effort"] == "high"


def test_auto_is_not_fooled_by_another_server_and_says_what_to_do(repository: Path, miyabi: Miyabi) -> None:
    class Shop(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a shop</html>")

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
        (["--provider", "ollama"], 2, "Ollama"),
        (["--provider", "replay"], 2, "needs a recording"),
        (["--provider", "replay", "--model", "/nowhere"], 4, "can't read the recording"),
        (["--provider", "embedded", "--model", "nonsense"], 2, "no model is called nonsense"),
        (["--provider", "embedded"], 4, "is not on this machine"),
        (["--model", "m"], 2, "--model needs a provider"),
    ],
)
def test_a_provider_that_can_not_be_opened_says_why(
    repository: Path, miyabi: Miyabi, arguments: list[str], code: int, words: str
) -> None:
    ran = miyabi("codegen", TASK, *arguments, cwd=repository)
    assert ran.code == code, ran.stderr
    assert words in ran.stderr
    assert "hint: " in ran.stderr or "can't read" in words


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
