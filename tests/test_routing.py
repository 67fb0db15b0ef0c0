"""A run goes on with the next provider where one fails; the conversation is the same, whoever is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from miyabi_cli.errors import (
    BudgetReached,
    MachineError,
    MiyabiError,
    NotLocal,
    ProviderError,
    ProviderOverloaded,
    ProviderRefused,
    ProviderUnreachable,
    SettingsError,
    ToolsRefused,
)
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.routing import Choice, Routed, open_first
from miyabi_cli.messages import ChatRequest, Delta, Function, Message, Piece, Reply, Switched, Usage

ONCE = Retries(attempts=2, first_wait=0.0)
QUESTION = ChatRequest([Message("user", "hello")])
TOOL = Function("exec", "Run a command.", {"type": "object", "properties": {}})


class Script:
    """A wire that plays answers, the last one again and again; it keeps what it was asked."""

    max_tokens = 8192
    profile: Profile = profile_of("m")

    def __init__(self, name: str, *answers: Reply | Exception, tools: bool = True) -> None:
        self.name = name
        self.model_name = f"{name}'s model"
        self.capabilities = Capabilities(tools=tools, schema=True)
        self._answers = list(answers)
        self.asked: list[ChatRequest] = []
        self.closed = 0

    async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        yield Delta("a")
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        yield answer

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:
        raise NotImplementedError

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        return len(messages) + len(functions)

    async def close(self) -> None:
        self.closed += 1


def choice(name: str, wire: Script | MiyabiError) -> Choice:
    async def open_it() -> Provider:
        if isinstance(wire, MiyabiError):
            raise wire
        return Provider(wire, retries=ONCE)

    return Choice(name, open_it)


def choices(*wires: Script | MiyabiError) -> list[Choice]:
    return [choice(getattr(wire, "name", f"{number}"), wire) for number, wire in enumerate(wires, start=1)]


def routed(first: Script, *others: Script | MiyabiError, told: list[str] | None = None, stop: bool = False) -> Routed:
    tell = (told if told is not None else []).append
    return asyncio.run(open_first(choices(first, *others), tell, stop_at_budget=stop))


def pieces_of(provider: Provider, request: ChatRequest = QUESTION) -> list[Piece]:
    async def main() -> list[Piece]:
        return [piece async for piece in provider.stream(request)]

    return asyncio.run(main())


def down() -> ProviderUnreachable:
    return ProviderUnreachable("no answer", usage=Usage(1, 10))


def keyless() -> ProviderRefused:
    error = ProviderRefused("no key", usage=Usage(1, 10))
    error.needs_key = True
    return error


@pytest.mark.parametrize(
    "failure",
    [
        down(),
        ProviderOverloaded("busy", usage=Usage(1, 10)),
        BudgetReached("spent", usage=Usage(1, 10)),
        keyless(),
    ],
)
def test_the_next_is_asked_the_same(failure: ProviderError) -> None:
    first, second = Script("one", failure), Script("two", Reply("hello", usage=Usage(1, 5)))
    provider = routed(first, second)
    pieces = pieces_of(provider)
    tries = len(first.asked)
    assert Switched("one", "two", "two's model", failure.message) in pieces
    reply = pieces[-1]
    assert isinstance(reply, Reply)
    assert (reply.text, reply.usage.input_tokens, reply.usage.requests) == ("hello", 5 + 10 * tries, 1 + tries)
    assert second.asked == [QUESTION]
    assert (provider.name, provider.model_name) == ("two", "two's model")
    pieces_of(provider)
    assert len(first.asked) == tries, "it does not go back"
    asyncio.run(provider.close())
    assert (first.closed, second.closed) == (1, 1)


def test_a_refusal_is_no_reason_to_switch() -> None:
    second = Script("two", Reply("hello"))
    with pytest.raises(ProviderRefused):
        pieces_of(routed(Script("one", ProviderRefused("wrong key")), second))
    assert second.asked == []


def test_a_budget_ends_it_where_the_settings_say_so() -> None:
    second = Script("two", Reply("hello"))
    with pytest.raises(BudgetReached):
        pieces_of(routed(Script("one", BudgetReached("spent")), second, stop=True))
    assert second.asked == []


def test_one_after_the_other_until_none_is_left() -> None:
    told: list[str] = []
    provider = routed(Script("one", down()), MachineError("no such model"), Script("three", down()), told=told)
    with pytest.raises(ProviderUnreachable) as caught:
        pieces_of(provider)
    assert caught.value.usage.requests == 4
    assert told == [
        "the fallback 2 can't be used: no such model",
        "one is given up (no answer): the run goes on with three's model by three",
    ]
    assert provider.name == "three"


def test_functions_are_not_sent_where_none_are_taken() -> None:
    request = ChatRequest([Message("user", "hello")], (TOOL,))
    second = Script("two", Reply("hello"), tools=False)
    provider = routed(Script("one", down()), second)
    with pytest.raises(ToolsRefused) as caught:
        pieces_of(provider, request)
    assert caught.value.usage.requests == 2
    assert second.asked == []
    assert isinstance(pieces_of(provider)[-1], Reply)


def test_many_conversations_switch_once() -> None:
    first = Script("one", down())
    provider = routed(first, Script("two", Reply("hello")), Script("three", Reply("never")))

    async def main() -> list[list[Piece]]:
        async def one() -> list[Piece]:
            return [piece async for piece in provider.stream(QUESTION)]

        return await asyncio.gather(*(one() for _ in range(20)))

    for pieces in asyncio.run(main()):
        assert Switched("one", "two", "two's model", "no answer") in pieces
        assert isinstance(pieces[-1], Reply)
    assert provider.name == "two"


@pytest.mark.parametrize("fault", [MachineError("not pulled"), down(), NotLocal("elsewhere")])
def test_what_can_not_be_opened_gives_way_to_the_next(fault: MiyabiError) -> None:
    told: list[str] = []
    another = MachineError("no engine")
    provider = asyncio.run(open_first(choices(fault, another, Script("three", Reply("hello"))), told.append))
    assert provider.name == "three"
    switched, *_, reply = pieces_of(provider)
    assert switched == Switched("1", "three", "three's model", fault.message)
    assert isinstance(reply, Reply)
    assert told == [
        "the fallback 2 can't be used: no engine",
        f"1 is given up ({fault.message}): the run goes on with three's model by three",
    ]
    assert not any(isinstance(piece, Switched) for piece in pieces_of(provider)), "it is told once"


def test_the_first_one_s_fault_is_raised_where_no_other_can_be_had_or_the_user_must_mend_it() -> None:
    for wires in ([down(), MachineError("no engine")], [SettingsError("no model"), Script("two", Reply("hello"))]):
        with pytest.raises(MiyabiError) as caught:
            asyncio.run(open_first(choices(*wires), print))
        assert caught.value is wires[0]
