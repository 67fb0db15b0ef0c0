"""What a server allows in a span of time, read from its headers and its words, and how it fills up again."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from miyabi_cli.errors import ProviderError

Unit = Literal["tokens", "requests"]

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
LARGEST = 1e12  # a server's figure past that is no figure
ROUNDING = 1e-6

_PART = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|us|µs|ns|h|m|s|d)")
_SECONDS = {"d": DAY, "h": HOUR, "m": MINUTE, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_SPENT = re.compile(
    r"on (?P<unit>tokens|requests) per (?P<span>minute|hour|day)\b.{0,40}?Limit (?P<limit>\d{1,12})"
    r"(?:, Used (?P<used>\d{1,12}))?(?:, Requested ~?(?P<requested>\d{1,12}))?",
    re.IGNORECASE,
)
_AGAIN = re.compile(r"try again in ([0-9a-zµ.]{1,40})", re.IGNORECASE)
_SPANS = {"minute": MINUTE, "hour": HOUR, "day": DAY}


def read_duration(text: str | None) -> float | None:
    """Return the seconds of a Go duration ("1.57s", "7m12.5s", "1h2m", "120ms") or a bare number; None elsewhere."""
    text = (text or "").strip()
    parts = list(_PART.finditer(text))
    if parts and "".join(part.group() for part in parts) == text:
        return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)
    return _number(text)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value <= LARGEST else None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a response says of one budget; `reset`: the seconds until it is whole again."""

    limit: float
    remaining: float
    reset: float | None = None


def read_figures(headers: Mapping[str, str], unit: Unit) -> Figures | None:
    """Return the figures of `x-ratelimit-{limit,remaining,reset}-{tokens,requests}`, or None where they are not there.

    Source: console.groq.com/docs/rate-limits. There `requests` are those of a day, `tokens` those of a minute.
    """
    limit = _number(headers.get(f"x-ratelimit-limit-{unit}"))
    remaining = _number(headers.get(f"x-ratelimit-remaining-{unit}"))
    reset = read_duration(headers.get(f"x-ratelimit-reset-{unit}"))
    if not limit or remaining is None or (unit == "requests" and reset is None):  # of a day, or of what else?
        return None
    return Figures(limit, min(remaining, limit), reset)


@dataclass(frozen=True, slots=True)
class Spent:
    """A budget as a refusal names it: "on tokens per minute (TPM): Limit 8000, Used 7000, Requested 1443"."""

    unit: Unit
    span: float
    limit: int
    used: int | None
    requested: int | None


def read_spent(error: ProviderError) -> Spent | None:
    """Return the budget that a refusal names, or None."""
    found = _SPENT.search(_said(error))
    if not found or int(found["limit"]) == 0:
        return None
    used, requested = (int(found[name]) if found[name] else None for name in ("used", "requested"))
    unit: Unit = "tokens" if found["unit"].lower() == "tokens" else "requests"
    return Spent(unit, _SPANS[found["span"].lower()], int(found["limit"]), used, requested)


def read_wait(error: ProviderError) -> float | None:
    """Return the seconds of "Please try again in 4.77s.", or None."""
    found = _AGAIN.search(_said(error))
    return read_duration(found[1].rstrip(".")) if found else None


def _said(error: ProviderError) -> str:
    said = error.detail.get("message")
    return (said if isinstance(said, str) else error.message)[:2000]


@dataclass(slots=True)
class Bucket:
    """What is left of a budget of `limit` in `span` seconds. Times are those of the caller's clock, in seconds.

    It fills evenly, as Groq's do: of 6000 tokens a minute with 157 spent, the reset is 1.57 s. Where a server's reset
    says otherwise, nothing comes back until then, and then all.
    """

    limit: float
    span: float
    level: float
    at: float
    rate: float = 0.0
    whole_at: float = math.inf
    gain: float = 0.0

    @classmethod
    def full(cls, limit: float, span: float, now: float) -> Bucket:
        return cls(limit, span, limit, now, limit / span)

    def refresh(self, now: float) -> None:
        """Let come back what has come back."""
        if now >= self.whole_at:
            self.level += self.gain
            self.at = max(self.at, self.whole_at)
            self._fill_evenly()
        self.level = min(self.limit, self.level + max(0.0, now - self.at) * self.rate)
        self.at = now

    def learn(self, figures: Figures, pending: float, now: float) -> None:
        """Take a server's figures; `pending` is what was sent and is not in them yet."""
        self.limit, self.at, self.level = figures.limit, now, figures.remaining - pending
        self._fill_evenly()
        missing = figures.limit - figures.remaining
        if figures.reset is None or missing <= 0:
            return
        even = missing / self.rate
        reset = min(figures.reset, self.span)  # a budget of a minute is whole in a minute, whatever a header says
        if abs(even - reset) > 0.1 * even + 0.1:
            self.rate, self.gain, self.whole_at = 0.0, missing, now + reset

    def wait(self, amount: float, ahead: float, now: float) -> float:
        """Return the seconds until there is `amount` after those ahead took theirs.

        What is more than the whole budget waits for the whole.
        """
        self.refresh(now)
        missing = min(amount, self.limit) + ahead - self.level
        if missing <= ROUNDING:
            return 0.0
        if self.whole_at == math.inf:
            return missing / self.rate
        return self.whole_at - now + max(0.0, missing - self.gain) * self.span / self.limit

    def _fill_evenly(self) -> None:
        self.rate, self.gain, self.whole_at = self.limit / self.span, 0.0, math.inf
