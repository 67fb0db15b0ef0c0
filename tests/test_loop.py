"""The agent's loop, driven by recorded replies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.agent.actions import Actions, NativeTools, SchemaActions, actions_for
from miyabi_cli.agent.allowance import Allowance, Bounds
from miyabi_cli.agent.conversation import Conversation
from miyabi_cli.agent.loop import Agent
from miyabi_cli.agent.repetition import RepetitionWatch
from miyabi_cli.errors import BrokenReply, ProviderError
from miyabi_cli.events import Event, ReplyReceived, ToolEnded, ToolStarted
from miyabi_cli.fences import fenced
from miyabi_cli.llm.harmony.rendering import Head, render
from miyabi_cli.llm.harmony.tokens import decode
from miyabi_cli.llm.profiles import Capabilities, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.replay import Replay, open_replay, read_lines, replies_of
from miyabi_cli.messages import SERVERS_CHOICE, Function, Message, Sampling, Usage
from tests.conftest import ROOT

LOOK = Function("look", "Look.", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]})
HEAD = [Message("system", "head"), Message("user", "task")]


@dataclass(frozen=True)
class Looked:
    output: str
    failed: bool = False
    changed: tuple[str, ...] = ()


def action(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool_calls": [{"id": f"id-{tool}", "name": tool, "arguments": arguments}]}


Play = Callable[..., tuple[Agent, list[Event], list[tuple[str, str]]]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play replies through an agent whose one tool says what it was asked."""

    def run(
        *replies: dict[str, Any],
        bounds: Bounds | None = None,
        actions: Actions | None = None,
        changed: tuple[str, ...] = (),
        clock: Callable[[], float] | None = None,
        sampling: Sampling = SERVERS_CHOICE,
    ) -> tuple[Agent, list[Event], list[tuple[str, str]]]:
        file = tmp_path / "replies.jsonl"
        file.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
        ran: list[tuple[str, str]] = []

        async def tool(name: str, arguments: str) -> Looked:
            ran.append((name, arguments))
            return Looked(f"{name} says {arguments}", changed=changed)

        async def main() -> tuple[Agent, list[Event]]:
            allowance = Allowance(bounds or Bounds(), **({"clock": clock} if clock else {}))
            conversation = Conversation(open_replay(file), list(HEAD), allowance, sampling)
            agent = Agent(conversation, actions or NativeTools([LOOK]), tool)
            return agent, [event async for event in agent.turn()]

        agent, events = asyncio.run(main())
        return agent, events, ran

    return run


