"""A cache that is bounded by the size of what it holds, and may be used from several threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class PieceCache(Generic[Key, Value]):
    """Keeps what was used last, up to `limit` bytes as the callers estimate them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """Return a value, None where it is not (or no more) there."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def made(self, key: Key, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """Return a value, made and kept where it is not there."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value, size(value))
        return value

    def put(self, key: Key, value: Value, size: int) -> None:
        """Keep a value of `size` bytes."""
        with self._lock:
            if key in self._values:
                self._held -= self._values.pop(key)[1]
            self._values[key] = (value, size)
            self._held += size
            while self._held > self._limit and self._values:
                self._held -= self._values.popitem(last=False)[1][1]
