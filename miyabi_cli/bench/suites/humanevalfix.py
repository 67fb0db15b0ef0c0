"""HumanEvalPack's fixes: 164 functions with a bug, in each of several languages; from octopack's files.

A line holds `{"task_id", "prompt", "declaration", "buggy_solution", "canonical_solution", "test", "entry_point"}`
(Muennighoff et al. 2023, arXiv:2308.07124). As there in HumanEvalFixTests the tests are given to the agent; the
docstring is too, which is there in HumanEvalFixDocs alone: that is easier than either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from miyabi_cli.bench.suites.quixbugs import PROJECT
from miyabi_cli.bench.tasks import BenchTask, read_objects
from miyabi_cli.errors import UsageError

LANGUAGES = ("python", "rust", "javascript", "go")
# octopack's own names
FILES = {"javascript": ("js.jsonl", "javascript.jsonl")}
SECONDS = 180.0
CARGO = '[package]\nname = "task"\nversion = "0.1.0"\nedition = "2021"\n\n[lib]\npath = "src/lib.rs"\n'
GO_MOD = "module task\n\ngo 1.18\n\nreplace github.com/stretchr/testify => ./testify\n"
GO_MOD += "\nrequire github.com/stretchr/testify v1.0.0\n"
# The one function of testify that these tests use; so they run without a network.
TESTIFY = """package assert

import (
	"reflect"
	"testing"
)

type Assertions struct{ t *testing.T }

func New(t *testing.T) *Assertions { return &Assertions{t} }

func (a *Assertions) Equal(expected, actual interface{}, _ ...interface{}) bool {
	a.t.Helper()
	if !reflect.DeepEqual(expected, actual) {
		a.t.Errorf("expected %#v, got %#v", expected, actual)
		return false
	}
	return true
}
"""
NPM = '{"name": "task", "private": true, "scripts": {"test": "node --test tests/"}}\n'

_GO_IMPORT = re.compile(r'^import (?:\([^)]*\)|"[^"]*")\n', re.MULTILINE)

Parts = tuple[Mapping[str, str], Mapping[str, str], str]
"""Files of the repository without the module, the hidden tests, and the module's path."""


def read_humanevalfix(path: Path, language: str) -> tuple[BenchTask, ...]:
    """Return the tasks of a language. Raises UsageError where there are none."""
    names = FILES.get(language, (f"{language}.jsonl",))
    file = path
    if path.is_dir():
        file = next((path / name for name in names if (path / name).is_file()), path / names[0])
    tasks = []
    for number, data in read_objects(file):
        try:
            tasks.append(_task(data, language, file))
        except (KeyError, TypeError, ValueError):
            hint = "a line has task_id, prompt, buggy_solution, canonical_solution, test and entry_point"
            raise UsageError(f"{file}, line {number}: no task of humanevalfix in {language}", hint=hint) from None
    if not tasks:
        raise UsageError(f"{file} is empty")
    return tuple(tasks)


def _task(data: Mapping[str, Any], language: str, file: Path) -> BenchTask:
    keys = ("task_id", "prompt", "buggy_solution", "canonical_solution", "test", "entry_point")
    texts = {key: data[key] for key in keys} | {"test_setup": data.get("test_setup", "")}
    if not all(isinstance(text, str) for text in texts.values()) or not texts["entry_point"].isidentifier():
        raise ValueError("not a task")
    if texts["task_id"].split("/")[0].lower() != language:
        raise ValueError("of another language")
    files, tests, module = PARTS[language](texts)
    name = texts["entry_point"]
    return BenchTask(
        id=texts["task_id"],
        task=f"{name} in {module} is wrong: it does not do what the comment at it says. Fix it.",
        files={**files, module: _source(texts, language, texts["buggy_solution"])},
        tests=tests,
        solution={module: _source(texts, language, texts["canonical_solution"])},
        visible=True,
        timeout=SECONDS,
        language=language,
        source="HumanEvalPack",
        dependencies=str(file.parent.absolute()),
    )


