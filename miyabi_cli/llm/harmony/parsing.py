"""Reads what gpt-oss answers over raw Harmony, and loses no call that a person could read.

One completion begins behind `<|start|>assistant`. It comes as text, in which marks are written out, or as token ids,
where real marks alone are structure; both are cut into lexemes and read by the same parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.chat.collecting import MAX_CHARACTERS
from miyabi_cli.llm.harmony.glued import may_be_glued, unglued
from miyabi_cli.llm.harmony.headers import is_broken, read_header
from miyabi_cli.llm.harmony.messages import Kind, StreamedMessage
from miyabi_cli.llm.harmony.offered import Offered
from miyabi_cli.llm.harmony.salvage import find_calls
from miyabi_cli.llm.harmony.tokens import (
    CALL,
    CHANNEL,
    END,
    ENDINGS,
    MESSAGE,
    RETURN,
    START,
    IdLexer,
    Lexeme,
    TextLexer,
)
from miyabi_cli.messages import Delta, Function, ToolCall

# What a server calls an end that the model itself has set.
_WHOLE = frozenset({"stop", "tool_calls", "function_call", "end_turn", "eos"})
# Marks that begin what no server was able to read.
_LEAKED = re.compile(r"\s{0,99}<\|(?:(?:channel|message|constrain|call|end|return)\|>|start\|>assistant)")
_BETWEEN = "\n\n"  # between two messages of one kind
_LONGEST_LEAD = 256  # characters before the first mark after which no header is to be expected
_ADDRESSED = re.compile(r"\bto ?= ?([\w.-]{1,120})\s{0,4}\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A whole reply. `last` is the delta that was held back until the end.

    `cut`: the end is missing; `half_call` is the call that it was cut in, and is never among `tool_calls`.
    """

    text: str
    thought: str
    tool_calls: tuple[ToolCall, ...]
    cut: bool
    half_call: ToolCall | None = None
    last: Delta | None = None


