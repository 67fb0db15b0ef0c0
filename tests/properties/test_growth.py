"""No reader takes more than linear time of what others wrote, or near to it: long inputs made of what it looks for.

Each input is so long that a reader whose time grows with its square would need many minutes of the processor.
"""

from __future__ import annotations

import functools
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import pytest

from miyabi_cli.agent.languages import LANGUAGES
from miyabi_cli.agent.languages.language import MAXIMUM_SOURCE
from miyabi_cli.agent.languages.lexing import read_code
from miyabi_cli.errors import MiyabiError
from miyabi_cli.fences import backticks, fenced
from miyabi_cli.llm.objects.mending import objects_in, read_json
from miyabi_cli.redaction import redactor_of, secrets_in_environment, secrets_in_url
from miyabi_cli.report.display import indented, plain_text
from miyabi_cli.settings.checking import settings_of
from miyabi_cli.settings.files import parse_settings
from miyabi_cli.workspace.diffs import parse_diff
from miyabi_cli.workspace.patch_matching import change_text
from miyabi_cli.workspace.patch_parsing import parse_patch
from miyabi_cli.workspace.runners.junit import read_junit, suite_times
from miyabi_cli.workspace.runners.unittest_output import read_unittest

SECONDS = 20.0  # of the processor; each case needs less than one
LENGTH = 1_000_000  # characters
RAN = "Ran 1 test in 0.1s\n"
FAILED = "=" * 70 + "\nFAIL: a (b.c)\n"


class TooSlow(Exception):
    pass


@contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """Raise TooSlow where a block takes more of the processor; how busy the machine is makes no difference."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def long(piece: str, length: int = LENGTH) -> str:
    return piece * (length // len(piece))


def check(read: Callable[[], Any]) -> None:
    with processor_seconds(SECONDS):
        try:
            read()
        except (MiyabiError, ValueError):
            return


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        " \n",
        ":\n",
        "+ ",
        "##",
        "\x1b[0",
        "\x1b[",
        "\x9b;",
        "\x1b]",
        "\u202e",
        "::\n",
        "\t+",
        "\x1b[" + "0" * 9_999,
    ],
)
def test_text_for_a_terminal(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    check(lambda: (plain_text(long(text)), indented(long(text))))


@pytest.mark.parametrize("text", ["`", "``` ", "<data ", "</data 0", "\n"])
def test_fences(text: str) -> None:
    check(lambda: (fenced(long(text)), backticks(long(text))))


@pytest.mark.parametrize("text", ["://", "://a:", "://a@", "a", "%41", "abcd1234", "abcd1234efgh", "YWJj"])
def test_redaction(text: str) -> None:
    redactor = redactor_of(
        [("A_TOKEN", "abcd1234" * 3), ("B_TOKEN", "abcd1234efgh5678abcd1234ijkl"), ("C_TOKEN", "a1" * 20)]
    )
    check(lambda: (redactor.redact(long(text)), secrets_in_url(long(text))))
    check(lambda: secrets_in_environment({"A": long(text), long("_KEY"): long(text)}))


@pytest.mark.parametrize(
    "text",
    [
        *("{", '{"a":', "[", '["', "'", '"""', "\\", "/*", "//", "#", "\\u", '{"a": 1,', "1", "-", "e", "<|", "<|a|>"),
        *("```\n", "{'a': (", '{"name": "exec", "arguments": ', "<function=exec>", " ", "{}", '"\\"'),
    ],
)
def test_json_as_models_write_it(text: str) -> None:
    check(lambda: read_json(long(text)))
    check(lambda: list(objects_in(long(text))))


PATCH_LINES = [
    *(
        "*** Begin Patch",
        "*** End Patch",
        "*** Update File: a",
        "*** Add File: a\n+a",
        "@@",
        "@@ a",
        "@@ -1",
        "--- a",
        "+++ b",
    ),
    *(
        "diff --git a/" + " b/" * 330,
        "diff --git a/a b/b",
        "apply_patch " * 30,
        "<<EOF",
        "-a",
        "+a",
        " a",
        "```",
        "\\ No newline",
    ),
]


@pytest.mark.parametrize("line", PATCH_LINES)
@pytest.mark.parametrize(
    "head", ["", "*** Begin Patch\n*** Update File: a\n", "diff --git a/a b/a\n--- a/a\n+++ b/a\n"]
)
def test_patches(head: str, line: str) -> None:
    check(lambda: parse_patch(head + long(line + "\n", 100_000)))
    check(lambda: parse_patch(head + long(line, 100_000)))
    check(lambda: parse_diff((head + long(line + "\n")).encode()))


