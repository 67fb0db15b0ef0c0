"""What the agent for small models has to know of a language: one record each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

MAXIMUM_SOURCE = 200_000  # characters of a file that functions are looked for in


class CodeRefused(ValueError):
    """Code that can't be used; the message is for the model."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A function or method: `name` is qualified (`Class.method`), lines count from 1.

    `source` are its whole lines, what belongs to it above (decorators, comments) included, and `body` is how many of
    them come before its body, which `outline` leaves out. `calls` are the names that it calls. `owner` is how the class
    around it begins and ends, `is_test` says whether it is a test in the middle of code.
    """

    name: str
    first: int
    last: int
    indent: int
    source: str
    body: int
    outline: str
    calls: frozenset[str]
    owner: tuple[str, str] = ("", "")
    is_test: bool = False

    @property
    def short_name(self) -> str:
        """The name without what is around it."""
        return self.name.split(".")[-1]


@dataclass(frozen=True, slots=True)
class Language:
    """A language whose functions can be found and put in place. Each callable takes the text of a file first.

    name: how a fence names it. title: how a sentence does. suffixes: of its files. comment: how one begins.
    definitions: the functions of a file in their order; nested ones belong to their outer one.
    replaced: the file with the functions of a reply's code in place of those of the same name; the third argument are
    the qualified names that the model was shown.
    meaning: what the file says, whatever its comments and white space. preamble: its imports.
    imported: given also the file's path and those of all sources, the files that it imports.
    All but the last two raise CodeRefused for what is not of the language, or too large.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    comment: str
    definitions: Callable[[str], tuple[Definition, ...]]
    replaced: Callable[[str, str, Sequence[str]], str]
    meaning: Callable[[str], Hashable]
    preamble: Callable[[str], str]
    imported: Callable[[str, str, Sequence[str]], Iterable[str]]


def ending_in(stems: Iterable[str], sources: Sequence[str], indexes: Sequence[str] = ()) -> Iterable[str]:
    """Yield the sources whose path, without its suffix, ends in one of the stems, or in the index of such a folder."""
    wanted = [f"/{stem.strip('/')}" for stem in stems if stem.strip("/.")]
    ends = tuple(end for stem in wanted for end in (stem, *(f"{stem}/{index}" for index in indexes)))
    for path in sources:
        if ends and f"/{PurePosixPath(path).with_suffix('')}".endswith(ends):
            yield path
