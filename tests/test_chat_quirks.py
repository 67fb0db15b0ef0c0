"""The quirks of chat completions as servers send them, and what is sent back of them."""

from __future__ import annotations

import asyncio
import json
import select
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import BrokenReply, ProviderError, ProviderOverloaded, ProviderRefused, RequestTooLarge
from miyabi_cli.fences import fenced
from miyabi_cli.llm.chat.collecting import MAX_CALLS, ReplyCollector
from miyabi_cli.llm.chat.encoding import clean_name, encode_request
from miyabi_cli.llm.openai import open_openai
from miyabi_cli.llm.retry import Retries
from miyabi_cli.messages import Function, LLMRequest, Message, Reply, Timing, ToolCall
from tests.support.scripts import GONE_SECONDS
from tests.support.server import chat_server, send_error, send_event, start_events

ADD = Function("add", "Add.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
SEARCH = Function("web_search", "Search.", {"type": "object", "properties": {"query": {"type": "string"}}})


def play(payload: bytes, *, status: int = 200, kind: str = "text/event-stream") -> Reply:
    async def main(url: str) -> Any:
        async with open_openai(url, "gpt-oss-20b", retries=Retries(attempts=1)) as provider:
            return [piece async for piece in provider.chat([Message("user", "hello")], [ADD, SEARCH])][-1]

    with chat_server(send_error(status, payload, kind=kind)) as server:
        reply = asyncio.run(main(server.url))
    assert isinstance(reply, Reply)
    return reply


def events(*chunks: Any) -> bytes:
    return "".join(f"data: {json.dumps(one)}\n\n" for one in chunks).encode() + b"data: [DONE]\n\n"


def delta(finish: str | None = None, **part: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": part, "finish_reason": finish}]}


def part(index: int | None, name: str | None, arguments: Any, identity: str | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {"function": {"name": name, "arguments": arguments}, "type": "function"}
    return data | ({} if index is None else {"index": index}) | ({"id": identity} if identity else {})


def told(reply: Reply) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in reply.tool_calls]


CALLS: dict[str, Sequence[Any]] = {
    "pieces": [part(0, "add", "", "x"), part(0, None, '{"a":'), part(0, None, "1}"), part(1, "add", '{"a":2}', "y")],
    "interleaved": [part(0, "add", "", "x"), part(1, "add", "", "y"), part(1, None, '{"a":2}'),
                    part(0, None, '{"a":1}')],
    "whole and no index": [part(None, "add", '{"a":1}', "x"), part(None, "add", '{"a":2}', "y")],
    "whole, no index, no id": [part(None, "add", '{"a":1}'), part(None, "add", '{"a":2}')],
    "pieces and no index": [part(None, "add", '{"a"', "x"), part(None, None, ":1}"), part(None, "add", '{"a":2}', "y")],
    "index 0 for all, new id": [part(0, "add", '{"a":1}', "x"), part(0, "add", '{"a":2}', "y")],
    "index 0 for all, no id": [part(0, "add", '{"a":1}'), part(0, "add", '{"a":2}')],
    "the same id for both": [part(0, "add", '{"a":1}', "x"), part(1, "add", '{"a":2}', "x")],
    "another id in each chunk": [part(0, "add", '{"a":', "x"), part(0, None, "1}", "z"),
                                 part(1, "add", '{"a":2}', "y")],
    "the name in each chunk": [part(0, "add", '{"a":', "x"), part(0, "add", "1}", "x"), part(1, "add", '{"a":2}', "y")],
    "the name once more at the end": [part(0, "add", '{"a":1}', "x"), part(0, "add", ""),
                                      part(1, "add", '{"a":2}', "y")],
    "objects": [part(0, "add", {"a": 1}, "x"), part(1, "add", {"a": 2}, "y")],
    "index as text": [part("0", "add", '{"a":1}', "x"), part("1", "add", '{"a":2}', "y")],  # type: ignore[arg-type]
    "from index 1": [part(1, "add", '{"a":1}', "x"), part(2, "add", '{"a":2}', "y")],
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("finish", ["tool_calls", "stop", "function_call"])
def test_parallel_calls_are_put_together_however_they_come(case: str, finish: str) -> None:
    chunks = [delta(tool_calls=[one]) for one in CALLS[case]]
    reply = play(events(delta(role="assistant"), *chunks, delta(finish)))
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] == [
        ("add", {"a": 1}),
        ("add", {"a": 2}),
    ]
    assert len({call.id for call in reply.tool_calls}) == 2
    assert reply.finish_reason == finish
    if "no id" not in case:
        assert reply.tool_calls[0].id == "x"


def test_a_call_of_the_older_form_is_read() -> None:
    chunks = [delta(function_call={"name": "add", "arguments": '{"a":'}), delta(function_call={"arguments": "1}"})]
    assert told(play(events(*chunks, delta("function_call")))) == [("add", '{"a":1}')]


def test_ids_that_a_server_leaves_out_differ_from_turn_to_turn() -> None:
    payload = events(delta(tool_calls=[part(0, "add", "{}")]), delta("stop"))
    assert play(payload).tool_calls[0].id != play(payload).tool_calls[0].id


TEXTS: dict[str, tuple[list[Any], str, str]] = {
    "null everywhere": ([delta(content=None, reasoning=None, tool_calls=None, refusal=None, function_call=None),
                         delta(content="a"), delta("stop")], "a", ""),
    "a null delta": ([{"choices": [{"index": 0, "delta": None}]}, delta("stop", content="a")], "a", ""),
    "null choices": ([{"choices": None}, delta("stop", content="a")], "a", ""),
    "the role in each chunk": ([delta(role="assistant", content="a"), delta("stop", role="assistant", content="b")],
                               "ab", ""),
    "both names of thought at once": ([delta(reasoning="t", reasoning_content="t"), delta("stop", content="a")],
                                      "a", "t"),
    "parts": ([delta("stop", content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], "ab", ""),
    "parts with thought": ([delta("stop", content=[{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]},
                                                   {"type": "text", "text": "a"}])], "a", "t"),
    "a refusal": ([delta("stop", refusal="I can't do that.")], "I can't do that.", ""),
    "the whole message behind the deltas": ([delta(content="a"), {"choices": [{"index": 0, "delta": None, "message":
                                             {"content": "a"}, "finish_reason": "stop"}]}], "a", ""),
    "a second choice": ([{"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta":
                          {"content": "x"}}]}, delta("stop")], "a", ""),
    "no text at all": ([delta("stop")], "", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_text_and_thought_are_read_in_each_form(case: str) -> None:
    chunks, text, thought = TEXTS[case]
    reply = play(events(*chunks))
    assert (reply.text, reply.thought, reply.tool_calls) == (text, thought, ())


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls", "eos"])
def test_the_finish_reason_is_the_server_s_word(finish: str) -> None:
    assert play(events(delta(content="a"), delta(finish))).finish_reason == finish


def test_comments_other_fields_and_the_chunk_of_usage_are_passed_over() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}}
    early = {**delta(content="a"), "usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    payload = b": keep-alive\n\nevent: message\nid: 7\n" + events(early, delta("stop"), {"choices": [], "usage": usage},
                                                                 {"choices": [], "usage": None})  # fmt: skip
    reply = play(payload)
    assert reply.text == "a"
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.reasoning_tokens) == (9, 4, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        *("7", [1], True, 0, {"prompt_tokens": "x", "completion_tokens": -1}),
        *({"prompt_tokens": 10**400}, {"prompt_tokens": 1e300}, {"prompt_tokens": True}),
    ],
)
def test_a_wrong_count_loses_no_reply(wrong: Any) -> None:
    reply = play(events({**delta("stop", content="a"), "usage": wrong}))
    assert (reply.text, reply.usage.input_tokens, reply.usage.requests) == ("a", 0, 1)


