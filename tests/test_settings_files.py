"""Settings files: what is read, with which lines, and that nothing but a SettingsError comes of any bytes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.files import MAX_BYTES, has_variable, parse_settings, read_settings_file, substitute
from miyabi_cli.settings.tree import SettingsTree

SCALARS = {
    "text": "text",
    "5": 5,
    "-5": -5,
    "007": 7,
    "0.5": 0.5,
    "1e3": 1000.0,
    "5m": "5m",
    "12:30": "12:30",
    "2026-08-01": "2026-08-01",
    "off": "off",
    "no": "no",
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "'5'": "5",
    '"true"': "true",
    '"a\\nb"': "a\nb",
    "|\n  a\n  b\n": "a\nb\n",
    "[]": [],
    "{}": {},
    "[1, [a]]": [1, ["a"]],
}

REFUSED = {
    b"a: 1\nb: [1,": ("F:2: not valid YAML", None),
    b"a:\n\tb: 1": ("F:2: not valid YAML", "tabs"),
    b"a: 1\na: 2": ("F:2: key 'a' stands here twice, first in line 1", None),
    b"a:\n  b: 1\n  c: 2\n  b: 3": ("F:4: key 'b' stands here twice, first in line 2", None),
    b"a: &x 1": ("F:1: anchors", "write the value out"),
    b"a: 1\nb: *x": ("F:2: anchors", "write the value out"),
    b"a: 1\nb: !!python/object:os.system x": ("F:2: tags", None),
    b"a: !x 1": ("F:1: tags", None),
    b"? [a]\n: 1": ("F:1: a key that is not plain text", None),
    b"? {a: 1}\n: 1": ("F:1: a key that is not plain text", None),
    b"a: 1\n---\nb: 2": ("F:2: a second document", None),
    b"- 1": ("F:1: not a map", "key: value"),
    b"just text": ("F:1: not a map", "key: value"),
    b"a: 1\nb: \xff": ("F:2: not UTF-8", "UTF-8"),
    "a: 1".encode("utf-16"): ("F:1: not UTF-8", "UTF-8"),
    b"a: 1\nb: \x07": ("F:2: a control character, U+0007", None),
    b'a: "\\0"': ("F:1: a control character in a value", None),
    b'"\\e[31m": 1': ("F:1: a control character in a key", None),
    b"[" * 100_000: ("F:1: nested more than", None),
    b"a: " + b"{a: " * 100: ("F:1: nested more than", None),
}

BILLION_LAUGHS = "a: &a [x, x]\n" + "\n".join(
    f"{new}: &{new} [*{old}, *{old}]" for old, new in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


def parse(text: str | bytes) -> SettingsTree:
    return parse_settings(text.encode() if isinstance(text, str) else text, "F")


@pytest.mark.parametrize(("written", "value"), SCALARS.items())
def test_scalars_are_those_of_yaml_1_2(written: str, value: object) -> None:
    read = parse(f"key: {written}").values["key"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "---\n...\n", "\ufeff# a mark of order\n"])
def test_an_empty_file_sets_nothing(text: str) -> None:
    assert parse(text).values == {}


@pytest.mark.parametrize(("data", "expected"), REFUSED.items())
def test_what_is_no_settings_file_is_refused_with_its_line(data: bytes, expected: tuple[str, str | None]) -> None:
    message, hint = expected
    with pytest.raises(SettingsError) as caught:
        parse(data)
    assert caught.value.message.startswith(message)
    assert (hint or "") in (caught.value.hint or "")


def test_billion_laughs_are_refused() -> None:
    with pytest.raises(SettingsError, match="anchors"):
        parse(BILLION_LAUGHS)


def test_places_know_their_lines() -> None:
    tree = parse(
        "llm:\n  groq:\n    model: a\n"
        "checks:\n  - name: x\n    command: |\n      a\n      b\n  - {name: y,\n     command: z}\n"
    )
    lines = {
        ("llm",): 1,
        ("llm", "groq", "model"): 3,
        ("checks", 0): 5,
        ("checks", 0, "command"): 6,
        ("checks", 1): 9,
        ("checks", 1, "command"): 10,
    }
    assert {place: tree.origin(place) for place in lines} == {place: f"F:{line}" for place, line in lines.items()}
    assert tree.origin(("checks", 1, "not there")) == "F:9"
    assert tree.origin(("not there",)) == "F"


def test_both_parsers_of_pyyaml_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: off\nb: [1, 'x', {c: 2}]\nd: |\n  e\n"
    fast = parse(text)
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)  # as on a machine where PyYAML was built without libyaml
    assert parse(text) == fast


ENVIRON = {"NAME": "value", "EMPTY": "", "NESTED": "${NAME}"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${NAME}", "value"),
        ("a ${NAME} b ${NAME}", "a value b value"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("${NESTED}", "${NAME}"),
        ("a${EMPTY}b", "ab"),
        ("$NAME ${} ${a-b} ${HOME:-x} $$ ${", "$NAME ${} ${a-b} ${HOME:-x} $$ ${"),
    ],
)
def test_variables_are_replaced_once(written: str, value: str) -> None:
    tree = SettingsTree("F", {"a": {"b": [written]}})
    assert substitute(tree, ENVIRON).values == {"a": {"b": [value]}}


def test_an_unset_variable_is_an_error_but_in_a_key() -> None:
    tree = parse('llm: {groq: {api_key: "Bearer ${UNSET}"}}')
    assert substitute(tree, {}).values == {"llm": {"groq": {"api_key": None}}}
    with pytest.raises(
        SettingsError, match=r"^F:2: checks\[0\]\.command needs the variable UNSET, which is not set$"
    ) as caught:
        substitute(parse("checks:\n  - {name: x, command: 'echo ${UNSET}'}"), {})
    assert "$${UNSET}" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "found"), [("${A}", True), ("$${A}", False), ("$${A} ${B}", True), ("$A", False), (5, False)]
)
def test_has_variable(text: object, found: bool) -> None:
    assert has_variable(text) is found


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    big, fifo, secret = tmp_path / "big", tmp_path / "fifo", tmp_path / "no\x1b[31m"
    big.write_bytes(b"#" * (MAX_BYTES + 1))
    os.mkfifo(fifo)
    for path, message in [
        (big, "larger than"),
        (fifo, "not a regular file"),
        (tmp_path, "directory|not a regular file"),
        (Path("/dev/zero"), "not a regular file"),
        (secret, "No such file"),
        (Path("a\0b"), "can't be read"),
    ]:
        with pytest.raises(SettingsError, match=message) as caught:
            read_settings_file(path)
        assert caught.value.message.isprintable()
    big.write_bytes(b"#" * MAX_BYTES)
    assert len(read_settings_file(big)) == MAX_BYTES


@given(st.binary(max_size=200) | st.text(alphabet="ab:{}[]-#&*!|>'\"\n\t ?,%${}\\0", max_size=60).map(str.encode))
def test_any_bytes_are_a_tree_or_a_settings_error(data: bytes) -> None:
    with contextlib.suppress(SettingsError):
        assert isinstance(parse(data).values, dict)
