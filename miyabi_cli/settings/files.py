"""Settings files as trees that know their lines: a small, safe part of YAML, read event by event; imports yaml."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.schema import is_secret
from miyabi_cli.settings.tree import Place, SettingsTree, dotted, leaves

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

# YAML 1.2's core schema: `off`, `no` and `12:30` are text, as their writers expect.
_INTEGER = re.compile(r"[-+]?[0-9]{1,100}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_SPECIAL_FLOAT = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Mapping[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def shown_path(path: Path) -> str:
    """Return a path as errors name it: relative where it lies below the working directory, no control characters."""
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(Path.cwd())
    return str(path) if str(path).isprintable() else repr(str(path))


def read_settings_file(path: Path, shown: Path | None = None) -> bytes:
    """Return the bytes of a regular file of at most 1 MB; raises SettingsError, naming `shown`, for anything else."""
    name = shown_path(shown or path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            data = _read(descriptor, MAX_BYTES + 1) if regular else b""
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SettingsError(f"{name}: can't be read: {getattr(error, 'strerror', None) or error}") from None
    if not regular:
        raise SettingsError(f"{name}: not a regular file", hint="settings are read from a regular file")
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{name}: larger than {MAX_BYTES:,} bytes")
    return data


def _read(descriptor: int, limit: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(limit)


def parse_settings(data: bytes, name: str) -> SettingsTree:
    """Return the tree of a file's bytes; `name` is the file as errors show it.

    Raises SettingsError, `NAME:LINE: …`, for what is not UTF-8, not YAML or not a map, for a key that stands twice, and
    for anchors, aliases, tags and several documents, which settings do not need.
    """
    import yaml

    text = _decode(data, name)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder(name)
    try:
        for event in yaml.parse(text, Loader=loader):
            builder.add(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.rstrip().count("\n")) if mark else 0
        problem = error.problem or error.context or "can't be parsed"
        hint = "indent with spaces, not with tabs" if re.match(r" *\t", _line(text, line)) else None
        raise SettingsError(f"{name}:{line + 1}: not valid YAML: {problem}", hint=hint) from None
    except yaml.YAMLError:
        raise SettingsError(f"{name}: not valid YAML") from None
    return builder.tree()


def _decode(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{name}:{line}: not UTF-8", hint="save the file as UTF-8") from None
    if match := _FORBIDDEN.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise SettingsError(f"{name}:{line}: a control character, U+{ord(match[0]):04X}")
    return text


def _line(text: str, number: int) -> str:
    return (text.split("\n", number + 1) + [""] * (number + 1))[number]


def _scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _SPECIAL_FLOAT.fullmatch(text):
        return float("nan") if match[3] else float(f"{match[1]}inf")
    return text


@dataclass(slots=True)
class _Open:
    """A map or list whose end has not been read; `key` is set between a map's key and its value."""

    value: dict[str, Any] | list[Any]
    place: Place
    key: str | None = None


class _Builder:
    """Takes the parser's events one by one; depth is bounded, so nothing here or behind it recurses far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: object = None
        self.open: list[_Open] = []
        self.lines: dict[Place, int] = {}
        self.documents = 0

    def tree(self) -> SettingsTree:
        if self.root is not None and not isinstance(self.root, dict):
            raise SettingsError(f"{self.name}:1: not a map of settings", hint="write `key: value` lines")
        places = {place: f"{self.name}:{line}" for place, line in self.lines.items()}
        return SettingsTree(self.name, self.root or {}, places, is_file=True)

    def add(self, event: Any) -> None:
        kind = type(event).__name__
        line = event.start_mark.line + 1
        if kind == "DocumentStartEvent":
            self.documents += 1
            if self.documents > 1:
                raise self._error(line, "a second document in the file")
        elif kind == "AliasEvent":
            raise self._error(line, "anchors and aliases (& and *) are not read in settings", "write the value out")
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self.open.pop()
        elif kind in ("ScalarEvent", "MappingStartEvent", "SequenceStartEvent"):
            self._value(event, kind, line)

    def _value(self, event: Any, kind: str, line: int) -> None:
        if event.anchor is not None:
            raise self._error(line, "anchors and aliases (& and *) are not read in settings", "write the value out")
        if event.tag is not None:
            raise self._error(line, "tags (!) are not read in settings")
        parent = self.open[-1] if self.open else None
        if parent and isinstance(parent.value, dict) and parent.key is None:
            self._key(event, kind, line, parent)
            return
        if kind == "ScalarEvent":
            self._place(parent, _scalar(event.value) if event.implicit[0] else event.value, line, event.value)
            return
        value: dict[str, Any] | list[Any] = {} if kind == "MappingStartEvent" else []
        if len(self.open) == MAX_DEPTH:
            raise self._error(line, f"nested more than {MAX_DEPTH} deep")
        self.open.append(_Open(value, self._place(parent, value, line, "")))

    def _key(self, event: Any, kind: str, line: int, parent: _Open) -> None:
        if kind != "ScalarEvent":
            raise self._error(line, "a key that is not plain text")
        name = event.value
        if _FORBIDDEN.search(name):
            raise self._error(line, "a control character in a key")
        place = (*parent.place, name)
        if place in self.lines:
            raise self._error(line, f"key {name!r} stands here twice, first in line {self.lines[place]}")
        self.lines[place] = line
        parent.key = name

    def _place(self, parent: _Open | None, value: object, line: int, text: str) -> Place:
        if _FORBIDDEN.search(text):
            raise self._error(line, "a control character in a value")
        if parent is None:
            self.root = value
            return ()
        if isinstance(parent.value, list):
            place: Place = (*parent.place, len(parent.value))
            parent.value.append(value)
            self.lines[place] = line
            return place
        place = (*parent.place, parent.key or "")
        parent.value[parent.key or ""] = value
        parent.key = None
        return place

    def _error(self, line: int, problem: str, hint: str | None = None) -> SettingsError:
        return SettingsError(f"{self.name}:{line}: {problem}", hint=hint)


_VARIABLE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def has_variable(value: object) -> bool:
    """Say whether a value of a file takes something from the environment: `${NAME}`, but not `$${NAME}`."""
    return isinstance(value, str) and any(match[2] for match in _VARIABLE.finditer(value))


def substitute(tree: SettingsTree, environ: Mapping[str, str]) -> SettingsTree:
    """Return the tree with `${NAME}` replaced and `$${` read as `${`; the texts of such values are kept in `written`.

    An API key whose variable is not set is null: a server may not ask for one. Elsewhere that is a SettingsError.
    """
    written = {place: value for place, value in leaves(tree.values) if isinstance(value, str) and has_variable(value)}

    def replaced(value: Any, place: Place) -> Any:
        if isinstance(value, dict):
            return {key: replaced(child, (*place, key)) for key, child in value.items()}
        if isinstance(value, list):
            return [replaced(child, (*place, index)) for index, child in enumerate(value)]
        if not isinstance(value, str):
            return value
        unset = [match[2] for match in _VARIABLE.finditer(value) if match[2] and match[2] not in environ]
        if unset and is_secret(place):
            return None
        if unset:
            raise SettingsError(
                f"{tree.origin(place)}: {dotted(place)} needs the variable {unset[0]}, which is not set",
                hint=f"set {unset[0]}, or write $${{{unset[0]}}} for a literal ${{{unset[0]}}}",
            )
        return _VARIABLE.sub(lambda match: "${" if match[1] else environ[match[2]], value)

    return replace(tree, values=replaced(tree.values, ()), written=written)
