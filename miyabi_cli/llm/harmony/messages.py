"""One message of a reply as it streams in: what its header makes of it, and what is held back until that is known."""

from __future__ import annotations

import re
from typing import Literal

from miyabi_cli.llm.harmony.headers import Header
from miyabi_cli.llm.harmony.offered import Offered, clean_name, json_object, leading_objects
from miyabi_cli.llm.harmony.salvage import (
    DEEPEST_INDENT,
    FIRST_OPENER,
    MAY_OPEN,
    MAY_OPEN_FIRST,
    OPENER,
    Found,
    find_calls,
)

Kind = Literal["thought", "text", "tool_text"]
# How a message is read: a call by its header; `open` where its content decides; text; thought; or nothing of it.
Plan = Literal["call", "open", "text", "thought", "none"]
_NO_TOOLS = frozenset(
    {"assistant", "user", "system", "developer", "all", "none", "null", "analysis", "commentary", "final"}
)
_STRAY_KIND = re.compile(r"(?:json|code)\s{0,4}(?=[{\[])", re.IGNORECASE)
_MAY_BE_KIND = re.compile(r"(?:j|js|jso|c|co|cod|(?:json|code)\s{0,4})?", re.IGNORECASE)
_STRAY_MARK = re.compile(r"<\|(?:call|end|return)\|>\Z")
TAIL_LENGTH = 200


def plan_of(header: Header, offered: Offered, *, schema: bool) -> Plan:
    """Return how a message is to be read, from its header alone. `schema`: the answer is JSON and no call."""
    if header.role in ("user", "system", "developer"):
        return "none"
    if header.is_result:  # a call all the same, where its arguments are those of the tool
        return "open" if header.kind else "none"
    if any(offered.names_in(word) for word in header.recipients):
        return "open" if header.channel == "final" and not schema else "call"
    bare = not (header.channel or header.names or header.recipients or header.kind)
    if schema and (header.channel == "final" or bare):
        return "text"
    if header.kind and header.channel != "final" and any(offered.names_in(word) for word in header.names):
        return "call"
    if header.names or header.recipients or header.kind or header.channel in ("", "commentary"):
        return "open"
    return "thought" if header.channel == "analysis" else "text"


class LineWatch:
    """Lets text pass up to the first line that may open a call, which is held back with all that follows.

    Of a line no more is held back than its first characters, until they tell.
    """

    def __init__(self) -> None:
        self.holding = False
        self._first = True  # nothing but blanks has come
        self._held = ""  # the beginning of a line of which it is not known yet
        self._in_line = False  # in a line that opens nothing

    def feed(self, text: str) -> str:
        """Return the text that can be shown."""
        if self.holding:
            return ""
        text, self._held = self._held + text, ""
        if self._first:
            return self._begin(text)
        start = text.find("\n") + 1 if self._in_line else 0
        return text if self._in_line and start == 0 else self._lines(text, start)

    def _begin(self, text: str) -> str:
        blank = len(text) - len(text.lstrip())
        start = text.rfind("\n", 0, blank) + 1
        if FIRST_OPENER.match(text, start):
            self.holding = True
            return text[:start]
        if blank == len(text):
            return self._hold(text, max(start, blank - DEEPEST_INDENT))
        if MAY_OPEN_FIRST.fullmatch(text, start):
            return self._hold(text, start)
        self._first = False
        return self._lines(text, start)

    def _lines(self, text: str, start: int) -> str:
        """Take text whose lines begin at `start`."""
        if opener := OPENER.search(text, start):
            self.holding = True
            return text[: opener.start()]
        last = max(start, text.rfind("\n") + 1)
        self._in_line = MAY_OPEN.fullmatch(text, last) is None
        return text if self._in_line else self._hold(text, last)

    def _hold(self, text: str, start: int) -> str:
        self._held = text[start:]
        return text[:start]


