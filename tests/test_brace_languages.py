"""Functions of Rust, JavaScript, TypeScript, Go and C: found, shown without their body, and replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.agent.focus import Evidence, find_focus
from miyabi_cli.agent.languages import LANGUAGES, language_of
from miyabi_cli.agent.languages.javascript import SYNTAX as JAVASCRIPT_SYNTAX
from miyabi_cli.agent.languages.language import MAXIMUM_SOURCE, CodeRefused, Language
from miyabi_cli.agent.languages.lexing import read_code

RUST = r"""//! A crate.
use std::collections::HashMap;

/// Adds; not fn fake(x: u8) {
#[inline]
pub(crate) fn add<T: Into<i64>>(a: T, b: [u8; 2]) -> i64
where
    T: Copy,
{
    let text = "}\" {"; // }
    let raw = r#"fn no() { "# ;
    let brace = '{';
    a.into() - helper(b) as i64
}

impl<'a> Shape for Square<'a> {
    const SIDES: u8 = 4;

    fn area(&self) -> f64 {
        self.side * self.side
    }
}

fn declared(x: u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_add() {
        assert_eq!(add(1, [0, 1]), 2);
    }
}
"""
JAVASCRIPT = r"""const { readFile } = require('./files.js')

/**
 * Adds. function fake() {
 */
