"""The tests inside of Rust's sources, which a patch can't weaken unseen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.workspace.toolchains.inline_tests import with_base_tests
from tests.conftest import Miyabi
from tests.support.server import call, chat_server, say
from tests.support.trees import write_tree
from tests.test_codegen import model, result_of

TESTS = "#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() { assert_eq!(super::add(2, 3), 5); }\n}\n"
BASE = f"pub fn add(a: i32, b: i32) -> i32 {{ a - b }}\n\n{TESTS}"
FIX = BASE.replace("a - b", "a + b")


def test_a_fix_beside_its_tests_is_left_as_it_is() -> None:
    assert with_base_tests(BASE, FIX) is None
    assert with_base_tests("fn a() {}", "fn b() {}") is None


@pytest.mark.parametrize(
    "weakened",
    [
        FIX.replace("#[test]", "#[test]\n    #[ignore]"),
        FIX.replace("    #[test]\n    fn adds() { assert_eq!(super::add(2, 3), 5); }\n", ""),
        FIX.replace(", 5)", ", -1)"),
    ],
)
def test_the_base_s_tests_come_back(weakened: str) -> None:
    assert weakened != FIX
    assert with_base_tests(BASE, weakened) == FIX


def test_a_module_that_was_taken_away_comes_back_and_a_new_one_goes() -> None:
    assert with_base_tests(BASE, FIX.replace(TESTS, "")) == FIX.replace(TESTS, f"\n{TESTS.rstrip()}\n")
    more = "#[cfg(all(test, unix))]\n#[allow(unused)]\nmod more { fn a() {} }"
    assert with_base_tests(BASE, f"{FIX}{more}") == FIX


@pytest.mark.parametrize(
    "text",
    [
        '"}"',
        'r#"}"}"#',
        "'}'",
        "'\\''",
        "b'}'",
        "// }\n",
        "/* } /* } */ } */",
        "'static",
        '"\\"}"',
        "'\\u{7d}'",
    ],
)
def test_braces_that_are_none(text: str) -> None:
    base = f"#[cfg(test)]\nmod tests {{ fn a() {{ x({text}); }} }}\nfn after() {{}}\n"
    patched = base.replace("fn a()", "fn b()").replace("after", "changed")
    assert with_base_tests(base, patched) == base.replace("after", "changed")


def test_what_is_no_module_of_tests_is_none() -> None:
    text = f'// {TESTS.splitlines()[0]}\nconst A: &str = "#[cfg(test)] mod tests {{";\n'
    assert with_base_tests(BASE, text) == f"{text}\n{TESTS.rstrip()}\n"


PIECES = st.sampled_from(
    ["#[cfg(test)]\n", "mod tests {", "}", "{", '"', "'", "//", "\n", "/*", "*/", 'r#"', '"#', "\\", "a", "fn x() {}"]
)


@given(st.lists(PIECES, max_size=40).map("".join), st.lists(PIECES, max_size=40).map("".join))
def test_any_texts_end_with_the_base_s_tests(base: str, patched: str) -> None:
    merged = with_base_tests(base, patched)
    assert merged is None or isinstance(merged, str)
    assert with_base_tests(base, base) is None


@pytest.mark.parametrize("piece", ["#[cfg(test)]", "#[a]", "mod t {", "/*", 'r#"', "'", '"\\', "{", "//"])
def test_long_texts_are_read_in_linear_time(piece: str) -> None:
    with_base_tests(BASE, piece * (900_000 // len(piece)))


LIBRARY = {"Cargo.toml": '[package]\nname = "calc"\nversion = "0.1.0"\nedition = "2021"\n'}
FIXED = ("a - b", "a + b")
WEAKENED = ("5); }", "-1); }")


@pytest.mark.parametrize(("change", "status", "code"), [(FIXED, "verified", 0), (WEAKENED, "unverified", 1)])
def test_a_patch_is_judged_by_the_base_s_inline_tests(
    tmp_path: Path,
    git: Callable[..., str],
    miyabi: Miyabi,
    environment: dict[str, str],
    change: tuple[str, str],
    status: str,
    code: int,
) -> None:
    cargo = shutil.which("cargo")
    if not cargo:
        pytest.skip("cargo is not installed")
    root = write_tree(tmp_path / "project", {**LIBRARY, "src/lib.rs": BASE})
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "start")):
        git(*command, cwd=root)
    old = next(line for line in BASE.splitlines() if change[0] in line)
    patch = f"*** Begin Patch\n*** Update File: src/lib.rs\n@@\n-{old}\n+{old.replace(*change)}\n*** End Patch"
    rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    tools = {"PATH": f"{Path(cargo).parent}:{environment['PATH']}", "RUSTUP_HOME": rustup}
    with chat_server(call("apply_patch", {"patch": patch}), *[say("Done.")] * 5) as server:
        ran = miyabi("codegen", "add subtracts", *model(server), "--format", "json", cwd=root, env=tools)
    result = result_of(ran)
    assert (ran.code, result["status"]) == (code, status), ran.stderr
    assert result["files_modified"] == ["src/lib.rs"]
    assert result["files_created"] == [], "neither target nor Cargo.lock"
    test = next(check for check in result["checks"] if check["name"] == "cargo test")
    assert test["before"] == "fail"
    assert test["tests"]["fixed"] == ["calc::tests::adds"]
