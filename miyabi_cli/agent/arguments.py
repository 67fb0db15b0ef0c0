"""Reads the names and arguments of tool calls as models write them, and not only as they were told to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from miyabi_cli.errors import UsageError
from miyabi_cli.llm.objects.mending import inner_arguments, read_value, unwrapped

Arguments = Mapping[str, Any]

_NAME_LIMIT = 300
_TOKEN = re.compile(r"<\|[^|>]*\|>?")
_NAMESPACES = ("functions_", "repo_browser_", "container_", "tools_")


class BadArguments(UsageError):
    """A tool call that can't be read: `message` says what is wrong, `hint` what is expected."""

    kind = "bad_arguments"


def heal_name(name: str, known: Mapping[str, str]) -> str:
    """Return the tool that a name means, "" where none is; `known` maps names in lower case to tools.

    Understood are namespaces (`repo_browser.open_file`, and `repo_browser_open_file` as Ollama has it), Harmony's
    tokens glued to a name (`exec<|channel|>commentary`), a recipient (`to=exec`), and other words around the name.
    """
    words = (word for piece in _TOKEN.split(name[:_NAME_LIMIT]) for word in re.split(r"[\s\"'`()]+", piece))
    for word in words:
        plain = word.strip(".,:;").lower().removeprefix("to=").replace("-", "_").rsplit(".", 1)[-1]
        for candidate in (plain, *(plain.removeprefix(space) for space in _NAMESPACES)):
            if candidate in known:
                return known[candidate]
    return ""


def read_arguments(text: str, bare: str) -> Arguments:
    """Return the arguments of a call. `bare` is the argument that a text stands for which is no object.

    Read is what `llm/objects/mending.py` understands, also with text after it, encoded twice, or wrapped in
    `{"arguments": …}`. Raises BadArguments where a text begins as an object and is none.
    """
    plain = unwrapped(text)
    if not plain:
        return {}
    return _as_arguments(_value(plain), plain, bare)


def _as_arguments(value: Any, text: str, bare: str, depth: int = 0) -> Arguments:
    if isinstance(value, str) and value != text and depth < 3:
        inner = _value(value)
        return _as_arguments(value if inner is None else inner, value, bare, depth + 1)
    if isinstance(value, dict):
        return _innermost({str(key).strip().lower(): item for key, item in value.items()}, bare, depth)
    if isinstance(value, list | str):
        return {bare: value}
    if text.startswith(('{"', "{'")):
        raise BadArguments("the arguments are no whole JSON object")
    return {} if text in ("null", "None") else {bare: text}


def _innermost(arguments: dict[str, Any], bare: str, depth: int) -> Arguments:
    inner = inner_arguments(arguments) if depth < 5 else None
    if isinstance(inner, str):
        return read_arguments(inner, bare)
    return arguments if inner is None else _as_arguments(inner, "", bare, depth + 1)


def _value(text: str) -> Any:
    """Return a text's value, None where it has none."""
    if not text.startswith(("{", "[", '"')):
        return None
    try:
        value, end = read_value(text)
    except ValueError:
        return None
    # A shell command may begin with a quoted word or `[`; only an object ends where more text follows.
    return value if isinstance(value, dict) or not text[end:].strip() else None


def first_of(arguments: Arguments, names: Iterable[str]) -> Any:
    """Return the first argument that is there and not None, under any of its names."""
    return next((arguments[name] for name in names if arguments.get(name) is not None), None)


def text_of(arguments: Arguments, names: Sequence[str], default: str | None = None) -> str:
    """Return an argument as text. Raises BadArguments where it is missing and has no default, or is no text."""
    value = first_of(arguments, names)
    if value is None and default is not None:
        return default
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadArguments(f"`{names[0]}` is missing" if value is None else f"`{names[0]}` has to be text")
    return str(value)


def path_of(arguments: Arguments, names: Sequence[str], default: str | None = None) -> str:
    """Return an argument as a path, without the space around it."""
    value = first_of(arguments, names)
    if isinstance(value, list) and len(value) == 1:
        return text_of({names[0]: value[0]}, names).strip()
    return text_of(arguments, names, default).strip()


def number_of(arguments: Arguments, names: Sequence[str]) -> float | None:
    """Return an argument as a number, also when it is one in text; None where it is missing or none."""
    value = first_of(arguments, names)
    try:
        number = float(value) if not isinstance(value, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and abs(number) < 1e15 else None


def whole_of(arguments: Arguments, names: Sequence[str]) -> int | None:
    """Return an argument as a whole number; None where it is missing or none."""
    number = number_of(arguments, names)
    return None if number is None else int(number)
