"""How a bug-fix task becomes a repository in each language: its files, and the command that runs its tests."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

UNUSED_CRATES = re.compile(r"^use (?:rand::Rng|regex::Regex|md5);\n", re.MULTILINE)
GO_ASSERT = """package task

import (
	"reflect"
	"testing"
)

type asserting struct{ t *testing.T }

var assert asserting

func (asserting) New(t *testing.T) asserting { return asserting{t} }

func (a asserting) Equal(expected, actual interface{}) {
	a.t.Helper()
	if !reflect.DeepEqual(expected, actual) {
		a.t.Errorf("expected: %v, actual: %v", expected, actual)
	}
}

func (a asserting) NotEqual(unexpected, actual interface{}) {
	a.t.Helper()
	if reflect.DeepEqual(unexpected, actual) {
		a.t.Errorf("should not be %v", actual)
	}
}

func (a asserting) Nil(value interface{}) { a.t.Helper(); a.Equal(nil, value) }

func (a asserting) True(value bool) { a.t.Helper(); a.Equal(true, value) }

func (a asserting) False(value bool) { a.t.Helper(); a.Equal(false, value) }
"""


@dataclass(frozen=True)
class Layout:
    """`source` and `tests` are paths with the module's name to fill in; `more` are the other files, by their path.

    `of_humanevalfix` gives the source and the tests that a line of HumanEvalPack's data comes to.
    """

    source: str
    tests: str
    more: Mapping[str, str]
    command: tuple[str, ...]
    of_humanevalfix: Callable[[dict[str, Any]], tuple[str, str]]

    def files(self, module: str, source: str, tests: str) -> dict[str, str]:
        """Return all files of a repository by their path."""
        return {**self.more, self.source.format(module): source, self.tests.format(module): tests}


def _python(data: dict[str, Any]) -> tuple[str, str]:
    name = data["entry_point"]
    source = f"{data['prompt']}{data['buggy_solution']}".strip("\n") + "\n"
    tests = re.sub(r"\ncheck\(\w+\)\s*$", "\n", data["test"].strip("\n") + "\n")
    tests = re.sub(rf"def check\({name}\):", f"def test_{name}():", tests)
    tests = re.sub(r"def check\((\w+)\):", rf"def test_{name}():\n    \1 = {name}", tests)
    functions = sorted(set(re.findall(r"^def (\w+)\(", source, re.MULTILINE)))
    return source, f"from {name} import {', '.join(functions)}\n\n\n{tests.strip()}\n"


def _rust(data: dict[str, Any]) -> tuple[str, str]:
    """No crates are needed: what uses them does not compile, and is no task."""
    code = data["prompt"].replace("fn main(){}", "") + data["buggy_solution"]
    tests = re.sub(r"\A\s*#\[cfg\(test\)\]\s*mod tests \{\n", "", data["test"]).rstrip().removesuffix("}")
    unused = "#![allow(warnings)]\n"
    return f"{unused}{UNUSED_CRATES.sub('', code).strip()}\n\n#[cfg(test)]\nmod tests;\n", tests.strip() + "\n"


def _javascript(data: dict[str, Any]) -> tuple[str, str]:
    code = f"{data['prompt']}{data['buggy_solution']}".strip() + "\n"
    functions = sorted(set(re.findall(r"^(?:const|let|var|function) ?(\w+)", code, re.MULTILINE)))
    tests = re.sub(r"^\w+\(\)\s*;?\s*\Z", "", data["test"].strip() + "\n", flags=re.MULTILINE)
    tests = tests.replace("console.assert(", "assert.ok(")
    runs = "".join(f"test('{name}', {name})\n" for name in re.findall(r"^const (\w+) = ", tests, re.MULTILINE))
    module = data["entry_point"]
    lead = "const assert = require('node:assert')\nconst test = require('node:test')\n"
    taken = f"const {{ {', '.join(functions)} }} = require('../{module}.js')\n\n"
    return f"{code}\nmodule.exports = {{ {', '.join(functions)} }}\n", f"{lead}{taken}{tests.strip()}\n\n{runs}"


def _go(data: dict[str, Any]) -> tuple[str, str]:
    setup = re.sub(r"^.*testify.*\n|^package .*\n", "", data["test_setup"], flags=re.MULTILINE)
    source = f"package task\n\n{data['prompt']}{data['buggy_solution']}"
    return source.strip() + "\n", f"package task\n\n{setup.strip()}\n\n{data['test'].strip()}\n"


LAYOUTS = {
    "Python": Layout(
        "{}.py",
        "tests/test_{}.py",
        {"pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\n'},
        (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
        _python,
    ),
    "Rust": Layout(
        "src/lib.rs",
        "src/tests.rs",
        {"Cargo.toml": '[package]\nname = "task"\nversion = "0.1.0"\nedition = "2021"\n', ".gitignore": "target\n"},
        ("cargo", "test", "--offline", "-q"),
        _rust,
    ),
    "JavaScript": Layout(
        "{}.js",
        "tests/{}.test.js",
        {"package.json": json.dumps({"name": "task", "scripts": {"test": "node --test tests/"}}) + "\n"},
        ("node", "--test", "tests/"),
        _javascript,
    ),
    "Go": Layout(
        "{}.go",
        "{}_test.go",
        {"go.mod": "module example.org/task\n\ngo 1.18\n", "assert_test.go": GO_ASSERT},
        ("go", "test", "./..."),
        _go,
    ),
}
