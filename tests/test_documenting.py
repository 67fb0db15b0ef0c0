"""Public definitions without documentation are found in each language, and no others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.codegen.documenting import is_documentable, undocumented

PYTHON = '''
def bare():
    return 1

async def told():
    """It is told."""

def _private():
    pass

class Thing:
    """A thing."""
    def method(self):
        def inner(): ...
    @property
    def documented(self):
        "yes"
    @overload
    def more(self): ...
'''
RUST = """
pub fn bare() {}
/// Told.
#[inline]
pub async fn told() {}
#[derive(Debug)]
pub struct Plain;
fn private() {}
pub(crate) const LIMIT: u8 = 1;
"""
TYPESCRIPT = """
export function bare(): void {}
/** Told. */
export const told = () => 1;
/**
 * Also.
 */
export default class Also {}
export interface Shape { a: number }
function hidden() {}
"""
GO = """
func Bare() {}
// Told is told.
func Told() {}
func (t *T) Method() {}
func hidden() {}
type Plain struct{}
"""
HEADER = """
int bare(int a);
/* Told. */
int told(void);
static int hidden(void);
// Also told.
char *also(const char *text);
#define X(a) (a)
struct thing *make_thing(void);
"""


@pytest.mark.parametrize(
    ("path", "text", "names"),
    [
        ("a.py", PYTHON, ["bare", "method"]),
        ("src/lib.rs", RUST, ["bare", "Plain", "LIMIT"]),
        ("a.ts", TYPESCRIPT, ["bare", "Shape"]),
        ("a.go", GO, ["Bare", "Method", "Plain"]),
        ("a.h", HEADER, ["bare", "make_thing"]),
        ("a.txt", "def f(): pass", []),
    ],
)
def test_what_lacks_documentation(path: str, text: str, names: list[str]) -> None:
    found = undocumented(path, text.encode(), range(1, 100))
    assert [one.name for one in found] == names
    for one in found:
        assert one.name in text.split("\n")[one.line - 1]
    assert undocumented(path, text.encode(), ()) == ()


def test_only_lines_that_were_added_count() -> None:
    assert [one.line for one in undocumented("a.py", PYTHON.encode(), {13})] == [13]


@given(st.binary(max_size=300), st.sampled_from(["a.py", "a.rs", "a.tsx", "a.go", "a.hpp"]))
def test_any_bytes_are_looked_at(content: bytes, path: str) -> None:
    assert is_documentable(path)
    lines = content.decode("utf-8", "replace").count("\n") + 1
    assert all(1 <= one.line <= lines + content.count(b"\r") for one in undocumented(path, content, range(1, 400)))
