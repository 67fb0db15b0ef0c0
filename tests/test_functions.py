"""The functions of the plan: their schemas are sound, strict, and lead to arguments over every means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jsonschema
import pytest

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm import open_groq, open_ollama, open_openai, open_vllm
from miyabi_cli.llm.calling import call_at_cost
from miyabi_cli.llm.chat.strict import strict_schema
from miyabi_cli.llm.functions import FUNCTIONS, GENERATE_CODE, GENERATE_DOCUMENTATION, GENERATE_TESTS
from miyabi_cli.llm.objects.validating import compile_schema
from miyabi_cli.llm.profiles import Capabilities
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import Function, Message, Reply, Sampling, ToolCall
from tests.support.groq import KEY, groq_server
from tests.support.ollama import ollama_server
from tests.support.ollama import say as ollama_say
from tests.support.server import chat_server, say
from tests.support.vllm import final, vllm_server
from tests.test_calling import Scripted

ANSWERS: dict[str, dict[str, Any]] = {
    "generate_code": {"language": "python", "code": "x = 1\n", "path": "a.py", "explanation": "Sets x."},
    "generate_tests": {"framework": "pytest", "tests": [{"name": "test_x", "code": "assert x == 1"}]},
    "generate_documentation": {"format": "markdown", "documentation": "# x\n"},
}
EACH = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
ASKED = [Message("user", "x = 1")]


def called(function: Function, *replies: Reply | str, means: Capabilities) -> dict[str, Any]:
    model = Scripted(*replies, capabilities=means)
    return asyncio.run(call_at_cost(model, function, ASKED, Sampling())).arguments


def test_the_plan_s_three_are_there() -> None:
    assert [function.name for function in FUNCTIONS] == [*ANSWERS]


@EACH
def test_the_schema_is_sound_and_says_what_each_field_is(function: Function) -> None:
    jsonschema.Draft202012Validator.check_schema(function.parameters)
    assert compile_schema(function).problems(ANSWERS[function.name]) == []
    strict = strict_schema(function.parameters)
    assert strict["required"] == [*function.parameters["properties"]]
    assert all(part["description"] for part in function.parameters["properties"].values())


@EACH
def test_arguments_come_over_every_means(function: Function) -> None:
    answer = ANSWERS[function.name]
    text = json.dumps(answer)
    assert called(function, text, means=Capabilities(tools=False, schema=True)) == answer
    call = Reply("", tool_calls=(ToolCall("1", function.name, text),))
    assert called(function, call, means=Capabilities(tools=True, schema=False, forced=True)) == answer
    assert called(function, f"```json\n{text}\n```", means=Capabilities(tools=False, schema=False)) == answer


def test_what_may_be_left_out_may_be_null_as_strict_servers_have_it() -> None:
    answer = ANSWERS["generate_code"] | {"path": None}
    arguments = called(GENERATE_CODE, json.dumps(answer), means=Capabilities(tools=False, schema=True))
    assert arguments == {key: value for key, value in answer.items() if key != "path"}


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (GENERATE_TESTS, {"framework": "pytest", "tests": []}),
        (GENERATE_DOCUMENTATION, {"format": "html", "documentation": "x"}),
        (GENERATE_CODE, {"language": "python", "code": "x = 1"}),
    ],
)
def test_an_answer_that_is_none_is_refused(function: Function, answer: dict[str, Any]) -> None:
    with pytest.raises(BrokenReply):
        called(function, *[json.dumps(answer)] * 3, means=Capabilities(tools=False, schema=True))


@contextmanager
def vllm(answer: str, wire: Literal["harmony", "chat"] = "harmony") -> Iterator[tuple[Provider, Callable[[], Any]]]:
    with vllm_server("Not so.", answer) if wire == "harmony" else vllm_server(final(answer)) as server:
        yield open_vllm(server.url, wire=wire), lambda: server.requests[-1].json["response_format"]["type"]


@contextmanager
def vllm_chat(answer: str) -> Iterator[tuple[Provider, Callable[[], Any]]]:
    with vllm(answer, "chat") as opened:
        yield opened


@contextmanager
def ollama(answer: str) -> Iterator[tuple[Provider, Callable[[], Any]]]:
    with ollama_server(ollama_say(answer)) as server:
        yield open_ollama(server.url), lambda: server.chats[-1]["format"] and "json_schema"


@contextmanager
def groq(answer: str) -> Iterator[tuple[Provider, Callable[[], Any]]]:
    with groq_server(say(answer)) as server:
        yield open_groq(KEY, endpoint=server.url), lambda: server.bodies[-1]["response_format"]["type"]


@contextmanager
def openai(answer: str) -> Iterator[tuple[Provider, Callable[[], Any]]]:
    with chat_server(say(answer)) as server:
        yield open_openai(server.url, "gpt-oss-20b"), lambda: server.requests[-1].json["response_format"]["type"]


@EACH
@pytest.mark.parametrize("server", [vllm, vllm_chat, ollama, groq, openai])
def test_every_server_holds_the_reply_by_its_own_means(server: Any, function: Function) -> None:
    answer = ANSWERS[function.name]

    async def main(provider: Provider) -> dict[str, Any]:
        async with provider:
            return await provider.call_function(function, ASKED)

    with server(json.dumps(answer)) as (provider, held_by):
        assert asyncio.run(main(provider)) == answer
        assert held_by() == "json_schema"
