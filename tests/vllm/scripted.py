"""A logits processor for vLLM that makes a model of random weights say what a test has written.

A prompt that holds `script:NAME` is answered by the turns of the file NAME.json in the folder `MIYABI_VLLM_SCRIPTS`: a
JSON list of turns, each Harmony text or a list of token ids. Every request takes the next turn; the last is kept. Where
a grammar forbids the turn's token, the shortest way to the end of a JSON value is taken instead.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai_harmony import HarmonyEncodingName, load_harmony_encoding
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality

if TYPE_CHECKING:
    import torch

MARKER = re.compile(r"script:([A-Za-z0-9_-]{1,80})")
RETURN = 200002
# What is said where a grammar forbids the turn: a string, an object or an array ends as soon as it may.
SHORTEST = ('"', "}", "]", ":", ",", "1", "{", "[")
UNSCRIPTED = "<|channel|>final<|message|>There is no script for this prompt.<|return|>"


class ScriptedTurns(LogitsProcessor):
    """Force the tokens of a request's turn, one after the other, and `<|return|>` after the last."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self.encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
        self.folder = Path(os.environ["MIYABI_VLLM_SCRIPTS"])
        self.shortest = [RETURN, *(self.tokens(text)[0] for text in SHORTEST)]
        self.served: dict[str, int] = {}
        self.rows: dict[int, tuple[list[int], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: Any) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self.rows.pop(row, None)
        for row, _, prompt, output in batch_update.added:
            self.rows[row] = (self.turn_for(prompt or []), output)
        for one, other, direction in batch_update.moved:
            first, second = self.rows.pop(one, None), self.rows.pop(other, None)
            if first is not None:
                self.rows[other] = first
            if second is not None and direction == MoveDirectionality.SWAP:
                self.rows[one] = second

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for row, (turn, output) in self.rows.items():
            wanted = turn[len(output)] if len(output) < len(turn) else RETURN
            allowed = (token for token in (wanted, *self.shortest) if logits[row, token] != float("-inf"))
            token = next(allowed, None)
            if token is not None:
                logits[row] = float("-inf")
                logits[row, token] = 0.0
        return logits

    def turn_for(self, prompt: list[int]) -> list[int]:
        marker = MARKER.search(self.encoding.decode(prompt))
        if marker is None:
            return self.tokens(UNSCRIPTED)
        name = marker[1]
        turns = json.loads((self.folder / f"{name}.json").read_text())
        index = min(self.served.get(name, 0), len(turns) - 1)
        self.served[name] = index + 1
        return self.tokens(turns[index])

    def tokens(self, turn: str | list[int]) -> list[int]:
        return turn if isinstance(turn, list) else self.encoding.encode(turn, allowed_special="all")