class StreamedMessage:
    """The content of one message. `add` and `finish` return what is to be shown of it; then `calls` holds its calls."""

    def __init__(self, header: Header, offered: Offered, *, schema: bool) -> None:
        self.header = header
        self.calls: Found = []
        self.tail = ""
        self._offered = offered
        self._plan = plan_of(header, offered, schema=schema)
        thinks = header.channel == "analysis" or (schema and header.channel == "commentary")
        self._default: Kind = "thought" if thinks else "text"
        self.is_unmarked = schema and not header.channel and self._plan != "call"
        self._watch = LineWatch() if offered.functions and not schema and not thinks else None
        self._parts: list[str] = []
        self._head = ""  # what came first, without blanks before it, until it is decided what it is
        self._shown = 0
        self._open = self._plan == "open"
        self._waiting = self._open  # for the first character

    @property
    def kind(self) -> Kind:
        """Return what the content is shown as."""
        return "tool_text" if self.is_call else self._default

    @property
    def is_call(self) -> bool:
        """Say whether the header made the message a call."""
        return self._plan == "call"

    @property
    def is_imagined(self) -> bool:
        """Say whether the model wrote another's message: a user's, or the result of a tool."""
        return self._plan == "none"

    @property
    def content(self) -> str:
        """Return all that was taken."""
        return "".join(self._parts)

    def add(self, text: str) -> str:
        """Take content; return what of it can be shown now."""
        self._parts.append(text)
        self.tail = (self.tail + text[-TAIL_LENGTH:])[-TAIL_LENGTH:]
        if self._plan in ("none", "call"):
            return text if self.is_call else ""
        if self._waiting and not (text := self._decide(text)):
            return ""
        return "" if self._open else self._pass(text)

    def finish(self, cut: bool) -> str:
        """End the message, `cut` where its end is missing; return the rest that is to be shown."""
        content = self.content
        if self.is_imagined:
            return ""
        if self.is_call:
            self.calls = self._called(_arguments(content) or _arguments(self.header.arguments), cut)
            return ""
        if self._open and not cut:
            self.calls = self._decided(content)
            if self.header.is_result and not self.calls:
                self._plan = "none"
            if self.calls or self.is_imagined:
                return ""
        end = len(content)
        if self._watch and self._watch.holding and not cut:
            found = find_calls(content, self._offered, self._shown)
            if found:
                end, self.calls = found
        return content[self._shown : end]

    def _called(self, arguments: str, cut: bool) -> Found:
        """Return the calls of a message that addresses a tool: its content may hold the call as a whole, or several."""
        name, offered = self.name_for(arguments), self._offered
        if cut or offered.fitting(arguments, [name]):
            return [(name, arguments or "{}")]
        found = find_calls(arguments, offered)
        wrapped = [one for one, _ in found[1]] if found and not found[0] else []
        if found and wrapped and all(one == name if offered.known(name) else offered.known(one) for one in wrapped):
            return found[1]
        several = list(dict.fromkeys(leading_objects(arguments)))
        if several and all(offered.fitting(one, [name]) for one in several):
            return [(name, one) for one in several]
        return [(name, arguments or "{}")]

    def name_for(self, arguments: str) -> str:
        """Return the tool that the header names, "" for none; of several, the one that the arguments fit."""
        words = [*self.header.recipients, *self.header.names]
        names = list(dict.fromkeys(name for word in words for name in self._offered.names_in(word)))
        known = [name for name in names if self._offered.known(name)]
        if len(known) > 1 and (fitting := self._offered.fitting(arguments, known)):
            return fitting
        return next(iter(known or names), "")

    def _decide(self, text: str) -> str:
        """Wait for the first character, but for a stray content type: where it may be that of arguments, everything is
        held back."""
        beginning = self._head = (self._head + text).lstrip()
        if _MAY_BE_KIND.fullmatch(beginning):
            return ""
        self._waiting = False
        self._head = ""
        self._open = bool(beginning[0] in "{[`" or _STRAY_KIND.match(beginning))
        if self.header.is_result and not self._open:
            self._plan = "none"
        return self.content

    def _pass(self, text: str) -> str:
        if self._plan == "none" or self.is_unmarked:
            return ""
        shown = self._watch.feed(text) if self._watch else text
        self._shown += len(shown)
        return shown

    def _decided(self, content: str) -> Found:
        """Return the call that the content of an open message is, by what its header holds and by its arguments."""
        arguments = _unfenced(_arguments(content))
        if json_object(arguments) is None:
            found = find_calls(content, self._offered)
            return found[1] if found and not content[: found[0]].strip() else []
        header, offered = self.header, self._offered
        if named := self.name_for(arguments):
            fits = not header.is_result or offered.fitting(arguments, [named])
            return [(named, arguments)] if fits else []
        family = [name for word in (*header.recipients, *header.names) for name in offered.in_namespace(word)]
        name = family[0] if len(family) == 1 else offered.fitting(arguments, family) or offered.fitting(arguments)
        if name:
            return [(name, arguments)]
        if found := find_calls(content, offered):
            return found[1]
        words = [clean_name(word).lower() for word in header.recipients]
        return [(word, arguments) for word in words if word and word not in _NO_TOOLS][:1]


def _unfenced(text: str) -> str:
    """Return the inside of a text that is a code fence."""
    if len(text) < 6 or not (text.startswith("```") and text.endswith("```")):
        return text
    return text[3:-3].partition("\n")[2].strip()


def _arguments(text: str) -> str:
    """Return arguments without a content type, a mark and words of a header that strayed into them."""
    text = text.strip()
    if kind := _STRAY_KIND.match(text):
        text = text[kind.end() :]
    while mark := _STRAY_MARK.search(text, max(0, len(text) - 12)):
        text = text[: mark.start()].rstrip()
    objects = leading_objects(text)
    return objects[0] if len(objects) == 1 else text