def _source(texts: Mapping[str, str], language: str, body: str) -> str:
    text = f"{texts['prompt']}{body}".strip("\n") + "\n"
    if language == "go":
        return _go_file(texts["prompt"], _GO_IMPORT.sub("", text))
    if language == "javascript":
        return f"{text}\nmodule.exports = {{ {', '.join(_functions_of_javascript(text))} }};\n"
    return _rust(text) if language == "rust" else text


def _python(texts: Mapping[str, str]) -> Parts:
    name = texts["entry_point"]
    call = re.compile(rf"\ncheck\({name}\)\s*$")
    test = call.sub("\n", texts["test"].strip("\n") + "\n").strip()
    imported = sorted(set(re.findall(r"^def (\w+)\(", texts["prompt"] + texts["canonical_solution"], re.MULTILINE)))
    tests = f"from {name} import {', '.join(imported)}\n\n\n{test}\n\n\ndef test_{name}():\n    check({name})\n"
    return {"pyproject.toml": PROJECT}, {f"tests/test_{name}.py": tests}, f"{name}.py"


def _rust(text: str) -> str:
    """Return a library: its functions public, and no crates, which the bodies do not use (md5 apart)."""
    lines = [
        line for line in text.splitlines() if not re.match(r"\s*(?:fn main\(\)\{\}|use (?:rand|regex|md5)\b)", line)
    ]
    return re.sub(r"^fn ", "pub fn ", "\n".join(lines).strip("\n") + "\n", flags=re.MULTILINE)


def _rust_parts(texts: Mapping[str, str]) -> Parts:
    inner = re.search(r"mod tests \{(.*)\}\s*$", texts["test"], re.DOTALL)
    if inner is None:
        raise ValueError("no tests")
    body = re.sub(r"^\s*use super::\*;", "", inner[1], flags=re.MULTILINE)
    tests = f"#![allow(unused)]\nuse task::*;\n{body.rstrip()}\n"
    return {"Cargo.toml": CARGO}, {f"tests/test_{texts['entry_point']}.rs": tests}, "src/lib.rs"


def _functions_of_javascript(text: str) -> list[str]:
    found = re.findall(r"^(?:const|let|var|function) +(\w+)", text, re.MULTILINE)
    return list(dict.fromkeys(found))


def _javascript(texts: Mapping[str, str]) -> Parts:
    name = texts["entry_point"]
    names = _functions_of_javascript(texts["prompt"] + texts["canonical_solution"])
    # console.assert prints and goes on; a test has to fail
    head = f'const test = require("node:test");\nconst {{ {", ".join(names)} }} = require("../{name}.js");\n\n'
    head += 'console.assert = require("node:assert").ok;\n\n'
    indented = "".join(
        f"  {line}" if line.strip() else line for line in texts["test"].strip().splitlines(keepends=True)
    )
    tests = f'{head}test("{name}", () => {{\n{indented}\n}});\n'
    return {"package.json": NPM}, {f"tests/{name}.test.js": tests}, f"{name}.js"


def _go(texts: Mapping[str, str]) -> Parts:
    name = texts["entry_point"].lower()
    tests = _go_file(f"{texts['test_setup']}\n{texts['prompt']}", texts["test"].strip())
    files = {"go.mod": GO_MOD, "testify/go.mod": "module github.com/stretchr/testify\n\ngo 1.18\n"}
    return {**files, "testify/assert/assert.go": TESTIFY}, {f"{name}_test.go": tests}, f"{name}.go"


def _go_file(imports_of: str, body: str) -> str:
    """Return a file of Go with those imports of a text that its body uses: octopack runs all in one file."""
    named = dict.fromkeys(re.findall(r'^\s*(?:import\s+)?"([\w./-]+)"\s*$', imports_of, re.MULTILINE))
    used = [name for name in named if re.search(rf"\b{re.escape(name.rpartition('/')[2])}\.", body)]
    imports = "import (\n" + "".join(f'\t"{name}"\n' for name in used) + ")\n\n" if used else ""
    return f"package main\n\n{imports}{body.strip()}\n"


PARTS: Mapping[str, Callable[[Mapping[str, str]], Parts]] = {
    "python": _python,
    "rust": _rust_parts,
    "javascript": _javascript,
    "go": _go,
}
