"""Judging what was found of a provider: its model, its window, its price, and what asking has cost."""

from __future__ import annotations

from miyabi_cli.doctor.probing import MOST_TOKENS
from miyabi_cli.doctor.report import Rates
from miyabi_cli.ledger.records import NANO
from miyabi_cli.llm.inspecting.served import Advice, Served
from miyabi_cli.llm.prices import MILLION, Price, find_price
from miyabi_cli.llm.profiles import profile_of
from miyabi_cli.observations import Observation
from miyabi_cli.settings.schema import Settings

# Of the window of a model that explores by tools: with less it can't work, with less than that it must often forget.
LEAST_WINDOW, GOOD_WINDOW = 8_000, 32_000
MOST_NAMES = 5
MOST_PROMPT = 500  # tokens of either question, with the function or the schema


def judge_model(served: Served, model: str, advice: Advice) -> list[Observation]:
    """Say whether the model is there, as far as the server tells."""
    names = served.models or ()
    if served.has_model:
        return [Observation("model", "ok", f"{model} is there")]
    if served.has_model is None and model:
        return [Observation("model", "skip", f"{model}: the server does not list it, which it need not")]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    listed = f"the server has {', '.join(names[:MOST_NAMES])}{more}" if names else "the server has no model at all"
    if not model:
        return [
            Observation("model", "fail", f"no model is named; {listed}", "choose one by --model, or in the settings")
        ]
    return [Observation("model", "fail", f"{model} is not there; {listed}", advice.model.format(model=model))]


def judge_window(model: str, window: int, asked: int | None, served: Served, advice: Advice) -> Observation:
    """Say whether a window, in tokens, is enough for an agent, and all that was asked for."""
    said = f"{window:,} tokens"
    if served.window and window < served.window:
        said += f", and not the {served.window:,} that the server names"
    elif served.trained and window < served.trained:
        said += f" of the {served.trained:,} that the model could have"
    explores = profile_of(model).editing == "apply_patch"
    if asked and window < asked:
        said = f"{window:,} tokens, and {asked:,} were asked for"
    if explores and window < LEAST_WINDOW:
        return Observation("window", "fail", f"{said}: too few for an agent", advice.window)
    if (explores and window < GOOD_WINDOW) or (asked and window < asked):
        return Observation("window", "warn", f"{said}: an agent forgets early", advice.window)
    return Observation("window", "ok", said)


def price_of(name: str, settings: Settings) -> Price | None:
    """Return what a provider's model costs; None where nobody knows."""
    section = getattr(settings.llm, name)
    return find_price(name, getattr(section, "model", None) or "", getattr(section, "endpoint", ""), settings.prices)


def rates_of(price: Price) -> Rates:
    """Return a price for a million tokens."""
    parts = ((MILLION, 0, 0), (MILLION, MILLION, 0), (0, 0, MILLION))
    rates = [round(price.nano(*tokens) / NANO, 6) for tokens in parts]
    return Rates(rates[0], rates[1], rates[2], price.source)


def judge_price(price: Price | None, *, is_local: bool) -> Observation:
    """Tell the price; one that nobody knows matters where the model runs elsewhere."""
    if price is None and is_local:
        return Observation("price", "ok", "not known, and likely none: the server is on this machine")
    if price is None:
        hint = "set it under prices in the settings; until then the caps hold for tokens"
        return Observation("price", "warn", "nobody knows it", hint)
    if price.is_free:
        return Observation("price", "ok", "none" if price.source == "settings" else f"none: it {price.source}")
    rates = rates_of(price)
    since = f", {price.since}" if price.since else ""
    shown = f"{rates.input:g} in, {rates.cached_input:g} cached, {rates.output:g} out: USD a million tokens"
    return Observation("price", "ok", f"{shown} ({price.source}{since})")


def tell_cost(spent: float | None, *, is_local: bool) -> list[Observation]:
    """Tell what asking has cost in US dollars, where it may have cost anything; None: nobody knows."""
    if spent is None:
        return [] if is_local else [Observation("cost", "ok", "of this look: not known")]
    return [Observation("cost", "ok", f"of this look: {spent:.6f} USD")] if spent else []


def most_cost(price: Price | None, *, is_local: bool) -> str:
    """Return what asking may cost, for the one who pays: the end of a sentence, nothing where it costs nothing."""
    if price is None:
        return "" if is_local else ", at a price that nobody knows"
    most = price.nano(2 * MOST_PROMPT, 0, 2 * MOST_TOKENS) / NANO
    return "" if price.is_free else f", for {most:.4f} USD at most"
