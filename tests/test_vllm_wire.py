"""vLLM over raw Harmony, against a server that plays its exact format: every row of what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import (
    BrokenReply,
)
from miyabi_cli.llm.harmony.collecting import HarmonyCollector
from miyabi_cli.llm.harmony.tokens import MESSAGE, RETURN, decode, encode_text
from miyabi_cli.llm.vllm import open_vllm
from miyabi_cli.messages import Message, Sampling, Timing
from tests.support.vllm import MODEL, called, cut, encode, final, play_events, thinking, vllm_server
from tests.support.vllm_requests import ADD, COLOR, DATE, EXEC, OPEN, QUESTION, ask, last_of, prompts, question

# The request over Harmony


def test_a_request_is_the_conversation_in_token_ids() -> None:
    with vllm_server(final("Nothing.", "Let me see.")) as server:
        sampling = Sampling(effort="high", max_tokens=500, seed=7)
        (reply,) = ask(server, question(OPEN, ADD, sampling=sampling))
    assert (reply.text, reply.thought, reply.finish_reason) == ("Nothing.", "Let me see.", "stop")
    body = server.requests[0].json
    prompt = body.pop("prompt")
    assert all(type(token) is int for token in prompt)
    assert body == {
        "model": MODEL,
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop_token_ids": [200002, 200012],
        "skip_special_tokens": False,
        "return_token_ids": True,
        "max_tokens": 500,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 7,
    }
    text = decode(prompt)
    assert text.startswith("<|start|>system<|message|>You are ChatGPT")
    assert f"Current date: {DATE}" in text
    assert "Reasoning: high" in text
    assert "# Valid channels: analysis, commentary, final" in text
    assert "namespace repo_browser {" in text.split("<|end|>")[0]
    assert "<|start|>developer<|message|># Instructions\n\nYou fix bugs." in text
    assert text.endswith("<|start|>user<|message|>What is wrong?<|end|><|start|>assistant")


def test_the_head_of_a_body_is_the_same_bytes_in_every_request() -> None:
    with vllm_server(final("Yes.")) as server:
        one = question(OPEN, sampling=Sampling(max_tokens=50, seed=1))
        longer = [*QUESTION, Message("assistant", "Yes."), Message("user", "Go on.")]
        ask(server, one, question(OPEN, messages=longer, sampling=Sampling(temperature=0.2, seed=2)))
    first, second = (request.body for request in server.requests)
    shared = first[: first.index(b'],"max_tokens"')]
    assert second.startswith(shared)


def test_an_effort_that_is_not_named_is_medium_and_each_other_is_told() -> None:
    efforts = (None, "low", "medium", "high")
    with vllm_server(final("Yes.")) as server:
        ask(server, *(question(sampling=Sampling(effort=effort)) for effort in efforts))  # type: ignore[arg-type]
    told = [text.split("Reasoning: ")[1].split("\n")[0] for text in prompts(server)]
    assert told == ["medium", "low", "medium", "high"]


def test_a_chain_of_calls_keeps_the_thought_until_the_final_answer_and_every_prompt_begins_with_the_last() -> None:
    turns = [called("repo_browser.open_file", {"path": f"{step}.py"}, f"Thought {step}.") for step in range(20)]
    with vllm_server(*turns, final("Found it.", "The last thought.")) as server:

        async def main() -> list[Message]:
            history = list(QUESTION)
            async with open_vllm(server.url, date=DATE) as provider:
                for step in range(22):
                    reply = await last_of(provider, question(OPEN, messages=history))
                    history.append(reply.message())
                    for call in reply.tool_calls:
                        assert (call.name, json.loads(call.arguments)) == ("open_file", {"path": f"{step}.py"})
                        assert reply.finish_reason == "tool_calls"
                        history.append(Message("tool", f"text {step}", tool_call_id=call.id, tool_name=call.name))
                    if not reply.tool_calls:
                        history.append(Message("user", "And now?"))
            return history

        history = asyncio.run(main())
    ids = [request.json["prompt"] for request in server.requests]
    for before, after in pairwise(ids[:21]):
        assert after[: len(before)] == before
    last = decode(ids[20])
    assert all(f"Thought {step}." in last and f"text {step}" in last for step in range(20))
    assert "Thought" not in decode(ids[21])
    assert "The last thought" not in decode(ids[21])
    assert "<|channel|>final<|message|>Found it.<|end|>" in decode(ids[21])
    calls = [call.id for message in history for call in message.tool_calls]
    assert len(set(calls)) == len(calls) == 20


def test_the_server_s_prefix_cache_serves_the_whole_history() -> None:
    with vllm_server(called("container.exec", {"cmd": "ls"}, "Look."), final("Done.")) as server:
        (first,) = ask(server, question(EXEC))
        result = Message("tool", "a.py", tool_call_id=first.tool_calls[0].id, tool_name="exec")
        (second,) = ask(server, question(EXEC, messages=[*QUESTION, first.message(), result]))
    assert second.usage.cached_tokens >= first.usage.input_tokens - 16


# The reply over Harmony

CALLS = {
    "a function": "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{}<|call|>",
    "recipient in the role": " to=functions.add<|channel|>commentary json<|message|>{}<|call|>",
    "recipient in both": " to=functions.add<|channel|>commentary to=functions.add<|message|>{}<|call|>",
    "doubled channel": "<|channel|>commentary<|channel|>commentary to=functions.add<|message|>{}<|call|>",
    "channel assistant": "<|channel|>assistant to=functions.add code<|message|>{}<|call|>",
    "name in the channel": "<|channel|>functions.add<|channel|>commentary code<|message|>{}<|call|>",
    "glued channel tag": " to=functions.add<|channel|>commentary<|constrain|>json<|message|>{}<|call|>",
    "call in the thought's channel": "<|channel|>analysis to=functions.add code<|message|>{}<|call|>",
    "no <|start|>": "<|channel|>analysis<|message|>I add.<|end|>assistant<|channel|>commentary to=functions.add"
    "<|message|>{}<|call|>",
    "no recipient": "<|channel|>commentary <|constrain|>json<|message|>{}<|call|>",
    "call in the text": '<|channel|>final<|message|>{"name": "add", "arguments": {}}<|return|>',
}


@pytest.mark.parametrize("options", [{}, {"sends_token_ids": False}, {"tokens_a_chunk": 3}], ids=str)
@pytest.mark.parametrize("shape", CALLS)
def test_a_call_comes_whole_however_its_header_is_written(shape: str, options: dict[str, Any]) -> None:
    with vllm_server(CALLS[shape].replace("{}", '{"a": 2}'), **options) as server:
        (reply,) = ask(server, question(ADD, OPEN))
    ((name, arguments),) = [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
    assert (name, arguments, reply.finish_reason) == ("add", {"a": 2}, "tool_calls")


@pytest.mark.parametrize("recipient", ["container.exec", "functions.exec", "exec", "functions.container.exec"])
def test_no_name_vanishes_over_harmony(recipient: str) -> None:
    with vllm_server(called(recipient, {"cmd": "ls"})) as server:
        (reply,) = ask(server, question(EXEC))
    ((name, arguments),) = [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
    assert (name.removeprefix("container."), arguments) == ("exec", {"cmd": "ls"})


@pytest.mark.parametrize("options", [{}, {"sends_token_ids": False}, {"tokens_a_chunk": 4}], ids=str)
def test_text_comes_as_it_was_written_by_ids_and_by_text(options: dict[str, Any]) -> None:
    text = "é 漢字 🎉 zero\u2028width, and `a < b | c > d`"
    with vllm_server(final(text, "Denken: ü."), **options) as server:

        async def main() -> list[Any]:
            async with open_vllm(server.url) as provider:
                return [piece async for piece in provider.chat(QUESTION)]

        *deltas, reply = asyncio.run(main())
    assert (reply.text, reply.thought) == (text, "Denken: ü.")
    assert "".join(delta.text for delta in deltas) == text
    assert "".join(delta.thought for delta in deltas) == "Denken: ü."


def test_a_preamble_is_text_beside_the_call() -> None:
    turn = f"{thinking('Hm.')}<|channel|>commentary<|message|>I open it.<|end|><|start|>assistant"
    with vllm_server(turn + called("repo_browser.open_file", {"path": "a"})) as server:
        (reply,) = ask(server, question(OPEN))
    assert (reply.text, reply.thought, len(reply.tool_calls)) == ("I open it.", "Hm.", 1)


@pytest.mark.parametrize("sends_token_ids", [True, False])
def test_half_a_call_is_none(sends_token_ids: bool) -> None:
    turn = called("functions.add", {"a": 12345678901234567890}, "I add.")
    for cap in range(4, len(encode(turn))):
        with vllm_server(turn, sends_token_ids=sends_token_ids) as server:
            (reply,) = ask(server, question(ADD, sampling=Sampling(max_tokens=cap)))
        assert (reply.finish_reason, reply.tool_calls) == ("length", ())
        assert "a" not in reply.text


@pytest.mark.parametrize(
    ("raw", "said", "reason"),
    [
        ("<|channel|>commentary to=functions.add", "stop", "length"),
        ("<|channel|>final<|message|>Half an answ", "pause", "length"),
        ("<|channel|>final<|message|>Half an answ", "abort", "abort"),
        ('<|channel|>commentary to=functions.add<|message|>{"a": 1}<|call|>', "stop", "tool_calls"),
    ],
)
def test_a_reply_that_is_cut_says_so_whatever_the_server_calls_it(raw: str, said: str, reason: str) -> None:
    collector = HarmonyCollector([ADD])
    collector.add({"choices": [{"text": raw, "token_ids": encode(raw), "finish_reason": said}]})
    reply = collector.reply(Timing())
    assert (reply.finish_reason, reply.is_cut) == (reason, reason != "tool_calls")


def test_the_text_of_a_special_token_is_text_where_the_server_sends_ids() -> None:
    """A model that explains Harmony writes marks in pieces of ordinary tokens."""
    ids = [*encode("<|channel|>final<|message|>"), *encode_text("Say <|call|> at the end"), RETURN]
    collector = HarmonyCollector([ADD])
    collector.add({"choices": [{"text": decode(ids[:-1]), "token_ids": ids, "finish_reason": "stop"}]})
    assert collector.reply(Timing()).text == "Say <|call|> at the end"


def test_stop_ends_the_text_and_not_the_thought() -> None:
    with vllm_server(final("one\nEND\ntwo", "The END of the thought.")) as server:
        (reply,) = ask(server, question(stop=("END", "never")))
    assert (reply.text, reply.thought) == ("one\n", "The END of the thought.")


def test_usage_is_the_server_s_and_the_tokens_of_the_thought_are_counted() -> None:
    turn = final("Four.", "Two and two are four.")
    with vllm_server(turn) as server:
        (reply,) = ask(server, question())
    prompt = server.requests[0].json["prompt"]
    assert (reply.usage.requests, reply.usage.input_tokens) == (1, len(prompt))
    assert reply.usage.output_tokens == len(encode(turn))
    assert reply.usage.reasoning_tokens == len(encode_text("Two and two are four."))


def test_a_server_that_says_no_usage_is_counted_by_what_went_and_came() -> None:
    def turn(handler: BaseHTTPRequestHandler, _: Any) -> None:
        ids = encode(final("Yes."))
        choice = {"index": 0, "text": "", "token_ids": ids, "finish_reason": "stop"}
        play_events(handler, [{"object": "text_completion", "choices": [choice]}, "[DONE]"])

    with vllm_server(turn) as server:
        (reply,) = ask(server, question())
    usage = reply.usage
    assert (usage.input_tokens, usage.output_tokens) == (
        len(server.requests[0].json["prompt"]),
        len(encode(final("Yes."))),
    )


# A schema, and a function that is forced


def test_an_answer_that_obeys_its_schema_is_asked_for_once() -> None:
    with vllm_server(final('{"color": "red"}', "The sky.")) as server:
        (reply,) = ask(server, question(schema=COLOR))
    assert (json.loads(reply.text), reply.thought, len(server.requests)) == ({"color": "red"}, "The sky.", 1)
    assert "response_format" not in server.requests[0].json
    assert "# Response Formats" in prompts(server)[0]
    assert '"enum":["red","blue"]' in prompts(server)[0]


@pytest.mark.parametrize(
    "free",
    [
        final("I would say red.", "The sky is red."),
        final('{"color": "green"}', "The sky is red."),
        f"{thinking('The sky is red.')}",
        called("functions.paint", {"colour": "red"}, "The sky is red."),
    ],
    ids=["prose", "not of the schema", "thought alone", "a call"],
)
def test_one_that_does_not_is_held_to_it_with_the_thought_kept(free: str) -> None:
    with vllm_server(free, '{"color": "red"}') as server:
        (reply,) = ask(server, question(schema=COLOR))
    assert (json.loads(reply.text), reply.thought) == ({"color": "red"}, "The sky is red.")
    assert (reply.tool_calls, reply.finish_reason) == ((), "stop")
    first, second = (request.json for request in server.requests)
    held = second["response_format"]["json_schema"]
    assert (held["schema"], second["response_format"]["type"]) == (COLOR, "json_schema")
    written = decode(second["prompt"][len(first["prompt"]) :])
    assert second["prompt"][: len(first["prompt"])] == first["prompt"]
    assert written == (
        "<|channel|>analysis<|message|>The sky is red.<|end|><|start|>assistant"
        "<|channel|>final <|constrain|>json<|message|>"
    )
    assert second["prompt"][-1] == MESSAGE
    assert (reply.usage.requests, reply.usage.input_tokens) == (2, len(first["prompt"]) + len(second["prompt"]))


@pytest.mark.parametrize("wire", ["harmony", "chat"])
def test_a_call_of_nothing_that_is_offered_is_the_answer_where_json_was_asked_for(wire: Any) -> None:
    with vllm_server(called("functions.paint", {"color": "red"}, "The sky.")) as server:
        (reply,) = ask(server, question(schema=COLOR), wire=wire)
    assert (json.loads(reply.text), reply.tool_calls, reply.finish_reason) == ({"color": "red"}, (), "stop")
    assert len(server.requests) == 1


def test_a_schema_that_can_not_be_checked_asks_for_json_alone() -> None:
    schema = {"type": "object", "unevaluatedProperties": False}
    with vllm_server(final('{"a": 1}'), final("No."), '{"a": 2}') as server:
        replies = ask(server, question(schema=schema), question(schema=schema))
    assert [reply.text for reply in replies] == ['{"a": 1}', '{"a": 2}']


def test_a_forced_function_is_called_freely_or_has_its_header_written() -> None:
    with vllm_server(called("functions.add", {"a": 1}, "Sum.")) as server:
        (reply,) = ask(server, question(ADD, OPEN, forced="add"))
    assert ([call.name for call in reply.tool_calls], len(server.requests)) == (["add"], 1)
    with vllm_server(final("Twelve.", "Sum."), '{"a": 12}') as server:
        (reply,) = ask(server, question(ADD, OPEN, forced="add"))
    ((name, arguments),) = [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
    assert (name, arguments, reply.finish_reason, reply.thought) == ("add", {"a": 12}, "tool_calls", "Sum.")
    second = server.requests[1].json
    assert second["response_format"]["json_schema"]["schema"] == ADD.parameters
    assert decode(second["prompt"]).endswith(
        "Sum.<|end|><|start|>assistant to=functions.add<|channel|>commentary <|constrain|>json<|message|>"
    )


def test_a_forced_tool_of_the_training_is_called_within_the_thought() -> None:
    with vllm_server(final("No."), '{"cmd": "ls"}') as server:
        (reply,) = ask(server, question(EXEC, forced="exec"))
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("exec", '{"cmd": "ls"}')]
    assert prompts(server)[1].endswith("<|start|>assistant to=container.exec<|channel|>analysis code<|message|>")


def test_a_failure_while_it_is_held_costs_both() -> None:
    with vllm_server(final("Red."), cut('{"color"')) as server, pytest.raises(BrokenReply) as caught:
        ask(server, question(schema=COLOR))
    assert caught.value.usage.requests == 2
    sent = sum(len(request.json["prompt"]) for request in server.requests)
    assert caught.value.usage.input_tokens == sent


# Hostile chunks

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
CHOICE = st.fixed_dictionaries(
    {"text": JSON | st.text()},
    optional={"token_ids": JSON | st.lists(st.integers(-10, 300_000)), "finish_reason": JSON, "stop_reason": JSON},
)
CHUNK = st.fixed_dictionaries(
    {}, optional={"choices": JSON | st.lists(CHOICE, max_size=2), "usage": JSON, "object": JSON}
)


@given(st.lists(CHUNK, max_size=6))
def test_no_chunk_is_more_than_a_broken_reply(chunks: list[dict[str, Any]]) -> None:
    collector = HarmonyCollector([ADD, OPEN])
    with contextlib.suppress(BrokenReply):
        for chunk in chunks:
            collector.add(chunk)
        collector.reply(Timing())


@given(st.data())
def test_however_ids_are_cut_into_chunks_the_reply_is_the_same(data: st.DataObject) -> None:
    turn = data.draw(st.sampled_from([final("漢字 🎉.", "Denken: ü."), called("functions.add", {"a": 1}, "Hm.")]))
    ids = encode(turn)
    collector = HarmonyCollector([ADD])
    start = 0
    while start < len(ids):
        end = data.draw(st.integers(start + 1, len(ids)))
        reason = "stop" if end == len(ids) else None
        collector.add({"choices": [{"text": "", "token_ids": ids[start:end], "finish_reason": reason}]})
        start = end
    reply = collector.reply(Timing())
    expected = ("漢字 🎉.", "Denken: ü.", []) if "漢字" in turn else ("", "Hm.", [("add", '{"a": 1}')])
    assert (reply.text, reply.thought, [(call.name, call.arguments) for call in reply.tool_calls]) == expected
