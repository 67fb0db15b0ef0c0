"""Budgets read from headers and refusals, and requests that wait for them before they are sent."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import ProviderError, ProviderOverloaded
from miyabi_cli.llm.budgets import Bucket, Figures, read_duration, read_figures, read_spent, read_wait
from miyabi_cli.llm.pacing import Limiter, Reservation, shared_limiter, span_of
from miyabi_cli.messages import Waiting
from tests.support.groq import Clock

TPM = "Rate limit reached for model `m` in organization `o` service tier `on_demand` on tokens per minute (TPM): "


def headers(remaining: int, reset: str, limit: int = 6000) -> dict[str, str]:
    return {
        "x-ratelimit-limit-tokens": str(limit),
        "x-ratelimit-remaining-tokens": str(remaining),
        "x-ratelimit-reset-tokens": reset,
    }


def refused(message: str, **more: Any) -> ProviderOverloaded:
    return ProviderOverloaded(message, status=429, **more)


class Asker:
    """Asks a limiter over a clock that only sleeping moves."""

    def __init__(self, **more: Any) -> None:
        self.clock = Clock()
        self.limiter = Limiter(clock=self.clock, sleep=self.clock.sleep, **more)

    async def admitted(self, tokens: float) -> tuple[Reservation, list[Waiting]]:
        pieces = [piece async for piece in self.limiter.admit(tokens)]
        reservation = pieces.pop()
        assert isinstance(reservation, Reservation)
        assert all(isinstance(piece, Waiting) for piece in pieces)
        return reservation, pieces  # type: ignore[return-value]

    def ask(self, tokens: float) -> tuple[Reservation, list[Waiting]]:
        return asyncio.run(self.admitted(tokens))

    def answer(self, tokens: float, remaining: int, reset: str, *, used: float | None = None) -> None:
        """One request and its response."""
        reservation, _ = self.ask(tokens)
        self.limiter.observe(headers(remaining, reset), reservation)
        self.limiter.settle(reservation, tokens if used is None else used)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.57s", 1.57),
        ("2m59s", 179),
        ("2m59.56s", 179.56),
        ("7m12.5s", 432.5),
        ("120ms", 0.12),
        ("1h2m", 3720),
        ("1h2m3.5s", 3723.5),
        ("0s", 0),
        ("3", 3),
        ("250µs", 0.00025),
        ("", None),
        (None, None),
        ("soon", None),
        ("1.57s!", None),
        ("-3s", None),
        ("nan", None),
        ("1e400", None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert read_duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=200))
def test_no_text_breaks_a_reader(text: str) -> None:
    assert (read_duration(text) or 0) >= 0
    error = ProviderError(text)
    read_spent(error)
    assert (read_wait(error) or 0) >= 0
    figures = read_figures(dict.fromkeys(headers(1, "1s"), text), "tokens")
    assert figures is None or 0 <= figures.remaining <= figures.limit


def test_figures_of_both_budgets() -> None:
    both = headers(5843, "1.57s") | {
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "2m59.56s",
    }
    assert read_figures(both, "tokens") == Figures(6000, 5843, 1.57)
    assert read_figures(both, "requests") == Figures(14400, 14370, 179.56)
    assert read_figures({}, "tokens") is None


def test_a_refusal_names_its_budget() -> None:
    spent = read_spent(refused(TPM + "Limit 6000, Used 5034, Requested 1443. Please try again in 4.77s."))
    assert spent is not None
    assert (spent.unit, spent.span, spent.limit, spent.used, spent.requested) == ("tokens", 60, 6000, 5034, 1443)
    daily = read_spent(
        refused("on requests per day (RPD): Limit 1000, Used 1000, Requested 1. Please try again in 1m26s.")
    )
    assert daily is not None
    assert (daily.unit, daily.span, daily.used) == ("requests", 86400, 1000)
    assert read_wait(refused(TPM + "Limit 6000. Please try again in 1m30.002s. Need more?")) == pytest.approx(90.002)
    assert read_spent(refused("no budget at all")) is None


def test_a_budget_fills_evenly_where_the_reset_says_so() -> None:
    bucket = Bucket.full(6000, 60, 0.0)
    bucket.learn(Figures(6000, 5843, 1.57), 0, 10.0)
    assert bucket.wait(6000, 0, 10.0) == pytest.approx(1.57)
    assert bucket.wait(5900, 0, 10.0) == pytest.approx(0.57)


def test_a_budget_comes_back_at_its_reset_where_that_is_another_time() -> None:
    bucket = Bucket.full(6000, 60, 0.0)
    bucket.learn(Figures(6000, 100, 2.0), 0, 10.0)
    assert bucket.wait(200, 0, 10.0) == pytest.approx(2.0)
    assert bucket.wait(200, 0, 11.5) == pytest.approx(0.5)
    assert bucket.wait(6000, 0, 12.0) == 0


def test_what_is_larger_than_a_budget_waits_for_the_whole_of_it() -> None:
    bucket = Bucket.full(6000, 60, 0.0)
    bucket.level = 0
    assert bucket.wait(99_000, 0, 0.0) == pytest.approx(60)


@given(
    st.lists(
        st.tuples(st.integers(1, 9000), st.integers(0, 6000), st.floats(0, 500), st.floats(0, 100)),
        max_size=20,
    )
)
def test_a_wait_ends_when_it_says(steps: list[tuple[int, int, float, float]]) -> None:
    bucket = Bucket.full(6000, 60, 0.0)
    now = 0.0
    for amount, remaining, reset, pause in steps:
        now += pause
        bucket.learn(Figures(6000, remaining, reset), 0, now)
        seconds = bucket.wait(amount, 0, now)
        assert seconds >= 0
        assert bucket.wait(amount, 0, now + seconds + 1e-3) == pytest.approx(0, abs=1e-2)


def test_nothing_waits_while_nothing_is_known() -> None:
    asker = Asker()
    for _ in range(5):
        reservation, waits = asker.ask(1_000_000)
        asker.limiter.observe({}, reservation)
        asker.limiter.settle(reservation, 5)
        assert waits == []
    assert asker.clock.naps == []


def test_a_request_waits_until_the_budget_holds_it_and_says_so() -> None:
    asker = Asker()
    asker.answer(5000, 1000, "50s")
    reservation, (wait,) = asker.ask(4000)
    assert reservation.tokens == 4000
    assert wait.seconds == pytest.approx(30)
    assert "6,000 tokens per minute" in wait.reason
    assert sum(asker.clock.naps) == pytest.approx(30, abs=0.1)


def test_a_short_wait_is_not_worth_a_word() -> None:
    asker = Asker()
    asker.answer(6000, 0, "60s")
    _, waits = asker.ask(150)
    assert waits == []
    assert sum(asker.clock.naps) == pytest.approx(1.5)


def test_what_was_reserved_and_not_used_is_there_again() -> None:
    asker = Asker()
    asker.answer(6000, 0, "60s", used=1000)
    asker.ask(4900)
    assert asker.clock.naps == []


def test_what_the_server_never_took_is_not_given_back() -> None:
    asker = Asker()
    asker.answer(5000, 5000, "10s", used=1300)  # the server counted the prompt of 1000 alone, and then 300 of answer
    asker.ask(4700)
    assert asker.clock.naps == []
    asker = Asker()
    asker.answer(5000, 5000, "10s", used=1300)
    asker.ask(5000)
    assert sum(asker.clock.naps) == pytest.approx(3)


def test_what_is_under_way_counts_beside_the_server_s_figures() -> None:
    asker = Asker()
    asker.answer(1, 6000, "0s")
    first, _ = asker.ask(3000)
    second, _ = asker.ask(2000)
    asker.limiter.observe(headers(3000, "30s"), first)  # the second has not come there yet
    asker.ask(1000)
    assert asker.clock.naps == []
    asker.limiter.observe(headers(0, "60s"), second)
    asker.limiter.settle(first, 3000)
    asker.ask(100)
    assert sum(asker.clock.naps) == pytest.approx(11, abs=0.1)  # for the thousand that is under way, and the hundred


def test_the_first_request_goes_alone_for_its_response_says_the_budget() -> None:
    asker = Asker()

    async def main() -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            reservation, _ = await asker.admitted(4000)
            order.append(number)
            for _ in range(3):
                await asyncio.sleep(0)
            asker.limiter.observe(headers(2000, "40s"), reservation)
            asker.limiter.settle(reservation, 4000)

        await asyncio.gather(*(one(number) for number in range(3)))
        return order

    assert asyncio.run(main()) == [0, 1, 2]
    assert sum(asker.clock.naps) > 15  # no two of them fit into one minute's budget


def test_a_first_request_without_a_response_holds_nobody_up_for_long() -> None:
    asker = Asker()
    asker.ask(10)
    asker.ask(10)
    assert 1.9 < sum(asker.clock.naps) < 2.2


def test_first_come_first_served() -> None:
    asker = Asker()
    asker.answer(6000, 0, "60s")

    async def main() -> list[str]:
        order: list[str] = []

        async def one(name: str, tokens: float) -> None:
            await asker.admitted(tokens)
            order.append(name)

        await asyncio.gather(one("large", 5000), one("small", 10), one("middle", 500))
        return order

    assert asyncio.run(main()) == ["large", "small", "middle"]


def test_one_who_gives_up_leaves_the_queue() -> None:
    asker = Asker()
    asker.answer(6000, 0, "60s")

    async def main() -> None:
        waiting = asyncio.create_task(asker.admitted(6000))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        asker.clock.naps.clear()
        await asker.admitted(100)

    asyncio.run(main())
    assert sum(asker.clock.naps) <= 1


def test_a_429_keeps_everybody_waiting_and_the_first_after_it_goes_alone() -> None:
    asker = Asker()
    asker.answer(1, 6000, "0s")
    reservation, _ = asker.ask(10)
    asker.limiter.refused(reservation, refused("busy", retry_after=20.0))
    began = asker.clock()

    async def main() -> list[float]:
        times: list[float] = []

        async def one() -> None:
            await asker.admitted(10)
            times.append(asker.clock())

        await asyncio.gather(*(one() for _ in range(3)))
        return times

    times = asyncio.run(main())
    assert min(times) >= began + 20
    assert times[1] - times[0] > 1.5  # nobody saw a response: they go one by one
    asker.limiter.observe({})
    before = len(asker.clock.naps)
    asker.ask(10)
    assert len(asker.clock.naps) == before


def test_a_429_teaches_a_budget_that_no_header_names() -> None:
    asker = Asker()
    asker.answer(1, 6000, "0s")
    reservation, _ = asker.ask(10)
    said = "Rate limit reached on requests per minute (RPM): Limit 30, Used 30, Requested 1. Please try again in 2s."
    asker.limiter.refused(reservation, refused(said))
    began = asker.clock()
    for _ in range(15):
        asker.limiter.settle(asker.ask(10)[0], 10)
    assert asker.clock() - began == pytest.approx(30, abs=1)


def test_a_wait_for_tomorrow_is_an_error_now_that_says_when() -> None:
    asker = Asker()
    asker.answer(1, 6000, "0s")
    reservation, _ = asker.ask(10)
    said = "Rate limit reached on tokens per day (TPD): Limit 200000, Used 199990, Requested 4000. Try again in 28m43s."
    asker.limiter.refused(reservation, refused(said))
    with pytest.raises(ProviderOverloaded, match="200,000 tokens per day") as caught:
        asker.ask(4000)
    assert caught.value.hint is not None
    assert "28 min" in caught.value.hint
    assert caught.value.retry_after == pytest.approx(1723, abs=60)
    assert len(asker.limiter._queue) == 0


def test_a_long_queue_is_no_reason_to_give_up() -> None:
    asker = Asker()
    asker.answer(6000, 0, "60s")

    async def main() -> None:
        await asyncio.gather(*(asker.admitted(6000) for _ in range(8)))

    asyncio.run(main())
    assert asker.clock() >= 1000 + 8 * 60 - 1


def test_many_threads_and_loops_share_one_limiter() -> None:
    limiter = Limiter()
    limiter.observe(headers(6000, "0s", limit=600_000))
    taken: list[float] = []

    def work() -> None:
        async def main() -> None:
            for _ in range(20):
                async for piece in limiter.admit(10):
                    if isinstance(piece, Reservation):
                        taken.append(piece.tokens)
                        limiter.settle(piece, 10)

        asyncio.run(main())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 160
    assert limiter._queue == []
    assert limiter._flying == []


def test_a_limiter_is_shared_by_endpoint_key_and_model() -> None:
    one = shared_limiter("https://a", "k", "m")
    assert shared_limiter("https://a", "k", "m") is one
    others = [
        shared_limiter("https://b", "k", "m"),
        shared_limiter("https://a", "l", "m"),
        shared_limiter("https://a", "k", "n"),
    ]
    assert one not in others


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (7200, "2 h")]
)
def test_spans_for_a_person(seconds: float, text: str) -> None:
    assert span_of(seconds) == text
