"""Requests are put down with what they cost, and none is sent that might pass a cap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from miyabi_cli.errors import BudgetReached, MachineError, ProviderOverloaded
from miyabi_cli.ledger.records import NANO, Amount, Caps, Origin, Reservation
from miyabi_cli.ledger.store import Ledger
from miyabi_cli.llm.metering import Account, Metered
from miyabi_cli.llm.prices import FREE, Price, find_price
from miyabi_cli.llm.profiles import Capabilities, Profile, profile_of
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.messages import ChatRequest, Delta, Function, Message, Piece, Reply, Sampling, Timing, Usage
from miyabi_cli.settings.schema import Price as PriceSetting

MODEL = "some/model"
DEAR = find_price("groq", MODEL, "", {MODEL: PriceSetting(input=10, output=100)})  # nano: 10,000 and 100,000 a token
REPLY = Reply("done", usage=Usage(1, 12, 0, 30, 0, None), timing=Timing(0.1, 0.5))


class Script:
    """A wire that answers with a script; `asked` counts the requests."""

    name = "groq"
    model_name = MODEL
    profile: Profile = profile_of(MODEL)
    max_tokens = 8192
    capabilities = Capabilities(tools=True, schema=True)

    def __init__(self, *answers: Reply | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.closed = False

    async def stream(self, request: ChatRequest) -> AsyncIterator[Piece]:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        yield Delta("some text that comes first")
        if isinstance(answer, Exception):
            raise answer
        yield answer

    def infill(self, prefix: str, suffix: str, max_tokens: int, stop: Sequence[str]) -> AsyncIterator[Piece]:
        return self.stream(ChatRequest([Message("user", prefix)]))

    async def count(self, messages: Sequence[Message], functions: Sequence[Function]) -> int:
        return 1

    async def close(self) -> None:
        self.closed = True


def metered(
    path: Path,
    wire: Script,
    *,
    price: Price | None = DEAR,
    monthly: float | None = None,
    run: float | None = None,
    told: list[str] | None = None,
) -> Metered:
    tell = (told if told is not None else []).append
    account = Account(Ledger(path), "codegen", "/repo", "r1", monthly, run, tell=tell)
    return Metered(wire, account, lambda: price, poll=0.01)


def ask(wire: Metered, times: int = 1, answer: int = 100) -> list[Reply]:
    """Ask for short replies with a cap on their tokens."""

    async def main() -> list[Reply]:
        provider = Provider(wire, retries=Retries(attempts=3, first_wait=0.0))
        replies = []
        for _ in range(times):
            request = ChatRequest([Message("user", "hello")], sampling=Sampling(max_tokens=answer))
            replies += [piece async for piece in provider.stream(request) if isinstance(piece, Reply)]
        return replies

    return asyncio.run(main())


def test_a_reply_is_priced_and_put_down(tmp_path: Path) -> None:
    wire = metered(tmp_path / "l", Script(REPLY))
    (reply,) = ask(wire)
    assert reply.usage.cost_usd == pytest.approx((12 * 10_000 + 30 * 100_000) / NANO)
    ledger = Ledger(tmp_path / "l")
    (row,) = ledger.rows("SELECT * FROM requests")
    assert (row["provider"], row["model"], row["command"], row["run_id"]) == ("groq", MODEL, "codegen", "r1")
    assert (row["input_tokens"], row["output_tokens"], row["cost_nano"]) == (12, 30, 3_120_000)
    assert (row["settled"], row["error"], row["seconds"]) == (1, "", 0.5)
    wire.account.ledger.close()
    ledger.close()


def test_each_failed_try_is_put_down_too(tmp_path: Path) -> None:
    failure = ProviderOverloaded("busy", usage=Usage(1, 5, 0, 0, 0, None))
    wire = metered(tmp_path / "l", Script(failure, failure, REPLY))
    (reply,) = ask(wire)
    assert reply.usage.requests == 3
    assert reply.usage.cost_usd == pytest.approx((22 * 10_000 + 30 * 100_000) / NANO)
    ledger = Ledger(tmp_path / "l")
    errors = [row["error"] for row in ledger.rows("SELECT error FROM requests ORDER BY id")]
    assert errors == ["provider_overloaded", "provider_overloaded", ""]
    assert ledger.spent().nano == 22 * 10_000 + 30 * 100_000
    wire.account.ledger.close()
    ledger.close()


@pytest.mark.parametrize(("scope", "monthly", "run"), [("month", 0.03, None), ("run", None, 0.03)])
def test_no_request_is_sent_that_might_pass_a_cap(
    tmp_path: Path, scope: str, monthly: float | None, run: float | None
) -> None:
    inner = Script(REPLY)
    wire = metered(tmp_path / "l", inner, monthly=monthly, run=run)
    with pytest.raises(BudgetReached, match=f"the {scope}'s budget of 0.03 USD is used up") as caught:
        ask(wire, times=50)
    assert inner.asked >= 5
    assert caught.value.hint
    spent = wire.account.ledger.spent().nano
    assert 0.015 * NANO < spent <= 0.03 * NANO
    wire.account.ledger.close()


def test_a_retry_past_the_cap_keeps_the_usage_of_the_tries_before(tmp_path: Path) -> None:
    wire = metered(tmp_path / "l", Script(ProviderOverloaded("busy", usage=Usage(1, 900, 0, 0, 0, None))), run=0.012)
    with pytest.raises(BudgetReached) as caught:
        ask(wire)
    assert caught.value.usage.requests == 1
    assert caught.value.usage.input_tokens == 900
    wire.account.ledger.close()


def test_what_others_have_reserved_is_waited_for(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    other = ledger.reserve(Origin("groq", MODEL), Amount(25_000_000), Caps())
    assert isinstance(other, Reservation)
    wire = metered(tmp_path / "l", Script(REPLY), monthly=0.03)

    async def main() -> list[Piece]:
        async def settle() -> None:
            await asyncio.sleep(0.1)
            ledger.settle(other, Usage(1, cost_usd=0.001), Amount(1_000_000))

        request = ChatRequest([Message("user", "hello")], sampling=Sampling(max_tokens=100))
        settling = asyncio.create_task(settle())
        pieces = [piece async for piece in wire.stream(request)]
        await settling
        return pieces

    assert isinstance(asyncio.run(main())[-1], Reply)
    wire.account.ledger.close()
    ledger.close()


def test_a_stream_that_is_left_is_settled_by_what_came(tmp_path: Path) -> None:
    wire = metered(tmp_path / "l", Script(REPLY))

    async def main() -> None:
        stream = wire.stream(ChatRequest([Message("user", "hello" * 100)], sampling=Sampling(max_tokens=100)))
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(main())
    (row,) = wire.account.ledger.rows("SELECT * FROM requests")
    assert (row["settled"], row["error"]) == (1, "left")
    assert 0 < row["cost_nano"] < row["reserved_nano"]
    wire.account.ledger.close()


def test_a_price_that_is_not_known_is_said_and_tokens_are_capped(tmp_path: Path) -> None:
    told: list[str] = []
    inner = Script(REPLY)
    wire = metered(tmp_path / "l", inner, price=None, run=0.0002, told=told)
    with pytest.raises(BudgetReached):
        ask(wire, times=50)
    assert inner.asked > 5
    assert told == [
        f"the price of {MODEL} is not known, so the caps hold for tokens, at 0.2 USD a million; set it: prices in the "
        "settings"
    ]
    assert wire.account.ledger.spent().tokens <= 1000
    assert ask(metered(tmp_path / "other", Script(REPLY), price=None))[0].usage.cost_usd is None
    with pytest.raises(ProviderOverloaded) as refused:
        ask(metered(tmp_path / "third", Script(ProviderOverloaded("busy", usage=Usage(1))), price=None))
    assert refused.value.usage.cost_usd == 0.0, "what was not read has cost nothing"
    wire.account.ledger.close()


def test_the_month_s_budget_is_warned_of_as_it_goes(tmp_path: Path) -> None:
    told: list[str] = []
    wire = metered(tmp_path / "l", Script(REPLY), monthly=0.05, told=told)
    with pytest.raises(BudgetReached):
        ask(wire, times=50)
    assert [text.split(" of the month")[0] for text in told][:2] == ["50 %", "80 %"]
    wire.account.ledger.close()


def test_without_a_ledger_only_what_is_free_goes_on(tmp_path: Path) -> None:
    (tmp_path / "l").mkdir()
    told: list[str] = []
    free = metered(tmp_path / "l", Script(REPLY), price=FREE, told=told)
    assert ask(free, times=2)[0].usage.cost_usd == 0.0
    assert len(told) == 1
    assert "requests are not put down" in told[0]
    inner = Script(REPLY)
    with pytest.raises(MachineError):
        ask(metered(tmp_path / "l", inner))
    assert inner.asked == 0