def test_an_infinite_count_loses_no_reply() -> None:
    payload = events(delta("stop", content="a")).replace(b'{"choices"', b'{"usage":{"prompt_tokens":1e999},"choices"')
    assert play(payload).text == "a"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": {"message": "no room", "code": 503}}, ProviderOverloaded),
        ({"error": {"message": "no room", "code": "503"}}, ProviderOverloaded),
        ({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, ProviderOverloaded),
        ({"error": {"message": "bad", "type": "BadRequestError", "code": 400}}, ProviderRefused),
        ({"error": {"message": "maximum context length is 4096 tokens", "code": 400}}, RequestTooLarge),
        ({"error": {"message": "too long", "code": "context_length_exceeded"}}, RequestTooLarge),
        ({"error": {"message": "engine died", "code": "oops"}}, BrokenReply),
        ({"error": "engine died"}, BrokenReply),
        ({"object": "error", "message": "engine died", "code": 500}, ProviderOverloaded),
        ({"message": "engine died", "type": "internal"}, BrokenReply),
        ({"x_groq": {"error": "engine died"}, "choices": []}, BrokenReply),
    ],
)
def test_an_error_in_the_stream_is_the_error_that_it_names(error: Any, kind: type[ProviderError]) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 5}}
    with pytest.raises(kind) as caught:
        play(events(delta(content="half"), usage, error))
    assert type(caught.value) is kind
    assert caught.value.usage.input_tokens == 5


