"""Finds the one place in a text where a hunk fits: exactly at first, then more and more tolerant, never by guess."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from miyabi_cli.errors import PatchConflict
from miyabi_cli.workspace.patch_misfits import describe_misfit
from miyabi_cli.workspace.patch_parsing import Hunk

Body = Sequence[tuple[Literal[" ", "-", "+"], str]]
Likeness = Callable[[str], str]
"""Lines are alike where this gives the same for both."""

_PUNCTUATION = str.maketrans(
    {
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        **dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
        "\u2026": "...",
    }
)


def _spaced(line: str) -> str:
    return " ".join(line.split())


def _plain(line: str) -> str:
    return _spaced(line.translate(_PUNCTUATION))


# Strictest first, and each alone: what is only alike never competes with what is the same.
_LIKENESSES: tuple[Likeness, ...] = (str, str.rstrip, str.strip, _spaced, _plain)


def old_lines(body: Body) -> list[str]:
    """Return the lines that must be in the file."""
    return [text for prefix, text in body if prefix != "+"]


def locate(lines: Sequence[str], hunk: Hunk, floor: int, where: str) -> tuple[int, Body]:
    """Return the index at which a hunk applies, and its lines as they have to be read for that.

    Where the lines fit several times, the place is the one below the hunk's `@@` lines, else at the end of the file
    (`*** End of File`), else at the stated line of a unified diff, else behind `floor`, the last change of the hunk
    before. Raises PatchConflict where that leaves none or several; `where` begins its message.
    """
    scopes = _scopes(lines, hunk.anchors, where)
    bodies = _bodies(hunk)
    elsewhere: list[int] = []
    for body in bodies:
        old = old_lines(body)
        if not old:
            return _insertion(lines, hunk, scopes, where), body
        lead = next(number for number, (prefix, _) in enumerate(body) if prefix != " ")
        for likeness in _LIKENESSES:
            everywhere = _positions(lines, old, likeness)
            found = _narrowed(everywhere, lines, hunk, len(old), lead, scopes, floor)
            if len(found) == 1:
                return found[0], body
            if found:
                raise PatchConflict(
                    f"{where} fits in {len(found)} places: at lines {_listed(found)}",
                    hint="add more unchanged lines around the change, or `@@` with the enclosing function or class",
                )
            elsewhere = elsewhere or everywhere
    if elsewhere:
        raise PatchConflict(
            f"{where} fits at line {_listed(elsewhere)}, but that is not below `@@ {hunk.anchors[-1][:120]}`",
            hint="after `@@` comes a line of the file that is above the change, or nothing",
        )
    raise PatchConflict(f"{where} does not fit the file", hint=describe_misfit(lines, bodies[0]))


def _bodies(hunk: Hunk) -> list[Body]:
    """Return the ways to read a hunk's lines without prefix: as unchanged; else, among added lines, as added."""
    unchanged: Body = [(prefix or " ", text) for prefix, text in hunk.lines]
    bodies = [unchanged]
    prefixes = [prefix for prefix, _ in hunk.lines]
    if "" in prefixes:
        added = [prefix or _among(prefixes, number) for number, prefix in enumerate(prefixes)]
        bodies.append([(prefix, text) for prefix, (_, text) in zip(added, hunk.lines, strict=True)])
    return bodies


def _among(prefixes: Sequence[str], number: int) -> Literal[" ", "+"]:
    before = next((prefix for prefix in reversed(prefixes[:number]) if prefix), " ")
    after = next((prefix for prefix in prefixes[number:] if prefix), " ")
    return "+" if before == after == "+" else " "


def _positions(lines: Sequence[str], old: Sequence[str], likeness: Likeness) -> list[int]:
    keys, wanted = [likeness(line) for line in lines], [likeness(line) for line in old]
    last = len(keys) - len(wanted)
    return [at for at in range(last + 1) if keys[at] == wanted[0] and keys[at : at + len(wanted)] == wanted]


