"""Texts, bytes and trees to try, and the places where a network or a crash may cut them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as some

T = TypeVar("T", str, bytes, list[int])

ANY_TEXT = some.text(some.characters(codec=None, exclude_categories=()), max_size=60)  # lone surrogates too
UNICODE = some.text(some.characters(codec="utf-8"), max_size=60)
JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False, allow_infinity=False) | UNICODE,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(UNICODE, inner, max_size=4),
    max_leaves=12,
)
CUTS = some.lists(some.integers(0, 400), max_size=8)
BYTE_BY_BYTE = tuple(range(400))


def cut(whole: T, places: Sequence[int]) -> list[T]:
    """Return a sequence in pieces, cut at places; some of them may be empty."""
    within: list[int] = sorted(min(place, len(whole)) for place in places)
    return [whole[start:stop] for start, stop in itertools.pairwise([0, *within, len(whole)])]


def mixed(*pieces: str, max_size: int = 12) -> some.SearchStrategy[str]:
    """Return texts that are made of a format's own pieces, and of others."""
    return some.lists(some.sampled_from(pieces) | some.text(max_size=4), max_size=max_size).map("".join)
