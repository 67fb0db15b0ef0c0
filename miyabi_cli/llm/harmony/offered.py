"""Which of the offered functions a recipient or a set of arguments means."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.messages import Function

# What stands where a recipient belongs and is none.
NO_RECIPIENT = frozenset(
    {
        *("assistant", "user", "system", "developer", "tool", "tools", "function", "functions", "all", "none", "null"),
        *("analysis", "commentary", "final", "code", "json", "text", "markdown"),
        *("constrain", "channel", "message", "start"),
    }
)
# Names that gpt-oss gives to the arguments of the tools of its training, beside those that are offered.
_SYNONYMS = {"command": "cmd", "commands": "cmd", "cmd": "command", "input": "patch", "pattern": "query"}
_TAIL = re.compile(r"(?:json|code|commentary|analysis|final){1,4}\Z")
_GLUED_ON = re.compile(r"(?:json|code|commentary|analysis|final){0,4}")
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "array": list,
    "object": dict,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
_WORD = re.compile(r"[A-Za-z_][\w-]{0,99}(?:\.[A-Za-z_][\w-]{0,99}){0,3}")
_AROUND = " \t\r\n\"'`()[]<>|,;:=.?!*#"
_BEHIND = re.compile(r"<\||[(\"'`?!]")
_MOST_OBJECTS = 32
_OPENING = re.compile(r"\s{0,8}\[?\s{0,8}")
_BETWEEN = re.compile(r"[\s,;]*+")
# What strays behind arguments: brackets that close nothing, and the words of a next header.
_STRAY = re.compile(
    r"[\s\])}]{0,8}(?:\Z|assistant(?:final|analysis|commentary)"
    r"|(?:assistant|analysis|commentary|final){1,4}(?:[A-Z<]|\s{0,4}\Z| ?to=))"
)
_NO_NAMESPACE = re.compile(r"(?:functions?|tools?|assistant|commentary|analysis)\.", re.IGNORECASE)
_TO = re.compile(r"\bto\s{0,4}=")
_MARK = re.compile(r"<\|\w{1,12}\|>")
_BEFORE_NAME = re.compile(r"\A(?:(?:assistant|analysis|commentary|final)\s+)*(?:functions\.\s*)*")
_LONGEST = 200


class Offered:
    """The functions that a request offers, as their names come back."""

    def __init__(self, functions: Sequence[Function] = ()) -> None:
        self.functions = tuple(functions)
        self._names: dict[str, str] = {}
        for function in self.functions:
            for prefix in (f"{function.namespace}.", "functions.", ""):
                self._names[(prefix + function.name if prefix != "." else function.name).lower()] = function.name
        alike = Counter(_loose(function.name).replace(".", "_") for function in self.functions)
        self._loose: dict[str, str] = {}
        for full, name in self._names.items():
            key = _loose(full)
            mixed_up = key != full and alike[_loose(name).replace(".", "_")] > 1
            self._loose[key] = "" if mixed_up or self._loose.get(key, name) != name else name
        self._namespaces = {function.namespace.lower() for function in self.functions if function.namespace}

    def known(self, word: str) -> str:
        """Return the function that a word names, "" where it names none."""
        return self._names.get(word.lower(), "") or self._loose.get(_loose(word), "")

    def named(self, word: str) -> str:
        """Return the name that a recipient stands for: an offered function's, or what was read; "" where it is none."""
        names = self.names_in(word)
        return names[0] if names else ""

    def names_in(self, word: str) -> list[str]:
        """Return the names that a recipient stands for; several where full names were glued together."""
        word = clean_name(word)
        if known := self.known(word):
            return [known]
        plain = re.sub(r"^functions?\.", "", word, flags=re.IGNORECASE)
        bare = _NO_NAMESPACE.sub("", word)
        if known := self.known(bare):
            return [known]
        if {plain.lower(), _stem(plain)} & (NO_RECIPIENT | self._namespaces) or not looks_like_name(plain):
            return []
        return self._glued(word) or self._glued(bare) or [plain.removesuffix("commentary") or plain]

    def meant(self, word: str) -> str:
        """Return the function that a word names, be it with a content type glued on; "" where it names none."""
        glued = self._glued(word)
        return self.known(word) or (glued[0] if len(glued) == 1 else "")

    def _glued(self, word: str) -> list[str]:
        """Return the functions that a word is made of, with a content type or a channel glued on at its end."""
        found: list[str] = []
        rest = _loose(word)
        while rest and not _GLUED_ON.fullmatch(rest):
            full = max((name for name in self._loose if rest.startswith(name)), key=len, default="")
            if not self._loose.get(full) or (found and "." not in full):
                return []
            found.append(self._loose[full])
            rest = rest[len(full) :]
        return found

    def fitting(self, arguments: str, among: Sequence[str] = ()) -> str:
        """Return the one function that arguments (JSON text) fit, "" where none or several do."""
        value = json_object(arguments)
        if not value:
            return ""
        functions = [one for one in self.functions if not among or one.name in among]
        for fits in (_fits, _nearly_fits):
            names = [function.name for function in functions if fits(function, value)]
            if names:
                return names[0] if len(names) == 1 else ""
        return ""

    def in_namespace(self, word: str) -> list[str]:
        """Return the functions of a namespace that stands alone where a recipient belongs."""
        word = clean_name(word)
        return [
            one.name for one in self.functions if one.namespace and one.namespace.lower() in (word.lower(), _stem(word))
        ]