@pytest.mark.parametrize(
    ("text", "patch"),
    [
        ("a\nb\n" * 2_000, "-a\n-b\n" * 2_000 + "+b\n+a\n+c\n" * 2_000),
        ("a \nb \n" * 2_000, "-a\n-b\n" * 2_000 + "+b\n+a\n+c\n" * 2_000),
        ("a\n" * 8_000, " a\n" * 4_000 + "-b\n+c\n"),
        ("a\n" * 4_000, "@@ a\n" * 400 + "-b\n+c\n"),
        ("a\n" * 4_000, "@@ b\n" * 4_000 + "-b\n+c\n"),
        ("} a\n" * 30_000, "@@ a\n-b\n+c\n"),
        ("  a\n" * 4_000, "-\ta\n" * 4_000 + "+\tb\n" * 4_000),
        ("a" * LENGTH + "\n", "-" + "a" * LENGTH + "b\n+x\n"),
        (" a" * LENGTH + "\n", "-" + "a " * LENGTH + "b\n+x\n"),
        ("".join(f"{n}\n" for n in range(2_000)), "".join(f"@@\n-{n}\n+x{n}\n" for n in range(2_000))),
    ],
    ids=[
        "rewritten",
        "rewritten tolerantly",
        "repeated",
        "anchors",
        "no anchors",
        "scopes",
        "indented",
        "long",
        "spaced",
        "hunks",
    ],
)
def test_changes_to_a_text(text: str, patch: str) -> None:
    def change() -> None:
        (parsed,) = parse_patch(f"*** Begin Patch\n*** Update File: f\n{patch}\n*** End Patch")
        change_text(text, parsed)

    check(change)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "<testsuite ",
            "<testsuite>",
            "<testsuite time=",
            "<testsuite><testcase name='a'/>",
            "<",
            "&a;",
            "<!--",
            "<![CDATA[",
        ),
        *("<testsuite/>", "<?xml ", "<!DOCTYPE a ", "\n", "<testsuite a='"),
    ],
)
@pytest.mark.parametrize("head", ["", "<testsuites>", "<testsuite><testcase name='a'><failure>"])
def test_junit(head: str, text: str) -> None:
    data = (head + long(text, 4 * LENGTH)).encode()
    check(lambda: (read_junit(data), suite_times(data)))


@pytest.mark.parametrize(
    "text",
    [
        *(
            FAILED,
            FAILED + "-" * 70 + "\n",
            "a (b)\n",
            "a (b) ... ",
            "a (b) ... \nskipped '",
            "a",
            "a (",
            "=",
            "-" * 70 + "\n",
        ),
        *("Traceback (most recent call last):\n", "Stdout:\n", RAN, "ok", "ok\n", "\n", "0x", "0xabcdef", "FAIL: "),
    ],
)
@pytest.mark.parametrize("head", ["", FAILED, "a (b) ... "])
def test_unittest_output(head: str, text: str) -> None:
    check(lambda: read_unittest(RAN + head + long(text)))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a: [",
            "[",
            "{",
            "- ",
            "- - ",
            "? ",
            "a: ",
            "a:\n",
            "#",
            "#\n",
            "'",
            '"',
            "|\n",
            " ",
            "\n",
            "&a ",
            "*a",
            "!a ",
            "---\n",
        ),
        *("a: 'b' ", "\t", "${A}", "a\n", ": ", ", ", "%a\n", "\\"),
    ],
)
@pytest.mark.parametrize("head", ["", "limits: ", "checks: [", 'a: "'])
def test_settings_files(head: str, text: str) -> None:
    check(lambda: settings_of(parse_settings((head + long(text, 900_000)).encode(), "f")))


def test_many_unknown_keys() -> None:
    check(lambda: settings_of(parse_settings("".join(f"key{n}: 1\n" for n in range(20_000)).encode(), "f")))
    check(lambda: settings_of(parse_settings(("checks:\n" + "  - {nam: 1}\n" * 20_000).encode(), "f")))


@pytest.mark.parametrize("piece", [" ", '"\\', "`${", "/[", "fn f\n", "int f(a)\n", "class a {\n f() {}\n"])
def test_functions_of_a_source(piece: str) -> None:
    source = long(piece, MAXIMUM_SOURCE)
    for language in LANGUAGES:
        if language.name not in ("python", "typescript"):  # Python has its own parser, TypeScript that of JavaScript
            check(functools.partial(language.definitions, source))
    check(lambda: read_code(source, re.compile("(?P<comment>//)|(?P<template>`)|(?P<brace>[{}])")))
