"""vLLM over chat completions: when `auto` takes it, and all that gets lost there."""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from miyabi_cli.errors import (
    BrokenReply,
    ProviderRefused,
)
from miyabi_cli.llm.harmony.tokens import encode_text
from miyabi_cli.llm.vllm import open_vllm
from miyabi_cli.messages import Message, Reply, Sampling
from tests.support.server import send_error
from tests.support.vllm import MODEL, called, final, play_events, refuse, thinking, vllm_server
from tests.support.vllm_requests import ADD, COLOR, EXEC, NO_WAIT, ONCE, OPEN, QUESTION, ask, last_of, question

# auto

PLAIN_404 = send_error(404, {"detail": "Not Found"})
NOT_COMPLETIONS = {
    "404": PLAIN_404,
    "405": send_error(405, {"detail": "Method Not Allowed"}),
    "501": send_error(501, b"not implemented"),
    "no token ids": send_error(400, {"error": {"message": "prompt must be a string", "code": 400}}),
    "unprocessable": send_error(422, {"detail": [{"loc": ["body", "prompt"], "msg": "str type expected"}]}),
    "chat on every path": lambda handler, _: play_events(
        handler, [{"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}]
    ),
}


@pytest.mark.parametrize("case", NOT_COMPLETIONS)
def test_auto_goes_on_by_chat_where_completions_are_not_served_and_remembers(case: str) -> None:
    with vllm_server(NOT_COMPLETIONS[case], final("One."), final("Two.")) as server:
        replies = ask(server, question(), question())
    assert [reply.text for reply in replies] == ["One.", "Two."]
    routes = [path for path in server.asked if path != "/v1/models"]
    assert routes == ["/v1/completions", "/v1/chat/completions", "/v1/chat/completions"]


def test_auto_goes_on_by_chat_at_a_server_without_the_route() -> None:
    with vllm_server(final("One."), serves_completions=False) as server:
        assert ask(server, question())[0].text == "One."
        with pytest.raises(ProviderRefused, match="404"):
            ask(server, question(), wire="harmony")


def test_streams_that_start_together_all_go_on_by_chat() -> None:
    with vllm_server(final("One."), serves_completions=False) as server:

        async def main() -> list[Reply]:
            async with open_vllm(server.url) as provider:
                return await asyncio.gather(*(last_of(provider, question()) for _ in range(8)))

        assert [reply.text for reply in asyncio.run(main())] == ["One."] * 8


def test_a_request_that_chat_refuses_as_well_is_no_reason_to_leave_harmony() -> None:
    says_no = refuse(400, "The engine says no.")
    with vllm_server(says_no, says_no, final("One.")) as server:

        async def main() -> Reply:
            async with open_vllm(server.url, retries=ONCE) as provider:
                with pytest.raises(ProviderRefused, match="engine"):
                    await last_of(provider, question())
                return await last_of(provider, question())

        assert asyncio.run(main()).text == "One."
    assert server.requests[-1].path == "/v1/completions"


def test_auto_takes_one_request_for_gpt_oss_and_chat_for_every_other_model() -> None:
    for model, route in ((MODEL, "/v1/completions"), ("Qwen/Qwen3-Coder", "/v1/chat/completions")):
        with vllm_server(final("One."), model=model) as server:
            assert ask(server, question())[0].text == "One."
        assert [path for path in server.asked if path != "/v1/models"] == [route]


def test_auto_does_not_turn_to_chat_once_harmony_was_spoken() -> None:
    says_no = pytest.raises(ProviderRefused, match="The engine says no")
    with vllm_server(final("One."), refuse(400, "The engine says no."), final("Two.")) as server, says_no:
        ask(server, question(), question())
    assert "/v1/chat/completions" not in server.asked


# Chat completions


def test_chat_calls_tools_by_their_bare_names_and_sends_the_thought_back() -> None:
    turns = (called("functions.exec", {"cmd": "ls"}, "I look."), called("repo_browser.open_file", {"path": "a"}))
    with vllm_server(*turns, final("Done.")) as server:

        async def main() -> list[Message]:
            history = list(QUESTION)
            async with open_vllm(server.url, wire="chat") as provider:
                for _ in range(3):
                    reply = await last_of(
                        provider, question(EXEC, OPEN, messages=history, sampling=Sampling(effort="low"))
                    )
                    history.append(reply.message())
                    history += [
                        Message("tool", "text", tool_call_id=call.id, tool_name=call.name) for call in reply.tool_calls
                    ]
            return history

        history = asyncio.run(main())
    first, second, third = (request.json for request in server.requests)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["exec", "open_file"]
    assert first["reasoning_effort"] == "low"
    sent = second["messages"][2]
    assert sent["reasoning"] == "I look."
    assert sent["tool_calls"][0]["function"]["name"] == "exec"
    assert second["messages"][3]["tool_call_id"] == sent["tool_calls"][0]["id"] == history[2].tool_calls[0].id
    assert history[4].tool_calls[0].name in ("open_file", "repo_browser.open_file")
    assert third["messages"][: len(second["messages"])] == second["messages"]


def test_chat_without_functions_sends_no_empty_list_which_is_refused() -> None:
    with vllm_server(final("Hi.", "Think.")) as server:
        (reply,) = ask(server, question(), wire="chat")
    assert (reply.text, reply.thought) == ("Hi.", "Think.")
    assert "tools" not in server.requests[0].json
    assert reply.usage.reasoning_tokens == len(encode_text("Think."))


def test_chat_holds_an_answer_by_response_format_and_sends_nothing_that_is_ignored() -> None:
    with vllm_server(final('{"color": "red"}')) as server:
        (reply,) = ask(server, question(schema=COLOR), wire="chat")
    body = server.requests[0].json
    assert json.loads(reply.text) == {"color": "red"}
    assert body["response_format"]["json_schema"]["schema"] == COLOR
    assert not [key for key in body if key.startswith("guided")]


def test_chat_forces_a_function_by_its_name_and_trusts_the_call_before_the_finish_reason() -> None:
    with vllm_server(called("functions.add", {"a": 3})) as server:
        (reply,) = ask(server, question(ADD, forced="add"), wire="chat")
    assert server.requests[0].json["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert [call.name for call in reply.tool_calls] == ["add"]


FLAGS = "--tool-call-parser openai --enable-auto-tool-choice"


PREAMBLE = "<|channel|>commentary<|message|>I add them.<|end|><|start|>assistant"


@pytest.mark.parametrize("preamble", ["", PREAMBLE])
def test_a_server_without_its_tool_flags_is_named_when_a_call_vanishes(preamble: str) -> None:
    turn = thinking("I add.") + preamble + called("functions.add", {"a": 3})
    with vllm_server(turn, tool_flags=False) as server:
        with pytest.raises(BrokenReply, match="lost a tool call") as caught:
            ask(server, question(ADD), wire="chat", retries=NO_WAIT)
        assert ask(server, question(ADD))[0].tool_calls
    assert FLAGS in str(caught.value.hint)
    assert caught.value.usage.requests == 4


def test_where_no_token_gives_the_call_away_the_second_empty_reply_in_a_row_does() -> None:
    options = {"tool_flags": False, "tells_stop_reason": False}
    with vllm_server(called("functions.add", {"a": 3}, "I add."), **options) as server:
        (reply,) = ask(server, question(ADD), wire="chat")
        assert (reply.text, reply.tool_calls) == ("", ())
        with pytest.raises(BrokenReply, match="lost a tool call"):
            ask(server, question(ADD, messages=[*QUESTION, reply.message(), Message("user", "Go on.")]), wire="chat")


def test_empty_replies_to_two_conversations_are_not_two_in_a_row() -> None:
    options = {"tool_flags": False, "tells_stop_reason": False}
    with vllm_server(called("functions.add", {"a": 3}, "I add."), **options) as server:

        async def main() -> list[Reply]:
            async with open_vllm(server.url, wire="chat", retries=ONCE) as provider:
                return await asyncio.gather(*(last_of(provider, question(ADD)) for _ in range(3)))

        assert [reply.text for reply in asyncio.run(main())] == ["", "", ""]


def test_that_auto_has_turned_to_chat_is_told_once() -> None:
    told: list[str] = []
    with vllm_server(final("One."), serves_completions=False) as server:
        ask(server, question(), question(), tell=told.append)
        ask(server, question(), wire="chat", tell=told.append)
    assert told == ["vllm serves no raw Harmony: chat completions are used"]


def test_a_lost_call_is_asked_for_again_and_the_hint_names_the_flags_only_where_no_call_ever_came() -> None:
    lost = called("container.exec", {"cmd": "ls"}, "I look.")
    whole = called("functions.exec", {"cmd": "ls"})
    with vllm_server(whole, lost, lost, whole) as server:
        replies = ask(server, question(EXEC), question(EXEC), wire="chat", retries=NO_WAIT)
    assert [reply.tool_calls[0].name for reply in replies] == ["exec", "exec"]
    assert replies[1].usage.requests == 3
    with vllm_server(whole, lost) as server, pytest.raises(BrokenReply) as caught:
        ask(server, question(EXEC), question(EXEC), wire="chat", retries=NO_WAIT)
    assert FLAGS not in str(caught.value.hint)
    assert "harmony" in str(caught.value.hint)


def test_arguments_that_came_as_text_since_the_recipient_was_missing_are_a_call() -> None:
    turn = '<|channel|>commentary <|constrain|>json<|message|>{"a": 5}<|call|>'
    with vllm_server(turn) as server:
        (reply,) = ask(server, question(ADD, OPEN), wire="chat")
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("add", '{"a": 5}')]
    with vllm_server(final('{"a": 5}')) as server:
        (reply,) = ask(server, question(ADD, OPEN), wire="chat")
    assert (reply.tool_calls, reply.text) == ((), '{"a": 5}')


def leaked(text: str, finish: str) -> Any:
    def turn(handler: BaseHTTPRequestHandler, _: Any) -> None:
        choices = [{"index": 0, "delta": {"content": text}}, {"index": 0, "delta": {}, "finish_reason": finish}]
        play_events(handler, [*({"choices": [choice]} for choice in choices), "[DONE]"])

    return turn


LEAKS = {
    "<|channel|>analysis": ("length", "", 0),
    "<|return|>": ("stop", "", 0),
    '<|message|>{"a": 1}': ("stop", "", 1),
    "<|channel|>final<|message|>Done.<|return|>": ("stop", "Done.", 0),
    '<|start|>assistant<|channel|>commentary to=functions.add<|message|>{"a": 1}<|call|>': ("stop", "", 1),
    "The mark <|call|> ends a call.": ("stop", "The mark <|call|> ends a call.", 0),
}


@pytest.mark.parametrize("text", LEAKS)
def test_raw_harmony_that_leaks_into_the_text_of_a_chat_is_read(text: str) -> None:
    finish, said, calls = LEAKS[text]
    with vllm_server(leaked(text, finish)) as server:
        (reply,) = ask(server, question(ADD), wire="chat")
    assert reply.text.startswith(said) if calls else reply.text == said
    assert (len(reply.tool_calls), reply.finish_reason) == (calls, finish)


def test_an_answer_that_its_schema_made_the_server_lose_is_asked_for_again() -> None:
    """vLLM 0.32 reads the header `final json` as a recipient."""
    with vllm_server("<|channel|>analysis<|message|>Red.<|end|>", final('{"color": "red"}')) as server:
        (reply,) = ask(server, question(schema=COLOR), wire="chat", retries=NO_WAIT)
    assert (json.loads(reply.text), reply.usage.requests) == ({"color": "red"}, 2)


def test_an_empty_answer_without_functions_is_no_lost_call() -> None:
    with vllm_server(thinking("Nothing to say.") + "<|channel|>final<|message|><|return|>") as server:
        replies = ask(server, question(), question(), question(), wire="chat")
    assert [reply.text for reply in replies] == ["", "", ""]