@pytest.mark.parametrize(
    ("status", "payload", "words"),
    [
        (401, b'{"error": "Unauthorized"}', "Unauthorized"),
        (403, b'{"detail": "Forbidden"}', "Forbidden"),
        (404, b'{"message": "no such model", "object": "error"}', "no such model"),
        (503, b"", "503"),
        (502, b"<html><title>Bad Gateway</title></html>", "Bad Gateway"),
        (400, b'[{"error": {"message": "in a list"}}]', "in a list"),
        (400, b"[" * 100_000, "400"),
    ],
)
def test_a_refusal_carries_the_server_s_words(status: int, payload: bytes, words: str) -> None:
    with pytest.raises(ProviderError, match=words) as caught:
        play(payload, status=status, kind="application/json")
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b"<html><body>Welcome</body></html>", "text/html; charset=utf-8"),
        (b"\n <!doctype html>", "text/plain"),
        (b"", "text/event-stream"),
        (b"", "application/json"),
        (b"null", "application/json"),
        (b'{"choices": [', "application/json"),
        (b'{"a":' * 100_000, "application/json"),
        (b"data: " + b'{"a":' * 100_000 + b"\n\n", "text/event-stream"),
        (b"data: {not json}\n\n", "text/event-stream"),
        (b'data: {"choices": [7]}\n\n', "text/event-stream"),
        (b'data: {"choices": {"a": 1}}\n\n', "text/event-stream"),
        (events(delta(content="no end")), "text/event-stream"),
        (events(delta(tool_calls=[part(0, "add", '{"a":')])), "text/event-stream"),
        (events(delta("stop", tool_calls=[7])), "text/event-stream"),
        (events(delta("stop", tool_calls=[part(0, "add", "{}")] * 2, content=7)), "text/event-stream"),
    ],
)
def test_what_is_no_reply_is_a_typed_error(payload: bytes, kind: str) -> None:
    with pytest.raises(BrokenReply):
        play(payload, kind=kind)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/octet-stream"])
def test_a_stream_is_known_by_its_bytes_where_its_type_is_wrong(kind: str) -> None:
    assert play(b"\n" + events(delta("stop", content="a")), kind=kind).text == "a"
    whole = {"choices": [{"message": {"content": "b"}, "finish_reason": None}]}
    assert play(json.dumps(whole).encode(), kind=kind).text == "b"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("add<|channel|>commentary", "add"),
        ("functions.add", "add"),
        ("<|channel|>add", "add"),
        ("<|channel|>commentary to=functions.add <|constrain|>json", "add"),
        ("commentary to=functions.add", "add"),
        ("analysis add", "add"),
        ("functions.add to=assistant<|channel|>commentary", "add"),
        ("code", "code"),
        ("my_functions.add", "my_functions.add"),
        (" add ", "add"),
        ("web search", "web_search"),
        ("web_searchjson", "web_search"),
        ("web_search.json", "web_search"),
        ("repo_browser.open_file", "repo_browser.open_file"),
        ("", "unknown"),
    ],
)
def test_a_name_is_cleaned_as_it_comes(written: str, name: str) -> None:
    reply = play(events(delta("tool_calls", tool_calls=[part(0, written, "{}", "x")])))
    assert told(reply) == [(name, "{}")]


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ('<|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>', ""),
        ('{"name": "add", "arguments": {"a": 1}}', ""),
        ("", 'I call it. <|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}'),
    ],
)
def test_a_call_in_the_text_or_the_thought_of_an_empty_reply_is_found(text: str, thought: str) -> None:
    reply = play(events(delta(reasoning=thought, content=text), delta("stop")))
    (call,) = reply.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("add", {"a": 1})
    assert "<|" not in reply.text


@pytest.mark.parametrize("text", ["I would call add with {} braces.", "The type is dict[str, int] {…}", "Done: a < b"])
def test_prose_is_no_call(text: str) -> None:
    reply = play(events(delta(content=text), delta("stop")))
    assert (reply.text, reply.tool_calls) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant<|channel|>final<|message|>Hello.",
        "analysisThink.assistantfinalHello.",  # the marks cut out, as some servers do
    ],
)
def test_harmony_that_a_server_did_not_read_is_parted_into_thought_and_text(text: str) -> None:
    reply = play(events(delta(content=text), delta("stop")))
    assert (reply.text, reply.thought, reply.tool_calls) == ("Hello.", "Think.", ())


def test_leaked_harmony_keeps_the_thought_that_the_server_read() -> None:
    text = "<|message|>Think on.<|end|><|start|>assistant<|channel|>final<|message|>Hello."
    reply = play(
        events(
            delta(reasoning="Think.", content=text.replace("<|message|>", "<|channel|>analysis<|message|>", 1)),
            delta("stop"),
        )
    )
    assert (reply.text, reply.thought) == ("Hello.", "Think.\n\nThink on.")


