"""Where a failing test and a task point: the Python functions that a small model is shown."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from miyabi_cli.agent.definitions import Definition, definitions

FRAME = re.compile(r"([\w./+-]+\.py)(?::|\", line )(\d+)")
WORD = re.compile(r"[A-Za-z_]\w{2,}")
FILES_READ = 400
FUNCTIONS_SHOWN = 6
CLEARLY = 5.0  # a score that a word in common does not reach
WHOLE_FILE = 500  # characters below which a file is shown whole: reading costs a small model's time

Read = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Functions of one file: `names` are qualified, `text` is what a model sees of it, `whole` says if that is all.

    `likeliest` are those that the evidence points to, in that order; `names` are all that the text holds.
    """

    path: str
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
    sources = [path for path in paths if path.endswith(".py") and not is_test(path)]
    known = set(paths)
    tests = [path for path in _failing_files(evidence, paths) if is_test(path)]
    called = _called_by_tests(tests, read, evidence)
    candidates = _candidates(sources, known, tests, read, evidence)
    found = [item for path in candidates for item in _scored(path, read(path), evidence, called)]
    found = _with_callees(found)
    best = sorted(found, key=lambda item: (-item.score, item.path, item.definition.first))
    return _excerpts(_kept(best, limit), read, limit)


def _failing_files(evidence: Evidence, paths: Sequence[str]) -> list[str]:
    text = f"{evidence.output}\n{' '.join(evidence.failing)}\n{evidence.task}"
    dotted = {path.removesuffix(".py").replace("/", "."): path for path in paths if path.endswith(".py")}
    hits = [path for path in paths if path.endswith(".py") and path in text]
    hits += [
        path
        for name, path in dotted.items()
        if any(test.startswith(f"{name}.") or test.startswith(f"{name}::") for test in evidence.failing)
    ]
    return list(dict.fromkeys(hits))


def _candidates(
    sources: Sequence[str], known: set[str], tests: Sequence[str], read: Read, evidence: Evidence
) -> list[str]:
    """Return files by how directly they are named: in the task, in a traceback, by a failing test's imports."""
    ordered = [path for path in sources if path in evidence.task or PurePosixPath(path).name in evidence.task]
    ordered += [path for path, _ in _frames(evidence.output) if path in known and path in sources]
    for test in tests:
        ordered += [path for path in _imported(read(test), sources) if path in known]
    if not ordered:
        words = set(WORD.findall(evidence.task))
        pattern = re.compile(rf"^\s*(?:async )?def (?:{'|'.join(map(re.escape, sorted(words)))})\b", re.MULTILINE)
        ordered = [path for path in sources[:FILES_READ] if words and pattern.search(read(path))]
    if not ordered and len(sources) <= FUNCTIONS_SHOWN:
        ordered = list(sources)
    return list(dict.fromkeys(ordered))[:FILES_READ]


def _frames(output: str) -> list[tuple[str, int]]:
    return [(found[1].removeprefix("./"), int(found[2])) for found in FRAME.finditer(output)]


def _imported(source: str, sources: Sequence[str]) -> Iterable[str]:
    """Yield the files that a test's imports name, whatever folder the packages lie in."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in names:
            file = name.replace(".", "/")
            for path in sources:
                if file and (f"/{path}".endswith(f"/{file}.py") or f"/{path}".endswith(f"/{file}/__init__.py")):
                    yield path


def _called_by_tests(tests: Sequence[str], read: Read, evidence: Evidence) -> frozenset[str]:
    """Return the names that the failing tests call; all tests of a file count where none of it is named."""
    called: set[str] = set()
    for path in tests:
        try:
            found = definitions(read(path))
        except (SyntaxError, ValueError):
            continue
        short = {re.split(r"::|\.", name)[-1].split("[")[0] for name in evidence.failing}
        named = [definition for definition in found if definition.name.split(".")[-1] in short]
        for definition in named or found:
            called |= definition.calls
    return frozenset(called)


def _scored(path: str, source: str, evidence: Evidence, called: frozenset[str]) -> list[_Found]:
    try:
        found = definitions(source)
    except (SyntaxError, ValueError):
        return []
    frames = [line for file, line in _frames(evidence.output) if file == path]
    task, output = set(WORD.findall(evidence.task)), set(WORD.findall(evidence.output))
    return [_Found(path, one, _score(one, frames, task, output, called)) for one in found]


def _score(one: Definition, frames: Sequence[int], task: set[str], output: set[str], called: frozenset[str]) -> float:
    short = one.name.split(".")[-1]
    owner = one.name.split(".")[0]
    score = 0.1
    if any(one.first <= line <= one.last for line in frames):
        score += 8
    if short in called or (short == "__init__" and owner in called):
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
        _Found(item.path, item.definition, item.score + (3 if item.definition.name.split(".")[-1] in likely else 0))
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
    return tuple(_excerpt(path, read(path), found, limit) for path, found in by_path.items())


def _excerpt(path: str, source: str, found: Sequence[Definition], limit: int) -> Excerpt:
    """Show a file whole where it is small; else its imports, and the functions found."""
    names = tuple(definition.name for definition in found)
    if len(source) <= min(limit, WHOLE_FILE):
        return Excerpt(path, tuple(one.name for one in definitions(source)), source.strip("\n"), True, names)
    parts = [_preamble(source)] if _preamble(source) else []
    for definition in sorted(found, key=lambda one: one.first):
        owner = definition.name.split(".")[0] if "." in definition.name else ""
        parts.append(f"class {owner}:\n{definition.source}" if owner else definition.source)
    return Excerpt(path, names, "\n\n".join(parts), False, names)


def _preamble(source: str) -> str:
    lines = source.split("\n")
    kept = [
        "\n".join(lines[node.lineno - 1 : node.end_lineno])
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return "\n".join(kept)
