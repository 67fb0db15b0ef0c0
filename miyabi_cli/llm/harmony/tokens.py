"""The vocabulary of gpt-oss: text to token ids and back, by `openai_harmony`, which is loaded at the first use."""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai_harmony import HarmonyEncoding

# What marks structure, by name (openai/harmony, docs/format.md).
START, END, MESSAGE, CHANNEL, CONSTRAIN, CALL, RETURN = 200006, 200007, 200008, 200005, 200003, 200012, 200002
MARKS = {
    "start": START,
    "end": END,
    "message": MESSAGE,
    "channel": CHANNEL,
    "constrain": CONSTRAIN,
    "call": CALL,
    "return": RETURN,
}
STOP_TOKENS = (RETURN, CALL)
ENDINGS = frozenset({END, CALL, RETURN})

_END_OF_TEXT = 199999
_FIRST_SPECIAL, _LAST_SPECIAL = 199998, 201088
# Byte pairs are merged in time quadratic in the length of a word: a word that a tool wrote is cut before that hurts.
_LONG_RUN = re.compile(r"\S{1000,}|\s{1000,}")
_PIECE = 500
_MARK = re.compile(r"<\|(start|end|message|channel|constrain|call|return|endoftext)\|>")
_LONGEST_MARK = len("<|endoftext|>")

Lexeme = int | str  # a mark's id, or text


_loading = threading.Lock()


@cache
def _loaded() -> HarmonyEncoding:
    from openai_harmony import HarmonyEncodingName, load_harmony_encoding

    return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


def encoding() -> HarmonyEncoding:
    """Return the encoding, loaded once per process (0.2 to 0.5 s, 85 MB) whichever thread asks first."""
    if _loaded.cache_info().currsize:
        return _loaded()
    with _loading:
        return _loaded()


def encode_text(text: str) -> list[int]:
    """Return text as ordinary tokens: marks in it are text, and lone surrogates become U+FFFD."""
    encoder = encoding()
    ids: list[int] = []
    for piece in _pieces(text):
        ids += encoder.encode(piece, disallowed_special=())
    return ids


def count_text(text: str) -> int:
    """Return the number of tokens of a text."""
    return len(encode_text(text))


def _pieces(text: str) -> Iterable[str]:
    start = 0
    for run in _LONG_RUN.finditer(text):
        for cut in range(run.start(), run.end(), _PIECE):
            yield text[start:cut]
            start = cut
    yield text[start:]


class TextLexer:
    """Cuts text in which marks are written out (`<|channel|>`) into lexemes, however it is split into chunks."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[Lexeme]:
        """Return what is certain: the beginning of a mark is held back."""
        if "<" not in text and not self._held:  # as most of what streams in
            return [text] if text else []
        text = self._held + text
        hold = _unfinished_mark(text)
        self._held = text[hold:]
        return _lexemes(text[:hold])

    def close(self) -> list[Lexeme]:
        """Return what was held back."""
        held, self._held = self._held, ""
        return [held] if held else []


class IdLexer:
    """Cuts token ids into lexemes: only real marks are structure. A character may be spread over several tokens."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = False  # part of a character is there

    def feed(self, ids: Iterable[int]) -> list[Lexeme]:
        """Return the lexemes that the ids complete; ids that the vocabulary does not have become U+FFFD."""
        lexemes: list[Lexeme] = []
        run: list[int] = []
        for token in ids:
            if not _FIRST_SPECIAL <= token <= _LAST_SPECIAL:
                run.append(token)
                continue
            lexemes += self._text(run, final=True)
            run = []
            if token in MARKS.values():
                lexemes.append(token)
            elif token == _END_OF_TEXT:
                lexemes.append(RETURN)
        return lexemes + self._text(run, final=False)

    def close(self) -> list[Lexeme]:
        """Return the rest of a character that never came whole."""
        return self._text([], final=True)

    def _text(self, ids: list[int], final: bool) -> list[Lexeme]:
        if not ids and not self._pending:
            return []
        text = self._decoder.decode(b"".join(map(_bytes_of, ids)), final)
        self._pending = not final and bool(self._decoder.getstate()[0])
        return [text] if text else []


def decode(ids: Sequence[int]) -> str:
    """Return the text of ids, marks written out."""
    text: str = encoding().decode(ids)
    return text


@lru_cache(maxsize=1 << 15)
def _bytes_of(token: int) -> bytes:
    try:
        text: str = encoding().decode([token], errors="surrogateescape")
        return text.encode("utf-8", "surrogateescape")
    except Exception:  # the library's own error or an OverflowError: the ids come from a server
        return "\ufffd".encode()


def _unfinished_mark(text: str) -> int:
    """Return where the beginning of a mark stands at the end of a text; its length where none does."""
    start = text.rfind("<", max(0, len(text) - _LONGEST_MARK + 1))
    if start < 0:
        return len(text)
    tail = text[start:]
    whole = any(mark.startswith(tail) and mark != tail for mark in _WRITTEN)
    return start if whole else len(text)


_WRITTEN = tuple(f"<|{name}|>" for name in (*MARKS, "endoftext"))


def _lexemes(text: str) -> list[Lexeme]:
    lexemes: list[Lexeme] = []
    start = 0
    for mark in _MARK.finditer(text):
        if mark.start() > start:
            lexemes.append(text[start : mark.start()])
        lexemes.append(MARKS.get(mark[1], RETURN))
        start = mark.end()
    if start < len(text):
        lexemes.append(text[start:])
    return lexemes