class HarmonyParser:
    """Reads one completion as it streams in.

    `functions` are those that were offered. `schema`: a JSON answer was asked for, which is never taken for a call.
    Ids of calls are `prefix` and a number. A header that was written for the model is fed first, as if it came from it.
    The deltas of text joined are the reply's text, and so are those of thought.
    """

    def __init__(self, functions: Sequence[Function] = (), *, schema: bool = False, prefix: str = "call") -> None:
        self._offered = Offered(functions)
        self._schema = schema
        self._prefix = prefix
        self._text_lexer = TextLexer()
        self._id_lexer = IdLexer()
        self._header: list[Lexeme] = []
        self._lead = 0  # characters of a header that has no mark yet
        self._held: list[str] = []  # what follows it, while all marks may be missing
        self._started = False
        self._marked = False
        self._last_mark = 0
        self._message: StreamedMessage | None = None
        self._calls: list[ToolCall] = []
        self._half: ToolCall | None = None
        self._shown: dict[Kind, list[str]] = {"text": [], "thought": [], "tool_text": []}
        self._new: list[tuple[Kind, str]] = []
        self._begun: set[Kind] = set()  # kinds of which the current message has shown something
        self._characters = 0
        self._over = False  # the model goes on with what others would say
        self._last_content = ""
        self._unmarked: list[str] = []  # text with no header, where the answer has a schema

    def feed(self, text: str) -> Delta | None:
        """Take text with written marks. Raises BrokenReply where the reply is past all bounds."""
        return self._take([*self._id_lexer.close(), *self._text_lexer.feed(text)])

    def feed_ids(self, ids: Iterable[int]) -> Delta | None:
        """Take token ids. Raises BrokenReply where the reply is past all bounds."""
        return self._take([*self._text_lexer.close(), *self._id_lexer.feed(ids)])

    def close(self, finish_reason: str) -> ParsedReply:
        """End the reply; `finish_reason` is the server's word, "" where it said none."""
        self._take_all([*self._text_lexer.close(), *self._id_lexer.close()])
        self._release()
        cut = finish_reason not in _WHOLE and self._last_mark not in (CALL, RETURN)
        cut = self._end(cut)
        last = self._delta()
        text, thought = "".join(self._shown["text"]), "".join(self._shown["thought"])
        if not (self._calls or text.strip() or cut):
            self._look_in_thought(thought)
        return ParsedReply(text, thought, tuple(self._calls), cut, self._half, last)

    def _look_in_thought(self, thought: str) -> None:
        """Take the call that the thought of an otherwise empty reply ends in."""
        if found := find_calls(thought, self._offered, leaked=True, in_thought=True):
            for name, arguments in found[1]:
                self._call(name, arguments)
        elif not self._schema and (name := self._offered.fitting(self._last_content)):
            self._call(name, self._last_content.strip())

    def _end(self, cut: bool) -> bool:
        """End the message that is open; return whether the reply is cut, as it is in the middle of a call's header."""
        if self._message is None and any(isinstance(lexeme, int) or lexeme.strip() for lexeme in self._header):
            addressed = self._begin(whole=False)
            cut = cut or addressed
        if self._message is not None:
            self._finish(cut)
        self._show_unmarked("thought" if self._shown["text"] else "text")
        return cut

    def _take(self, lexemes: list[Lexeme]) -> Delta | None:
        self._take_all(lexemes)
        return self._delta()

    def _take_all(self, lexemes: list[Lexeme]) -> None:
        for lexeme in lexemes:
            if self._over:
                break
            self._characters += len(lexeme) if isinstance(lexeme, str) else 1
            self._read(lexeme)
            if not isinstance(lexeme, str):
                self._last_mark, self._marked = lexeme, True
            elif lexeme.strip():
                self._last_mark = 0
        if self._characters > MAX_CHARACTERS:
            raise BrokenReply(f"the server's reply does not end: it has more than {MAX_CHARACTERS:,} characters")

    def _read(self, lexeme: Lexeme) -> None:
        if self._held and not isinstance(lexeme, str):
            self._release()
        if self._message is None:
            self._in_header(lexeme)
        else:
            self._in_content(self._message, lexeme)

    def _in_header(self, lexeme: Lexeme) -> None:
        if isinstance(lexeme, str):
            self._in_lead(lexeme)
        elif lexeme == MESSAGE:
            self._begin(whole=True)
        elif lexeme in ENDINGS or lexeme == START:
            if any(isinstance(part, int) or part.strip() for part in self._header):
                self._begin(whole=False, goes_on=lexeme in (END, START))
                self._finish(cut=False)
            self._next(started=lexeme == START)
        else:
            self._header.append(lexeme)

    def _in_lead(self, text: str) -> None:
        """Take text of a header; so much of it with no mark is content. The bound is the same for any chunks."""
        if any(isinstance(part, int) for part in self._header):
            self._header.append(text)
            return
        room = _LONGEST_LEAD - self._lead
        if room:
            self._header.append(text[:room])
            self._lead += len(text[:room])
        if len(text) > room:
            self._held.append(text[room:])
            if self._marked or not may_be_glued("".join(map(str, self._header))):
                self._begin_content()

    def _begin_content(self) -> None:
        """Take the lead for content that has no header."""
        rest, self._held = "".join(self._held), []
        self._begin(whole=False)
        if self._message is not None:
            self._in_content(self._message, rest)

    def _release(self) -> None:
        """Read what was held back, with the marks that are missing where it is Harmony without them."""
        bare = self._message is None and not self._marked
        lexemes = unglued("".join(map(str, [*self._header, *self._held]))) if bare else []
        if lexemes:
            self._next(started=False)
            self._held, self._marked = [], True
            for lexeme in lexemes:
                self._read(lexeme)
        elif self._held:
            self._begin_content()

    def _in_content(self, message: StreamedMessage, lexeme: Lexeme) -> None:
        if isinstance(lexeme, str):
            self._show(message.kind, message.add(lexeme))
        elif lexeme in ENDINGS or lexeme == START:
            self._finish(cut=False)
            self._next(started=lexeme == START)
        elif lexeme == CHANNEL:  # the end of this message and the start of the next are missing
            addressed = _ADDRESSED.search(message.tail)
            self._finish(cut=False)
            self._next(started=False)
            self._header = [f"to={addressed[1]}", CHANNEL] if addressed else [CHANNEL]

    def _next(self, started: bool) -> None:
        self._header, self._lead, self._started = [], 0, started

    def _begin(self, whole: bool, goes_on: bool = False) -> bool:
        """Begin a message by the header so far; return whether it addresses a tool and nothing follows.

        `goes_on`: another message follows, so that what stands in a broken header is no answer.
        """
        header = read_header(self._header, self._offered, started=self._started, whole=whole, first=not self._marked)
        if goes_on and self._marked and is_broken(header):
            header.channel = "analysis"
        self._next(started=False)
        self._show_unmarked("thought")
        if header.lead:
            self._begun.clear()
            self._show("thought" if self._schema else "text", header.lead)
        if header.is_result and self._calls:  # the result of a call that was never made
            header.kind = ""
        self._begun.clear()
        self._message = StreamedMessage(header, self._offered, schema=self._schema)
        if header.rest:
            self._show(self._message.kind, self._message.add(header.rest))
        return self._message.is_call and not (header.rest.strip() or header.arguments.strip())

    def _finish(self, cut: bool) -> None:
        message, self._message = self._message, None
        if message is None:
            return
        rest = message.finish(cut)
        self._last_content = message.content
        self._over = message.is_imagined and bool(self._calls or self._shown["text"])
        if message.is_unmarked:
            self._unmarked.append(rest)
        else:
            self._show(message.kind, rest)
        for name, arguments in message.calls:
            if cut:
                self._half = ToolCall(f"{self._prefix}_{len(self._calls)}", name, arguments)
            else:
                self._call(name, arguments)

    def _call(self, name: str, arguments: str) -> None:
        self._calls.append(ToolCall(f"{self._prefix}_{len(self._calls)}", name, arguments))

    def _show(self, kind: Kind, text: str) -> None:
        if not text:
            return
        if kind not in self._begun and self._shown[kind]:
            text = _BETWEEN + text
        self._begun.add(kind)
        if kind != "tool_text":
            self._shown[kind].append(text)
        self._new.append((kind, text))

    def _show_unmarked(self, kind: Kind) -> None:
        """Show text that had no header: thought where an answer follows it, else the answer itself."""
        for text in self._unmarked:
            self._begun.clear()
            self._show(kind, text)
        self._unmarked.clear()

    def _delta(self) -> Delta | None:
        if not self._new:
            return None
        new, self._new = self._new, []
        text, thought, tool_text = (
            "".join(piece for kind, piece in new if kind == wanted) for wanted in ("text", "thought", "tool_text")
        )
        return Delta(text, thought, tool_text)


def parse(
    text: str, functions: Sequence[Function] = (), *, finish_reason: str = "stop", schema: bool = False
) -> ParsedReply:
    """Read a completion that is there as a whole."""
    parser = HarmonyParser(functions, schema=schema)
    parser.feed(text)
    return parser.close(finish_reason)


def read_leaked(
    text: str, functions: Sequence[Function] = (), *, finish_reason: str = "stop", prefix: str = "call"
) -> ParsedReply | None:
    """Read Harmony that a server left in its text, whole or without its marks; None where the text is none of it."""
    if not _LEAKED.match(text) and not unglued(text):
        return None
    parser = HarmonyParser(functions, prefix=prefix)
    parser.feed(text)
    return parser.close(finish_reason)
