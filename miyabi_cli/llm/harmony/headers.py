"""The headers of Harmony's messages, as gpt-oss writes them and not only as it should.

A header is `assistant to=RECIPIENT<|channel|>CHANNEL TYPE`; the recipient may stand after the channel as well. Seen in
the wild are doubled and misspelt channels, a recipient and a channel swapped, names with spaces, and no header at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from miyabi_cli.llm.harmony.offered import Offered, clean_name, looks_like_name
from miyabi_cli.llm.harmony.tokens import CHANNEL, Lexeme

ROLES = frozenset({"assistant", "user", "system", "developer", "tool"})
_CHANNELS = {
    **{name: name for name in ("analysis", "commentary", "final")},
    **dict.fromkeys(("thinking", "thought", "reasoning"), "analysis"),
    **dict.fromkeys(("comment", "comments"), "commentary"),
    **dict.fromkeys(("answer", "final_answer", "response"), "final"),
}
_KINDS = {"code": "code", "json": "json", "text": "", "markdown": "", "plaintext": ""}
_GLUED = re.compile(r"(assistant)?(analysis|commentary|final)?(?:(code|json|text|markdown|plaintext)){0,3}")
_TO = re.compile(r"\bto[ \t]{0,4}[=:][ \t]{0,4}", re.IGNORECASE)
_RECIPIENT = re.compile(r"(assistant|analysis|commentary|final|code|json|tool)?[_.-]?to=(.*)", re.IGNORECASE)
_HEADER_WORDS = re.compile(r"(?:assistant|analysis|commentary|final|[^\w\n]){1,40}")
_BREAKS = str.maketrans("/|,;", "    ")  # never in a name
_ADDRESSED = re.compile(r"[^{}\n]{0,80}?\bto[ \t]{0,4}[=:][ \t]{0,4}([^{}\n]{1,200})(?=\{)", re.IGNORECASE)
_WORD = re.compile(r"\S+")
_MOST_WORDS, _MOST_PARTS = 40, 20  # of a header, and of its first and last marks
_LONGEST_HEADER = 2_000


@dataclass(slots=True)
class Header:
    """What a header says. `recipients` were addressed by `to=`, `names` are tools' names elsewhere.

    `lead` is text that stood before the header, `rest` is content that follows it with no `<|message|>` between.
    `kind` is the content's type, code or json. `is_result`: the message is written as a tool's result.
    `is_marked`: there is a mark in it.
    """

    lead: str = ""
    rest: str = ""
    role: str = ""
    channel: str = ""
    kind: str = ""
    recipients: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    is_result: bool = False
    arguments: str = ""
    is_marked: bool = False


def read_header(
    lexemes: Sequence[Lexeme], offered: Offered, *, started: bool, whole: bool, first: bool = False
) -> Header:
    """Read the lexemes of a header.

    `started`: it follows `<|start|>`, and so names its role; `whole`: `<|message|>` ended it; `first`: nothing was
    before it, so that text with no mark is an answer and no header.
    """
    header = Header()
    parts = _parts(lexemes)
    header.is_marked = len(parts) > 1
    if not whole:
        mark, text = parts[-1]
        end = _header_end(text, offered, words=not first or len(parts) > 1)
        parts[-1] = (mark, text[:end])
        header.rest = text[end:].lstrip(" ") if end else text
    header.lead, opening = _split_lead(parts[0][1], offered)
    if started and _HEADER_WORDS.fullmatch(header.lead):
        header.lead = ""
    parts[0] = (0, opening)
    for mark, text in parts if len(parts) <= 2 * _MOST_PARTS else parts[:_MOST_PARTS] + parts[-_MOST_PARTS:]:
        _read_part(header, mark, text, offered)
    role = opening.split(None, 1)[0] if started and opening.strip() else ""
    header.is_result = _is_name(role, offered) and "assistant" in header.recipients
    return header


def is_broken(header: Header) -> bool:
    """Say whether a header without an end holds text where its channel belongs, or no word at all."""
    if header.names or header.recipients or header.kind or header.rest.lstrip()[:1] in ("{", "[", "`"):
        return False
    return (header.is_marked and not header.channel) or not any(letter.isalpha() for letter in header.rest)


def _parts(lexemes: Sequence[Lexeme]) -> list[tuple[int, str]]:
    """Return the text after each mark, first that before any."""
    parts: list[tuple[int, list[str]]] = [(0, [])]
    for lexeme in lexemes:
        if isinstance(lexeme, str):
            parts[-1][1].append(lexeme)
        else:
            parts.append((lexeme, []))
    return [(mark, "".join(texts)) for mark, texts in parts]


def _header_end(text: str, offered: Offered, words: bool) -> int:
    """Return where the words of a header end and content begins, in the last part of a header without an end."""
    if not words:
        return 0
    if addressed := _ADDRESSED.match(text):
        name, used = _spaced_name(addressed[1].translate(_BREAKS).split()[:_MOST_WORDS] or [""], offered)
        if used and any(offered.known(one) for one in offered.names_in(name)):
            return addressed.end()
    end = 0
    for match in _WORD.finditer(text[:_LONGEST_HEADER]):
        word = match[0].split("{", 1)[0]
        if word and not _is_header_word(word, offered) and not text[:end].lower().endswith("to="):
            break
        end = match.start() + len(word)
        if len(word) < len(match[0]):
            break
    return end


def _is_header_word(word: str, offered: Offered) -> bool:
    low = word.lower()
    return bool(low in ROLES or low in _CHANNELS or _GLUED.fullmatch(low) or _RECIPIENT.fullmatch(low)) or _is_name(
        word, offered
    )


def _is_name(word: str, offered: Offered) -> bool:
    return bool(offered.known(word)) or ("." in word and looks_like_name(word))


def _split_lead(text: str, offered: Offered) -> tuple[str, str]:
    """Return text before a header, and what of it is header: a role, a name or a recipient at its end."""
    recipients = [match.start() for match in _TO.finditer(text[-_LONGEST_HEADER:])]
    at = max(0, len(text) - _LONGEST_HEADER) + recipients[-1] if recipients else len(text)
    before = text[:at]
    words = before[:_LONGEST_HEADER].split()
    if len(words) <= 3 and all(_is_header_word(word, offered) for word in words):
        return "", text
    if not recipients and words == [before.strip()] and len(words[0]) <= 40:
        return "", text
    role = re.search(r"\s(assistant|commentary|analysis)\s*$", before[-40:])
    if role:
        at -= len(role[0])
    return text[:at].rstrip(" ") if text[at:] else text, text[at:]


def _read_part(header: Header, mark: int, text: str, offered: Offered) -> None:
    text = text[:_LONGEST_HEADER]
    text, brace, arguments = text.partition("{")
    if brace and not header.arguments:
        header.arguments = brace + arguments
    words = _TO.sub(" to=", text).translate(_BREAKS).split()[:_MOST_WORDS]
    index = 0
    while index < len(words):
        if named := _RECIPIENT.fullmatch(words[index]):
            _read_glued(header, (named[1] or "").lower())
            name, used = _spaced_name([named[2], *words[index + 1 :]], offered)
            header.recipients.append(clean_name(name))
            index += used
            continue
        used = _read_word(header, words[index:], mark if index == 0 else 0, offered)
        index += used


def _read_word(header: Header, words: Sequence[str], mark: int, offered: Offered) -> int:
    """Read a word that addresses no one; return how many words it took."""
    word = words[0].strip("\"'`,;:")
    low = word.lower()
    if low in ROLES:
        header.role = header.role or low
    elif _read_glued(header, low):
        pass
    elif _is_name(clean_name(word), offered):
        header.names.append(clean_name(word))
    elif (spaced := _spaced_name(words, offered))[1] > 1:
        header.names.append(spaced[0])
        return spaced[1]
    elif mark == CHANNEL:
        _read_channel(header, words[0])
    elif low == "python":
        header.names.append(low)
    return 1


def _read_glued(header: Header, word: str) -> bool:
    """Read a role, a channel and a content type, of which each may be left out and glued to the next."""
    found = _GLUED.fullmatch(word)
    if not word or not found:
        return False
    header.role = header.role or found[1] or ""
    header.channel = found[2] or header.channel
    if found[3]:
        header.kind = _KINDS[found[3]] or header.kind
    return True


def _read_channel(header: Header, word: str) -> None:
    """Read what stands where a channel belongs and is none: another word for one, a misspelt one, or a tool."""
    low = word.lower().strip("\"'`,;:._?!")
    close = [low] if low in _CHANNELS else get_close_matches(low[:40], _CHANNELS, 1, 0.75)
    if close:
        header.channel = _CHANNELS[close[0]]
    elif looks_like_name(low):
        header.names.append(word)


def _spaced_name(words: Sequence[str], offered: Offered) -> tuple[str, int]:
    """Return a recipient that may be written with spaces, and how many words it took."""
    if not words[0] and len(words) > 1:
        name, used = _spaced_name(words[1:], offered)
        return name, used + 1
    if not offered.known(words[0]):
        for count in (4, 3, 2):
            for separator in ("_", ".", ""):
                joined = separator.join(words[:count])
                if len(words) >= count and (meant := offered.meant(joined)):
                    return meant, count
    return words[0], 1
