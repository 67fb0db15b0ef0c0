"""What a request costs: listed prices, the user's own, none at all, and none that is known."""

from __future__ import annotations

from datetime import date

import pytest

from miyabi_cli.ledger.records import NANO, Amount
from miyabi_cli.llm.prices import amount_of, cap_of, find_price
from miyabi_cli.messages import Usage
from miyabi_cli.settings.schema import Price as PriceSetting

GROQ = "https://api.groq.com/openai/v1"
MODEL = "openai/gpt-oss-20b"


def test_a_listed_price_counts_cached_input_as_less() -> None:
    price = find_price("groq", MODEL, GROQ, {})
    assert price is not None
    assert price.source == "genai-prices"
    whole, cached = price.nano(1_000_000, 0, 0), price.nano(1_000_000, 1_000_000, 0)
    assert 0 < cached < whole
    assert price.nano(2_000, 0, 1_000) == price.nano(2_000, 0, 0) + price.nano(0, 0, 1_000)
    assert not price.is_free


def test_the_users_own_price_comes_first() -> None:
    own = PriceSetting(input=2, cached_input=0.5, output=8, since=date(2026, 1, 2))
    price = find_price("groq", MODEL, GROQ, {MODEL: own})
    assert price is not None
    assert (price.source, price.since) == ("settings", date(2026, 1, 2))
    assert price.nano(1_000_000, 400_000, 1_000_000) == round((0.6 * 2 + 0.4 * 0.5 + 8) * NANO)
    assert price.priced(Usage(1, 1_000_000, 0, 0)).cost_usd == 2.0
    without_cached = find_price("groq", MODEL, GROQ, {MODEL: PriceSetting(input=2, output=8)})
    assert without_cached is not None
    assert without_cached.nano(10, 10, 0) == without_cached.nano(10, 0, 0)


def test_a_price_for_one_provider_is_no_other_s() -> None:
    own = PriceSetting(input=2, output=8, provider="vllm")
    listed = find_price("groq", MODEL, GROQ, {MODEL: own})
    assert listed is not None
    assert listed.source == "genai-prices"
    rented = find_price("vllm", MODEL, "https://gpu.example:8000", {MODEL: own})
    assert rented is not None
    assert not rented.is_free


@pytest.mark.parametrize(
    ("provider", "model", "endpoint"),
    [
        ("vllm", MODEL, "http://gpu.lan:8000"),
        ("ollama", "gpt-oss:20b", "http://localhost:11434"),
        ("embedded", "qwen2.5-coder-1.5b", ""),
    ],
)
def test_ones_own_servers_are_free(provider: str, model: str, endpoint: str) -> None:
    price = find_price(provider, model, endpoint, {})
    assert price is not None
    assert price.is_free
    assert amount_of(price, 1000, 0, 1000) == Amount()


@pytest.mark.parametrize(
    ("provider", "model", "endpoint"),
    [
        ("groq", "no-such-model", GROQ),
        ("openai", MODEL, "https://llm.example.com"),
        ("openai", "anything", "http://127.0.0.1:8080"),
        ("ollama", "gpt-oss:120b-cloud", "http://localhost:11434"),
    ],
)
def test_a_price_that_nobody_knows(provider: str, model: str, endpoint: str) -> None:
    assert find_price(provider, model, endpoint, {}) is None
    assert amount_of(None, 1000, 200, 50) == Amount(tokens=1050)


def test_a_cap_holds_in_money_and_in_tokens() -> None:
    assert cap_of(None) is None
    assert cap_of(0.5) == Amount(NANO // 2, 2_500_000)