def _narrowed(
    found: list[int],
    lines: Sequence[str],
    hunk: Hunk,
    count: int,
    lead: int,
    scopes: Sequence[tuple[int, int]],
    floor: int,
) -> list[int]:
    """Leave out the places that the hunk's own words exclude; `lead` lines come before its first change."""
    if hunk.anchors:
        changes = [at + lead for at in found]
        found = [at - lead for at in _within(scopes, changes) or _behind(scopes, changes)]
    if hunk.at_end:
        found = [at for at in found if not any(line.strip() for line in lines[at + count :])] or found
    if len(found) > 1 and hunk.line in found:
        return [hunk.line]
    if len(found) > 1:
        found = [at for at in found if at + lead >= floor] or found
    return found


def _scopes(lines: Sequence[str], anchors: Sequence[str], where: str) -> list[tuple[int, int]]:
    """Return (start, stop) of what the `@@` lines name: from such a line to the next that is indented no deeper.

    They are in the order of the lines.
    """
    scopes = [(0, len(lines))]
    if not anchors:
        return scopes
    plain, ends = [_plain(line) for line in lines], _scope_ends(lines)
    for anchor in anchors:
        named = _named(plain, anchor)
        found = _within(scopes, named) or _behind(scopes, named)
        if not found:
            raise PatchConflict(
                f"{where}: its line `@@ {anchor[:120]}` is not in the file",
                hint="after `@@` comes a line of the file that is above the change, or nothing",
            )
        scopes = [(at, ends[at]) for at in found]
    return scopes


def _within(scopes: Sequence[tuple[int, int]], places: Iterable[int]) -> list[int]:
    """Return those of ascending places that are in any of the scopes, in one pass over both."""
    found = []
    number = reach = 0
    for at in places:
        while number < len(scopes) and scopes[number][0] <= at:
            reach = max(reach, scopes[number][1])
            number += 1
        if at < reach:
            found.append(at)
    return found


def _behind(scopes: Sequence[tuple[int, int]], places: Iterable[int]) -> list[int]:
    return [at for at in places if scopes[0][0] <= at]


def _named(plain: Sequence[str], anchor: str) -> list[int]:
    wanted = _plain(anchor)
    whole = [at for at, line in enumerate(plain) if line == wanted]
    return whole or [at for at, line in enumerate(plain) if wanted in line]


def _scope_ends(lines: Sequence[str]) -> list[int]:
    """Return for each line the next that is indented no deeper; in one pass from the end, as files may be long."""
    ends = [len(lines)] * len(lines)
    depths: list[int] = []  # of the lines below that may end a scope, ever deeper towards the nearest
    places: list[int] = []
    for at in reversed(range(len(lines))):
        depth, line = _depth(lines[at]), lines[at].strip()
        if nearest := bisect_right(depths, depth):
            ends[at] = places[nearest - 1]
        # A closing bracket or an opening brace at the same depth belongs to it still.
        if line and line[0] not in "{})]":
            while depths and depths[-1] >= depth:
                depths.pop()
                places.pop()
            depths.append(depth)
            places.append(at)
    return ends


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _insertion(lines: Sequence[str], hunk: Hunk, scopes: Sequence[tuple[int, int]], where: str) -> int:
    """Return where a hunk of added lines alone goes: to the end, to its stated line, or below its `@@` line."""
    if hunk.at_end or not lines:
        return len(lines)
    if hunk.line is not None:
        return min(max(hunk.line, 0), len(lines))
    if hunk.anchors and len(scopes) == 1:
        return scopes[0][0] + 1
    several = f": its `@@` line is at lines {_listed([start for start, _ in scopes])}" if hunk.anchors else ""
    raise PatchConflict(
        f"{where} has added lines alone, and no single place for them{several}",
        hint="add an unchanged line before or after them, or `*** End of File` below them to append",
    )


def _listed(found: Sequence[int]) -> str:
    shown = [str(at + 1) for at in found[:10]]
    return ", ".join(shown) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
