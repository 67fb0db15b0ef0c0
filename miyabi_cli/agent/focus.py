"""Where a failing test and a task point: the functions that a small model is shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from miyabi_cli.agent.languages import PLACE, language_of
from miyabi_cli.agent.languages.language import CodeRefused, Definition, Language

CALL = re.compile(r"([A-Za-z_$][\w$]*)\s*\(")
DEFINED = r"\b(?:def|fn|func|function|const|let)\s+(?:\([^)\n]{{0,200}}\)\s*)?(?:{})\b"
NEXT_TEST = re.compile(r"^\s*(?:test|it|describe)\b", re.MULTILINE)
TEST_SHOWN = 2_000  # characters of a test without a function of its own
PLACES = 200  # of a failure's output
WORD = re.compile(r"[A-Za-z_]\w{2,}")
FILES_READ = 400
FUNCTIONS_SHOWN = 6
CONSTRUCTORS = ("__init__", "new", "constructor")
CLEARLY = 5.0  # a score that a word in common does not reach
WHOLE_FILE = 500  # characters below which a file is shown whole: reading costs a small model's time

Read = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Functions of one file: `names` are qualified, `text` is what a model sees of it, `whole` says if that is all.

    `likeliest` are those that the evidence points to, in that order; `names` are all that the text holds.
    """

    path: str
    language: Language
    names: tuple[str, ...]
    text: str
    whole: bool
    likeliest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the fault: the task's words, what the checks print, the failing tests' names."""

    task: str
    output: str = ""
    failing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    definition: Definition
    score: float


def find_focus(
    paths: Sequence[str], read: Read, evidence: Evidence, *, is_test: Callable[[str], bool], limit: int
) -> tuple[Excerpt, ...]:
    """Return the functions that the evidence points to, the likeliest first, in at most about `limit` characters.

    `paths` are the tree's files, `read` gives a file's text ("" where it can't be read). At least one function is
    returned where the evidence leads to any file that has one; a file that has none is shown whole.
    """
    sources = [path for path in paths if language_of(path) and not is_test(path)]
    places = _places(evidence, paths)
    tests = [path for path in _failing_files(evidence, paths, places) if is_test(path)]
    inline = [path for path, _ in places if path in sources]
    called = _called_by_tests(tests, inline, read, evidence)
    candidates = _candidates(sources, tests, inline, read, evidence)
    found = [item for path in candidates for item in _scored(path, read(path), evidence, places, called)]
    found = _with_callees(found)
    best = sorted(found, key=lambda item: (-item.score, item.path, item.definition.first))
    return _excerpts(_kept(best, limit), read, limit)


def _places(evidence: Evidence, paths: Sequence[str]) -> list[tuple[str, int]]:
    """Return the places in the tree's files that a failure names, whatever folder it says the tree lies in."""
    known = set(paths)
    found = []
    for written, line in list(dict.fromkeys(PLACE.findall(evidence.output)))[:PLACES]:
        path = written.removeprefix("./")
        while path not in known and "/" in path:
            path = path.partition("/")[2]
        if path in known:
            found.append((path, int(line)))
    return found


def _failing_files(evidence: Evidence, paths: Sequence[str], places: Sequence[tuple[str, int]]) -> list[str]:
    text = f"{evidence.output}\n{' '.join(evidence.failing)}\n{evidence.task}"
    dotted = {path.removesuffix(".py").replace("/", "."): path for path in paths if path.endswith(".py")}
    hits = [path for path, _ in places]
    hits += [path for path in paths if path in text and language_of(path)]
    hits += [
        path
        for name, path in dotted.items()
        if any(test.startswith(f"{name}.") or test.startswith(f"{name}::") for test in evidence.failing)
    ]
    return list(dict.fromkeys(hits))


def _candidates(
    sources: Sequence[str], tests: Sequence[str], inline: Sequence[str], read: Read, evidence: Evidence
) -> list[str]:
    """Return files by how directly they are named: in the task, in a traceback, by a failing test's imports."""
    ordered = [path for path in sources if path in evidence.task or PurePosixPath(path).name in evidence.task]
    ordered += inline
    for test in tests:
        if language := language_of(test):
            ordered += language.imported(read(test), test, sources)
    if not ordered:
        words = set(WORD.findall(evidence.task))
        pattern = re.compile(DEFINED.format("|".join(map(re.escape, sorted(words)))))
        ordered = [path for path in sources[:FILES_READ] if words and pattern.search(read(path))]
    if not ordered and len(sources) <= FUNCTIONS_SHOWN:
        ordered = list(sources)
    return list(dict.fromkeys(ordered))[:FILES_READ]


def _called_by_tests(tests: Sequence[str], inline: Sequence[str], read: Read, evidence: Evidence) -> frozenset[str]:
    """Return the names that the failing tests call; all tests of a file count where none of it is named.

    `inline` are sources, which may have tests beside the code.
    """
    called: set[str] = set()
    short = {re.split(r"::|\.| > ", name)[-1].split("[")[0] for name in evidence.failing}
    for path in dict.fromkeys([*tests, *inline]):
        text = read(path)
        found = definitions_of(path, text)
        own = [one for one in found if one.is_test] or (found if path in tests else [])
        for definition in [one for one in own if one.short_name in short] or own:
            called |= definition.calls
        if not found and path in tests:
            called.update(CALL.findall(_titled(text, short)))
    return frozenset(called)


def _titled(text: str, titles: set[str]) -> str:
    """Return the tests that have these titles, of a file whose tests are no functions of their own; else all of it."""
    shown = []
    for title in sorted(titles - {""}):
        if (place := text.find(title)) >= 0:
            following = NEXT_TEST.search(text, place + len(title), place + TEST_SHOWN)
            shown.append(text[place : following.start() if following else place + TEST_SHOWN])
    return "\n".join(shown) or text


def definitions_of(path: str, text: str) -> tuple[Definition, ...]:
    """Return the functions of a file; none where it is of no known language, or can't be read."""
    language = language_of(path)
    try:
        return language.definitions(text) if language else ()
    except CodeRefused:
        return ()


def _scored(
    path: str, source: str, evidence: Evidence, places: Sequence[tuple[str, int]], called: frozenset[str]
) -> list[_Found]:
    lines = [line for file, line in places if file == path]
    task, output = set(WORD.findall(evidence.task)), set(WORD.findall(evidence.output))
    found = (one for one in definitions_of(path, source) if not one.is_test)
    return [_Found(path, one, _score(one, lines, task, output, called)) for one in found]


def _score(one: Definition, lines: Sequence[int], task: set[str], output: set[str], called: frozenset[str]) -> float:
    short = one.short_name
    owner = one.name.split(".")[0]
    score = 0.1
    if any(one.first <= line <= one.last for line in lines):
        score += 8
    if short in called or (short in CONSTRUCTORS and owner in called):
        score += 5
    if short in task:
        score += 6
    if owner != short and owner in task:
        score += 2
    if short in output:
        score += 2
    return score


def _with_callees(found: Sequence[_Found]) -> list[_Found]:
    """A function that a likely one calls is a little likely itself."""
    likely = frozenset(name for item in found if item.score >= 5 for name in item.definition.calls)
    return [
        _Found(item.path, item.definition, item.score + (3 if item.definition.short_name in likely else 0))
        for item in found
    ]


def _kept(best: Sequence[_Found], limit: int) -> list[_Found]:
    kept: list[_Found] = []
    room = limit
    for item in best[:FUNCTIONS_SHOWN]:
        weak = kept and kept[0].score >= CLEARLY and item.score < max(CLEARLY, kept[0].score / 2)
        if kept and (len(item.definition.source) > room or weak):
            continue
        kept.append(item)
        room -= len(item.definition.source)
    return kept


def _excerpts(kept: Sequence[_Found], read: Read, limit: int) -> tuple[Excerpt, ...]:
    by_path: dict[str, list[Definition]] = {}
    for item in kept:
        by_path.setdefault(item.path, []).append(item.definition)
    return tuple(
        _excerpt(path, language, read(path), found, limit)
        for path, found in by_path.items()
        if (language := language_of(path))
    )


def _excerpt(path: str, language: Language, source: str, found: Sequence[Definition], limit: int) -> Excerpt:
    """Show a file whole where it is small; else its imports, and the functions found."""
    names = tuple(definition.name for definition in found)
    every = definitions_of(path, source)
    if len(source) <= min(limit, WHOLE_FILE) and not any(one.is_test for one in every):
        return Excerpt(path, language, tuple(one.name for one in every), source.strip("\n"), True, names)
    preamble = language.preamble(source)
    shown = [_with_owner(one) for one in sorted(found, key=lambda one: one.first)]
    return Excerpt(path, language, names, "\n\n".join(part for part in (preamble, *shown) if part), False, names)


def _with_owner(one: Definition) -> str:
    opening, closing = one.owner
    return "\n".join(part for part in (opening, one.source, closing) if part)