def _loose(word: str) -> str:
    """Return a name with the letters that models mix up made one: Harmony's TypeScript has no hyphen in a name."""
    return word.lower().replace("-", "_")


def _stem(word: str) -> str:
    """Return a word without content types and channels glued on at its end."""
    return _TAIL.sub("", word.lower())


def clean_name(word: str) -> str:
    """Return a recipient without marks, quotes and what follows a name."""
    word = word.strip(_AROUND)[:_LONGEST]
    return _BEHIND.split(word, maxsplit=1)[0].strip(_AROUND)


def addressed_name(word: str) -> str:
    """Return the name in what a server gave for one, where words of a header stand around it; "" for none.

    It stands behind `to=`, or is the first between marks that is no channel.
    """
    pieces = (part for piece in reversed(_TO.split(word)) for part in _MARK.split(piece))
    parts = [part for piece in pieces if (part := piece.partition("<|")[0].strip())]
    name = next((part for part in parts if part.lower() not in NO_RECIPIENT), parts[0] if parts else "")
    return _BEFORE_NAME.sub("", name)


def looks_like_name(word: str) -> bool:
    """Say whether a word can be a tool's name."""
    return bool(_WORD.fullmatch(word)) and len(word) <= _LONGEST


def json_object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is as a whole, None where it is none."""
    text = text.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def leading_objects(text: str) -> list[str]:
    """Return the JSON objects that a text is made of: one behind another or in a list, and then nothing but what may
    stray behind arguments. [] where it is something else."""
    decoder = json.JSONDecoder(strict=False)
    objects: list[str] = []
    at = len(_OPENING.match(text)[0])  # type: ignore[index]
    while text.startswith("{", at) and len(objects) < _MOST_OBJECTS:
        try:
            _, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        objects.append(text[at:end])
        at = end + len(_BETWEEN.match(text, end)[0])  # type: ignore[index]
    return objects if _STRAY.match(text, at) else []


def _fits(function: Function, value: Mapping[str, Any]) -> bool:
    """Every required argument is there, each is known, and of a type that the schema allows."""
    properties, required = _schema(function)
    return set(required) <= value.keys() <= properties.keys() and all(
        _may_be(properties[key], item) for key, item in value.items()
    )


def _nearly_fits(function: Function, value: Mapping[str, Any]) -> bool:
    """The same by the names of the training, and with at most as many unknown arguments as known ones."""
    properties, required = _schema(function)
    renamed = {key if key in properties else _SYNONYMS.get(key, key): item for key, item in value.items()}
    known = renamed.keys() & properties.keys()
    return bool(required) and set(required) <= known and len(known) * 2 >= len(renamed)


def _schema(function: Function) -> tuple[Mapping[str, Any], Sequence[str]]:
    properties = function.parameters.get("properties")
    required = function.parameters.get("required")
    return properties if isinstance(properties, Mapping) else {}, required if isinstance(required, list | tuple) else ()


def _may_be(schema: Any, value: Any) -> bool:
    names = schema.get("type") if isinstance(schema, Mapping) else None
    if not names:
        return True
    kinds = [_TYPES.get(str(name), object) for name in ([names] if isinstance(names, str) else names)]
    return any(isinstance(value, kind) for kind in kinds)