def test_a_leaked_call_has_an_id_of_its_own_in_every_turn() -> None:
    leak = events(delta(content='<|message|>{"a": 1}'), delta("stop"))
    calls = [call for _ in range(2) for call in play(leak).tool_calls]
    assert [call.name for call in calls] == ["add", "add"]
    assert len({call.id for call in calls}) == 2


def test_a_text_that_begins_like_harmony_stays() -> None:
    text = "analysis of the final answer"
    assert play(events(delta(content=text), delta("stop"))).text == text


def test_a_call_of_the_older_form_that_is_empty_is_none() -> None:
    reply = play(events(delta(content="4", function_call={"arguments": "", "name": ""}), delta("stop")))
    assert (reply.text, reply.tool_calls) == ("4", ())


def test_a_cut_call_in_the_text_is_never_run() -> None:
    text = '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}'
    assert play(events(delta(content=text), delta("length"))).tool_calls == ()


def sent(*messages: Message) -> list[dict[str, Any]]:
    return json.loads(encode_request(model="m", messages=messages))["messages"]


def test_names_ids_and_arguments_go_back_as_servers_take_them() -> None:
    call = ToolCall("id one/2", "functions.add<|channel|>commentary", '{"a": 1}')
    first, second = sent(Message("assistant", "", tool_calls=(call,)), Message("tool", "3", tool_call_id="id one/2"))
    assert first["content"] == ""
    assert first["tool_calls"] == [
        {"id": "id one/2", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    ]
    assert second == {"role": "tool", "content": "3", "tool_call_id": "id one/2"}


@pytest.mark.parametrize("arguments", ["", "{", "[1]", "null", "a: 1", "[" * 50_000])
def test_arguments_that_are_no_object_are_wrapped_for_servers_parse_them(arguments: str) -> None:
    (message,) = sent(Message("assistant", "", tool_calls=(ToolCall("1", "add", arguments),)))
    assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"arguments": arguments}


def test_a_result_whose_call_is_not_there_is_told_as_words() -> None:
    (message,) = sent(Message("tool", "3", tool_call_id="gone", tool_name="add"))
    assert message == {"role": "user", "content": f"Result of add:\n{fenced('3')}"}


BITS = ["to=", "to =", " ", "<|channel|>", "<|", "functions.", "commentary", "code", "exec", "_"]


@given(st.text() | st.lists(st.sampled_from(BITS)).map("".join))
def test_a_clean_name_is_never_empty_and_stays_clean(text: str) -> None:
    name = clean_name(text)
    assert name
    assert "<|" not in name
    assert clean_name(name) == name


def test_calls_without_end_are_cut_off() -> None:
    calls = [part(number, "a", "") for number in range(MAX_CALLS + 1)]
    with pytest.raises(BrokenReply, match="does not end"):
        ReplyCollector().add(delta(tool_calls=calls))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["content", "reasoning", "tool_calls", "function", "name", "arguments", "index", "id", "text",
                         "refusal", "function_call", "type"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["delta", "message", "text"]), JSON, JSON, JSON), max_size=4))
def test_no_chunk_breaks_the_collector(parts: list[tuple[str, Any, Any, Any]]) -> None:
    collector = ReplyCollector()
    try:
        for key, value, usage, reason in parts:
            collector.add({"choices": [{key: value, "finish_reason": reason}], "usage": usage})
        reply = collector.reply(Timing())
    except BrokenReply:
        return
    assert all(call.id and call.name for call in reply.tool_calls)
    assert all(isinstance(call.arguments, str) for call in reply.tool_calls)


@pytest.mark.parametrize("rest", ["hangs", "breaks off", "talks on", "is broken"])
def test_what_comes_after_the_last_event_changes_nothing(rest: str) -> None:
    """Nor does the client wait for it: one that is never ended is left."""

    def turn(handler: Any, request: Any) -> None:
        start_events(handler)
        for event in (delta(content="ha"), delta("stop"), "[DONE]"):
            send_event(handler, event)
        if rest == "hangs":
            hung.append(bool(select.select([handler.connection], [], [], GONE_SECONDS)[0]))
        elif rest == "talks on":
            send_event(handler, delta(content="ha ha"))
            handler.wfile.write(b"0\r\n\r\n")
        elif rest == "is broken":
            handler.wfile.write(b"what?\r\n")
        handler.close_connection = rest != "talks on"

    async def main(url: str) -> str:
        async with open_openai(url, "gpt-oss-20b", retries=Retries(attempts=1)) as provider:
            return (await provider.generate(LLMRequest("hello"))).text

    hung: list[bool] = []
    with chat_server(turn) as server:
        assert asyncio.run(main(server.url)) == "ha"
        while rest == "hangs" and not hung:
            time.sleep(0.01)
    assert hung in ([], [True])