export async function add (a, b = { c: 1 }) {
  const text = `}${a ? `{${b}` : '}'} {`
  return a.match(/[}/]{/) - b
}

const twice = (a) => add(a, a)
  .then(one => one)
export const half = async function* (a) { return a / 2 }
module.exports.third = a => {
  return a / 3
};
const total = (1 + 2) * 3

class Stack extends Array {
  static #count = 0
  push (item) {
    if (item) {
      super.push(item)
    }
  }
  get size () { return this.length }
}
"""
TYPESCRIPT = """export class Box<T> {
  private readonly items: T[] = []

  @logged
  public async first(where: (item: T) => boolean): Promise<{ item: T } | null> {
    return null
  }
}

export const pick = <T,>(items: T[], at: number): T => {
  return items[at]
}
"""
GO = """package main

import (
\t"math"
)

// Add adds. func fake() {
func Add(a interface{}, b ...int) (sum int, err error) {
\tquote := '"'
\traw := `}`
\treturn Max(b[0], int(math.Abs(1))), nil
}

func (s *Stack[T]) Push(item T) struct{ n int } {
\treturn struct{ n int }{len(s.items)}
}
"""
C = """#include "sums.h"
#define OPEN {

/* Adds. */
static unsigned int add(int a, int b)
{
    if (a) { return '}'; }
    return a - b;
}

int declared(int a);

char *
name_of(struct thing *thing) {
    return thing->name;
}
"""
NAMES = {
    ".rs": {"add", "Square.area", "test_add"},
    ".js": {"add", "twice", "half", "third", "Stack.push", "Stack.size"},
    ".ts": {"Box.first", "pick"},
    ".go": {"Add", "Stack.Push"},
    ".c": {"add", "name_of"},
}
SOURCES = {".rs": RUST, ".js": JAVASCRIPT, ".ts": TYPESCRIPT, ".go": GO, ".c": C}


def of(suffix: str) -> Language:
    language = language_of(f"x{suffix}")
    assert language is not None
    return language


@pytest.mark.parametrize("suffix", SOURCES)
def test_functions_are_found_with_all_that_belongs_to_them(suffix: str) -> None:
    source = SOURCES[suffix]
    found = of(suffix).definitions(source)
    assert {one.name for one in found} == NAMES[suffix]
    lines = source.split("\n")
    for one in found:
        assert "\n".join(lines[one.first - 1 : one.last]) == one.source
        assert one.source.count("{") >= one.outline.count("{")
        assert of(suffix).definitions(one.outline if not one.owner[0] else "\n".join((one.owner[0], one.outline, "}")))


def test_what_is_shown_of_a_function() -> None:
    add, area, test = of(".rs").definitions(RUST)
    assert add.source.startswith("/// Adds; not fn fake(x: u8) {\n#[inline]\npub(crate) fn add")
    assert add.outline.endswith("where\n    T: Copy,\n{\n    …\n}")
    assert add.calls >= {"helper", "into"}
    assert add.source.split("\n")[add.body].startswith("    let text")
    assert area.owner == ("impl<'a> Shape for Square<'a> {", "}")
    assert [one.is_test for one in (add, area, test)] == [False, False, True]
    twice = of(".js").definitions(JAVASCRIPT)[1]
    assert twice.source == "const twice = (a) => add(a, a)\n  .then(one => one)"
    first = of(".ts").definitions(TYPESCRIPT)[0]
    assert first.source.startswith("  @logged\n  public async first")


@pytest.mark.parametrize(
    ("suffix", "reply", "shown", "old", "new"),
    [
        # what stands before a function stays: its visibility, its comments
        (".rs", "fn add(a: u8) -> u8 {\n    a\n}", "add", "raw", "]\npub(crate) fn add(a: u8) -> u8 {\n    a\n}"),
        (".rs", "fn area(&self) {\n    1\n}", "Square.area", "self.side", "    fn area(&self) {\n        1\n    }\n"),
        (".js", "function add () {\n  return 1\n}", "add", "match", " */\nexport function add () {\n  return 1\n}\n"),
        (".js", "push () {\n  this.pop()\n}", "Stack.push", "super", "  push () {\n    this.pop()\n  }\n  get size"),
        (".js", "const twice = (a) => 2 * a", "twice", ".then(", "const twice = (a) => 2 * a\nexport const half"),
        (".ts", "class Box {\n  async first() {\n    return\n  }\n}", "Box.first", "null", " public async first() {"),
        (".go", 'import "sort"\n\nfunc Add() int {\n\treturn 1\n}', "Add", "quote", ')\nimport "sort"\n\n// Add adds.'),
        (".go", "func less() {}\n\nfunc Add() int {\n\treturn 1\n}", "Add", "quote", "func less() {}\n\n// Add adds."),
        (".c", "unsigned int add() {\n    return 1;\n}", "add", "static", "/* Adds. */\nunsigned int add("),
    ],
)  # fmt: skip
def test_a_function_takes_the_place_of_its_namesake(suffix: str, reply: str, shown: str, old: str, new: str) -> None:
    language = of(suffix)
    changed = language.replaced(SOURCES[suffix], reply, [shown])
    assert new in changed
    assert old not in changed
    assert {one.name for one in language.definitions(changed)} >= NAMES[suffix]
    language.meaning(changed)


def test_code_that_can_not_be_used_is_refused() -> None:
    for suffix, source in SOURCES.items():
        for reply in ("I am sorry.", "", "{" * 100):
            with pytest.raises(CodeRefused, match="holds none of the"):
                of(suffix).replaced(source, reply, ["add"])
        with pytest.raises(CodeRefused, match="brackets do not match"):
            of(suffix).meaning(f"{source}\n}}")
        with pytest.raises(CodeRefused, match="too large"):
            of(suffix).definitions("x" * (MAXIMUM_SOURCE + 1))


def test_comments_and_white_space_mean_nothing() -> None:
    for suffix in (".rs", ".js", ".go", ".c"):
        meaning = of(suffix).meaning
        assert meaning("f ( a ) // x\n+ 1 /* y */;") == meaning("f(a)\n  +1;")
        assert meaning("f(a)") != meaning("f(b)")


PIECES = st.sampled_from(
    [
        *("fn f", "func ", "function f", "const a = ", "class A ", "impl A ", "mod tests ", "int f", "=>"),
        *("(", ")", "{", "}", "[", "]", "<", ">", '"', "'", "`", "${", "\\", "//", "/*", "*/", "/", "r#", "#"),
        *("\n", " ", ";", "a", "\0", "\u00e9"),
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join), st.lists(PIECES, max_size=30).map("".join))
def test_any_text_is_read_or_refused(source: str, reply: str) -> None:
    for language in LANGUAGES:
        try:
            lines = source.split("\n")
            for one in language.definitions(source):
                assert "\n".join(lines[one.first - 1 : one.last]) == one.source
                assert 0 <= one.body <= one.source.count("\n") + 1
            language.preamble(source)
            list(language.imported(source, "a/b.js", ["a/c.js"]))
            read_code(source, JAVASCRIPT_SYNTAX.skipped).tokens()
            language.replaced(source, reply, ["f"])
        except CodeRefused:
            pass


FILES = {
    "src/lib.rs": RUST,
    "src/shapes.rs": "pub fn round(x: f64) -> f64 {\n    x\n}\n",
    "lib/sums.js": JAVASCRIPT,
    "lib/index.js": "exports.nothing = () => {}\n",
    "test/sums.test.js": "const s = require('../lib/sums')\ntest('adds', () => {})\ntest('doubles', () => s.twice())\n",
    "stack.go": GO,
    "other.go": "package main\n\nfunc Other() {}\n",
    "stack_test.go": 'package main\n\nimport "testing"\n\nfunc TestPush(t *testing.T) {\n\tnew(Stack).Push(1)\n}\n',
}


@pytest.mark.parametrize(
    ("output", "failing", "expected"),
    [
        ("panicked at src/lib.rs:31:9:\nassertion failed", ("task::tests::test_add",), ("src/lib.rs", "add")),
        ("at /tmp/x/tree/test/sums.test.js:3:5", ("test/sums.test.js::doubles",), ("lib/sums.js", "twice")),
        ("stack_test.go:6: no", ("main::TestPush",), ("stack.go", "Stack.Push")),
    ],
)
def test_a_failure_leads_to_the_function(output: str, failing: tuple[str, ...], expected: tuple[str, str]) -> None:
    found = find_focus(
        list(FILES),
        lambda path: FILES.get(path, ""),
        Evidence("Fix the failing test.", output, failing),
        is_test=lambda path: "test" in path,
        limit=4_000,
    )
    assert (found[0].path, found[0].likeliest[0]) == expected
    assert "mod tests" not in found[0].text
