"""What a request costs: the user's own prices first, else those of genai-prices; own servers cost nothing.

genai-prices is imported only where a price is looked up there: it takes a tenth of a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from math import ceil

from miyabi_cli.ledger.records import NANO, Amount
from miyabi_cli.messages import Usage
from miyabi_cli.settings.schema import Price as PriceSetting

MILLION = 1_000_000
# For a million tokens whose price nobody knows: what turns a cap in dollars into one in tokens. It is about that of
# gpt-oss-120b on a rented server, where most tokens are input.
ASSUMED_USD = 0.2
OWN = ("vllm", "ollama", "embedded", "replay")
_CLOUD = re.compile(r"[:-]cloud$")  # Ollama's models that run at Ollama's


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model. `nano` gives what (input, cached input, output) tokens cost in nano-dollars.

    Cached input is a part of the input. `source`: where the price comes from, for a person; `since`: when it was read.
    """

    nano: Callable[[int, int, int], int]
    source: str
    since: date | None = None
    is_free: bool = False

    def priced(self, usage: Usage) -> Usage:
        """Return a usage with what it has cost."""
        spent = self.nano(usage.input_tokens, usage.cached_tokens, usage.output_tokens)
        return replace(usage, cost_usd=spent / NANO)


FREE = Price(lambda _input, _cached, _output: 0, "runs on a machine of one's own", is_free=True)


def find_price(provider: str, model: str, endpoint: str, overrides: Mapping[str, PriceSetting]) -> Price | None:
    """Return what a model costs at a provider; None where nobody knows."""
    own = overrides.get(model)
    if own is not None and own.provider in (None, provider):
        return _own_price(own)
    if provider == "ollama" and _CLOUD.search(model):
        return None
    if provider in OWN:
        return FREE
    return _listed_price(provider, model, endpoint)


def amount_of(price: Price | None, input_tokens: int, cached_tokens: int, output_tokens: int) -> Amount:
    """Return the amount of a request: money where the price is known, else tokens."""
    if price is None:
        return Amount(tokens=input_tokens + output_tokens)
    return Amount(nano=price.nano(input_tokens, cached_tokens, output_tokens))


def cap_of(usd: float | None) -> Amount | None:
    """Return a cap in dollars as an amount: for requests without a price in tokens, at an assumed price."""
    return None if usd is None else Amount(round(usd * NANO), round(usd / ASSUMED_USD * MILLION))


def _own_price(setting: PriceSetting) -> Price:
    rates = [Decimal(str(rate)) for rate in (setting.input, setting.cached_input, setting.output) if rate is not None]
    input_rate, output_rate = rates[0], rates[-1]
    cached_rate = rates[1] if setting.cached_input is not None else input_rate

    def nano(input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
        cached = min(cached_tokens, input_tokens)
        total = (input_tokens - cached) * input_rate + cached * cached_rate + output_tokens * output_rate
        return ceil(total * NANO / MILLION)

    return Price(nano, "settings", setting.since, is_free=not any(rates))


def _listed_price(provider: str, model: str, endpoint: str) -> Price | None:
    import genai_prices

    def nano(input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
        cached = min(cached_tokens, input_tokens)
        usage = genai_prices.Usage(input_tokens=input_tokens, cache_read_tokens=cached, output_tokens=output_tokens)
        if provider == "groq":
            found = genai_prices.calc_price(usage, model, provider_id=provider)
        else:
            found = genai_prices.calc_price(usage, model, provider_api_url=endpoint)
        return ceil(found.total_price * NANO)

    try:
        nano(1, 0, 1)
    except (LookupError, ValueError):
        return None
    return Price(nano, "genai-prices")