def test_it_runs_tools_until_the_model_answers(play: Play) -> None:
    agent, events, ran = play({**action("look", at="a"), "thought": "hm"}, {"text": "Done."})
    assert (agent.ending, agent.answer, agent.steps) == ("answered", "Done.", 2)
    assert ran == [("look", '{"at": "a"}')]
    assert [message.role for message in agent.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert agent.messages[2].thought == "hm"
    assert (agent.messages[3].tool_call_id, agent.messages[3].content) == ("id-look", 'look says {"at": "a"}')
    order = [type(event) for event in events if isinstance(event, (ReplyReceived, ToolStarted, ToolEnded))]
    assert order == [ReplyReceived, ToolStarted, ToolEnded, ReplyReceived]


def test_the_history_is_only_appended_to(play: Play) -> None:
    agent, _, _ = play(action("look", at="a"), {"text": ""}, {"text": "Done."})
    assert agent.messages[:2] == HEAD
    assert "was empty" in agent.messages[-2].content
    assert agent.answer == "Done."


@pytest.mark.parametrize("finish", ["length", "model_length", "abort", "error", "content_filter", "MAX_TOKENS"])
def test_a_call_that_was_cut_off_never_runs(play: Play, finish: str) -> None:
    agent, _, ran = play({**action("look", at="a"), "finish_reason": finish}, {"text": "Done."})
    assert ran == []
    assert "cut off" in agent.messages[-2].content
    assert agent.messages[-3].tool_calls == ()


@pytest.mark.parametrize("thought", ["", "Second."])
def test_an_answer_that_was_cut_off_leaves_the_prompt_before_it_as_it_was(play: Play, thought: str) -> None:
    """Harmony drops the thought before an answer, and with it the server's cache; half an answer is none."""
    half = {"thought": thought, "text": "Half an answ", "finish_reason": "length"}
    agent, _, _ = play({"thought": "PLAN", **action("look", at="a")}, half, {"text": "Done."})
    cut, complaint = agent.messages[4:6]
    assert (cut.content, complaint.role) == ("", "user")
    assert cut.thought.split() == [*thought.split(), "Half", "an", "answ"]
    before, after = (render(agent.messages[:end], Head()) for end in (4, 6))
    assert "PLAN" in decode(after.ids)
    assert after.json.startswith(before.json.removesuffix(b",200006,173781]"))


def test_a_thought_without_end_is_told_and_the_effort_lowered_for_good(play: Play) -> None:
    endless = {"thought": "hm " * 4_000, "finish_reason": "length"}
    agent, _, ran = play(endless, endless, action("look", at="a"), {"text": "Done."}, sampling=Sampling(effort="high"))
    assert (agent.answer, len(ran), agent.conversation.sampling.effort) == ("Done.", 1, "low")
    assert "while you thought" in agent.messages[3].content
    assert len(agent.messages[2].thought) < 3_000


def test_a_thought_that_goes_round_in_a_circle_is_cut_off(play: Play) -> None:
    circle = "Wait, the file may have changed, so I open it once more and look at each line of it. " * 400
    agent, events, _ = play({"thought": circle}, {"text": "Done."}, sampling=Sampling(effort="high"))
    (cut, _) = [event.reply for event in events if isinstance(event, ReplyReceived)]
    assert (cut.finish_reason, cut.usage.requests, cut.usage.output_tokens) == ("repetition", 1, len(circle) // 4)
    assert (agent.answer, agent.conversation.sampling.effort) == ("Done.", "medium")


@pytest.mark.parametrize("period", [1, 30, 700, 1_800])
def test_a_repetition_is_noticed_whatever_its_period_and_its_pieces(period: int) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()[:period] * (80_000 // period)
    for size in (7, 100_000):
        watch = RepetitionWatch()
        assert any(watch.repeats(text[start : start + size]) for start in range(0, len(text), size))


def test_prose_and_code_and_data_are_no_repetition() -> None:
    package = ROOT / "miyabi_cli"
    for path in (*package.glob("agent/*.py"), *ROOT.glob("*.md"), *package.glob("schemas/*.json")):
        watch, text = RepetitionWatch(), path.read_text() * 2
        assert not any(watch.repeats(text[start : start + 50]) for start in range(0, len(text), 50)), path


def test_all_calls_of_one_reply_run_in_their_order(play: Play) -> None:
    several = [{"id": f"call-{at}", "name": "look", "arguments": {"at": at}} for at in "abc"]
    agent, _, ran = play({"tool_calls": several}, {"text": "Done."})
    assert [json.loads(arguments)["at"] for _, arguments in ran] == ["a", "b", "c"]
    assert [message.tool_call_id for message in agent.messages[3:6]] == ["call-a", "call-b", "call-c"]


def test_three_unusable_replies_end_it(play: Play) -> None:
    agent, _, _ = play({"text": ""}, {"text": " "}, {"text": ""}, {"text": "never asked"})
    assert (agent.ending, agent.steps) == ("stuck", 3)
    assert "empty" in agent.reason


def test_the_same_call_again_and_again_is_noted_and_then_ended(play: Play) -> None:
    agent, _, ran = play(*[action("look", at="a")] * 9)
    assert (agent.ending, len(ran)) == ("stuck", 5)
    outputs = [message.content for message in agent.messages if message.role == "tool"]
    assert ["Do something else" in output for output in outputs] == [False, False, True, True, True]


def test_the_same_call_is_no_loop_while_something_changes(play: Play) -> None:
    agent, _, ran = play(*[action("look", at="a")] * 6, {"text": "Done."}, changed=("a",))
    assert (agent.ending, len(ran)) == ("answered", 6)


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        (Bounds(steps=2), "the limit of 2 steps"),
        (Bounds(tokens=150), "the limit of 150 tokens"),
        (Bounds(cost_usd=0.02), "the cost limit of 0.02 USD"),
        (Bounds(seconds=10), "the time limit of 10 s"),
    ],
)
def test_each_limit_ends_it_between_two_steps(play: Play, bounds: Bounds, reason: str) -> None:
    usage = {"requests": 1, "input_tokens": 90, "output_tokens": 10, "cost_usd": 0.01}
    ticks = iter([0.0, 1.0, 6.0, 11.0])
    replies = [{**action("look", at=str(number)), "usage": usage} for number in range(9)]
    agent, _, ran = play(*replies, bounds=bounds, clock=lambda: next(ticks) if bounds.seconds == 10 else 0.0)
    assert (agent.ending, agent.reason) == ("limit", reason)
    assert 1 <= len(ran) <= 3


def test_a_provider_that_fails_raises_and_its_cost_is_on_the_account() -> None:
    class Failing(Replay):
        async def stream(self, *_: Any, **__: Any) -> Any:
            raise ProviderError("down", usage=Usage(requests=3, input_tokens=7))
            yield

    allowance = Allowance(Bounds())

    async def main() -> None:
        provider = Provider(Failing("none", profile_of("none"), ()))
        agent = Agent(Conversation(provider, list(HEAD), allowance), NativeTools([]), tool)
        async for _ in agent.turn():
            pass

    async def tool(name: str, arguments: str) -> Looked:
        raise AssertionError

    with pytest.raises(ProviderError, match="down"):
        asyncio.run(main())
    assert (allowance.usage.requests, allowance.usage.input_tokens) == (3, 7)


def test_a_recording_that_has_ended_is_an_error(play: Play) -> None:
    with pytest.raises(ProviderError, match="no more replies"):
        play(action("look", at="a"))


def test_a_model_without_tools_acts_by_objects(play: Play) -> None:
    actions = SchemaActions([LOOK], held=True)
    look = {"text": json.dumps({"tool": "look", "arguments": {"at": "b"}})}
    finish = {"text": '```json\n{"tool": "finish", "arguments": {"summary": "All done."}}\n```'}
    agent, _, ran = play(look, {"text": "I will look."}, finish, actions=actions)
    assert ran == [("look", '{"at": "b"}')]
    assert (agent.ending, agent.answer) == ("answered", "All done.")
    assert agent.messages[3] == Message("user", "Result of look:\n" + fenced('look says {"at": "b"}'))
    assert "could not be read: there is no JSON object" in agent.messages[5].content


def test_the_schema_of_actions_takes_each_tool_with_its_own_arguments_only() -> None:
    import jsonschema

    schema = SchemaActions([LOOK], held=True).schema
    assert schema is not None
    good = [{"tool": "look", "arguments": {"at": "x"}}, {"tool": "finish", "arguments": {"summary": "x"}}]
    bad = [{"tool": "look", "arguments": {}}, {"tool": "rm", "arguments": {}}, {"tool": "look", "arguments": {"at": 1}}]
    for value in good:
        jsonschema.validate(value, schema)
    for value in bad:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, schema)


def test_what_a_model_can_do_decides_how_it_is_asked() -> None:
    assert isinstance(actions_for(Capabilities(tools=True, schema=True), [LOOK]), NativeTools)
    held = actions_for(Capabilities(tools=False, schema=True), [LOOK])
    free = actions_for(Capabilities(tools=False, schema=False), [LOOK])
    assert held.schema is not None
    assert free.schema is None
    assert "- look(at): Look." in held.instructions == free.instructions


def test_recordings_are_read_from_a_log_or_from_plain_lines(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    reply = {"text": "a", "thought": "", "tool_calls": [], "usage": {"requests": 1}, "timing": {"total": 1.0}}
    file.write_text(
        json.dumps({"type": "run_started"})
        + "\n"
        + json.dumps({"type": "reply", "reply": reply})
        + '\n{"text": "b"}\n{"to'
    )
    assert [reply.text for reply in replies_of(read_lines(file))] == ["a", "b"]
    file.write_text('{"text": "a"}\nnonsense\n{"text": "b"}\n')
    with pytest.raises(BrokenReply, match="line 2"):
        read_lines(file)
