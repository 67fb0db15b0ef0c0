"""What the rules see of an issue: words, pairs of words, and marks of structure; all bounded, and deterministic."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

TITLE_LETTERS = 300
BODY_LETTERS = 2_000  # of prose; what comes later says little of what is asked

_COMMENT = re.compile(r"<!--(?:[^-]|-(?!->)){0,4000}+-->")
_HEADING = re.compile(r"^[ \t]{0,3}(?:#{1,6} .*|\*\*[^*\n]{1,80}\*\*:?[ \t]*)$", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]{0,3}(?:```|~~~)", re.MULTILINE)
_ADDRESS = re.compile(r"https?://[^\s)>\]]{1,400}")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_STRUCTURE = {
    "trace": re.compile(
        r"Traceback \(most recent|^\s{0,20}at [\w.$<>]{2,100}[ (]|Exception in thread|panicked at|#\d+ 0x", re.MULTILINE
    ),
    "error": re.compile(r"\b[A-Z]\w{0,40}(?:Error|Exception)\b|\berror(?:\[|:| TS\d| C\d)|[Ff]atal|Segmentation fault"),
    "table": re.compile(r"^\|.{1,300}\|.{0,300}\|\s*$", re.MULTILINE),
    "steps": re.compile(r"(?i)\b(?:steps to reproduce|repro steps|reproduction steps|how to reproduce)\b"),
    "expected": re.compile(r"(?i)\b(?:expected|actual|current) (?:behaviou?r|result|output)s?\b"),
    "how do I": re.compile(
        r"(?i)\b(?:how (?:do|can|could|should|would) (?:i|we|you|one)|how to|is it possible|is there (?:a|any) way)\b"
    ),
    "wish": re.compile(
        r"(?i)\b(?:feature request|would be (?:nice|great|good|useful|helpful)|i(?:'d| would) (?:like|love)|"
        r"(?:it|this|we) should (?:be possible|support|allow)|please (?:add|support|consider)|proposal|"
        r"(?:add|adding) support|support for)\b"
    ),
    "checkbox": re.compile(r"^\s{0,8}[-*] \[[ xX]\]", re.MULTILINE),
}
_TITLE_STRUCTURE = {
    "question mark": re.compile(r"\?\s*$"),
    "asks": re.compile(r"(?i)^\W*(?:how|what|why|where|when|which|who|is|are|can|could|does|do|should|would)\b"),
    "verb first": re.compile(r"(?i)^\W*(?:add|allow|support|implement|provide|enable|make|introduce|improve|option)\b"),
    "bug": re.compile(r"(?i)\bbugs?\b"),
    "request": re.compile(r"(?i)\b(?:feature|request|rfc|proposal|suggestion|enhancement|wish)\b"),
    "not": re.compile(
        r"(?i)\b(?:not|cannot|can't|doesn't|don't|isn't|won't|no longer|unable|fails?|failed|wrong|broken)\b"
    ),
}


def prose_of(body: str) -> str:
    """Return a body without comments, headings (a form has them in each issue), code blocks and addresses."""
    text = _COMMENT.sub(" ", body[: 4 * BODY_LETTERS])
    text = _HEADING.sub(" ", "\n".join(_FENCE.split(text)[::2]))
    return _ADDRESS.sub(" ", text)[:BODY_LETTERS]


def features_of(title: str, body: str) -> frozenset[str]:
    """Return the names of what an issue shows: `t:` of the title, `b:` of the body, `s:` of its structure."""
    title = title[:TITLE_LETTERS]
    return frozenset(
        (*_words("t:", title), *_words("b:", prose_of(body)), *_structure(title, body[: 4 * BODY_LETTERS]))
    )


def _words(lead: str, text: str) -> Iterator[str]:
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    for word in words:
        yield lead + word
    for first, second in itertools.pairwise(words):
        yield f"{lead}{first} {second}"


def _structure(title: str, body: str) -> Iterator[str]:
    yield from (f"s:{name}" for name, pattern in _STRUCTURE.items() if pattern.search(body))
    yield from (f"s:title {name}" for name, pattern in _TITLE_STRUCTURE.items() if pattern.search(title))
