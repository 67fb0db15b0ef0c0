"""Checks of each language, run for real where its tools are installed: found, run test by test, and kept apart."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.builds import Builds, open_build
from miyabi_cli.workspace.check_records import Check, CheckRun
from miyabi_cli.workspace.checks import compare_runs, plan_checks, run_checks
from miyabi_cli.workspace.landlock import open_landlock
from miyabi_cli.workspace.modules import show_modules
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.policy import CLOSED
from miyabi_cli.workspace.sandbox import Sandbox, open_sandbox
from miyabi_cli.workspace.toolchains import is_test_configuration, is_test_path
from tests.support.trees import write_tree

RUST = {
    "Cargo.toml": '[package]\nname = "calc"\nversion = "0.1.0"\nedition = "2021"\n',
    "src/lib.rs": "/// ```\n/// assert_eq!(calc::add(2, 3), 5);\n/// ```\n"
    "pub fn add(a: i32, b: i32) -> i32 {\n    return a - b;\n}\n\n"
    "#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {\n        assert_eq!(super::add(2, 3), 5);\n    }\n}\n",
    "tests/sums.rs": "#[test]\nfn zeros() {\n    assert_eq!(calc::add(0, 0), 0);\n}\n",
}
GO = {
    "go.mod": "module example.com/calc\n\ngo 1.18\n",
    "calc.go": "package calc\n\nfunc Add(a, b int) int { return a - b }\n",
    "calc_test.go": 'package calc\n\nimport "testing"\n\n'
    'func TestAdd(t *testing.T) {\n\tif Add(2, 3) != 5 {\n\t\tt.Error("sum")\n\t}\n}\n\n'
    'func TestZeros(t *testing.T) {\n\tif Add(0, 0) != 0 {\n\t\tt.Error("zeros")\n\t}\n}\n',
}
NODE = {
    "package.json": '{"name": "calc", "scripts": {"test": "node --test"}}',
    "calc.js": "exports.add = (a, b) => a - b;\n",
    "calc.test.js": "const { test } = require('node:test');\nconst assert = require('node:assert');\n"
    "const { add } = require('./calc.js');\ntest('adds', () => assert.equal(add(2, 3), 5));\n"
    "test('zeros', () => assert.equal(add(0, 0), 0));\n",
}
# It knows its options by these names alone, as mocha does before 6; what it does not know it takes no notice of.
OLD_MOCHA = {
    "package.json": '{"scripts": {"test": "node node_modules/mocha/bin/mocha --bail -b"}}',
    "node_modules/mocha/bin/mocha": "const options = process.argv.slice(2);\n"
    "const bails = options.includes('--bail') || options.includes('-b');\n"
    "const output = options.find((option) => option.startsWith('--reporter-options=output='));\n"
    "const zeros = bails ? '' : '<testcase classname=\"calc\" name=\"zeros\"/>';\n"
    'const adds = \'<testcase classname="calc" name="adds"><failure>sum</failure></testcase>\';\n'
    "const file = output ? output.split('=')[2] : '/dev/stdout';\n"
    "require('node:fs').writeFileSync(file, `<testsuite>${adds}${zeros}</testsuite>`);\n"
    "process.exitCode = 1;\n",
}
CMAKE = {
    "CMakeLists.txt": "cmake_minimum_required(VERSION 3.15)\nproject(calc C)\nenable_testing()\n"
    "foreach(name sum zeros)\n  add_executable(test_${name} calc.c test_${name}.c)\n"
    "  add_test(NAME ${name} COMMAND test_${name})\nendforeach()\n",
    "calc.c": "int add(int a, int b) { return a - b; }\n",
    "test_sum.c": "int add(int, int);\nint main(void) { return add(2, 3) != 5; }\n",
    "test_zeros.c": "int add(int, int);\nint main(void) { return add(0, 0); }\n",
}
MAKE = {
    "Makefile": "test: test_calc\n\t./test_calc\n\ntest_calc: test_calc.c calc.c\n\t$(CC) -o $@ $^\n",
    "calc.c": CMAKE["calc.c"],
    "test_calc.c": CMAKE["test_sum.c"],
}


@pytest.fixture
def machine(environment: dict[str, str]) -> dict[str, str]:
    """The user's environment with the tools of this machine, which may lie in a home."""
    folders = [str(Path(found).parent) for name in ("cargo", "node", "go") if (found := shutil.which(name))]
    kept = {name: os.environ[name] for name in ("RUSTUP_HOME", "CARGO_HOME") if name in os.environ}
    if (rustup := Path.home() / ".rustup").is_dir():
        kept.setdefault("RUSTUP_HOME", str(rustup))
    return {**environment, **kept, "PATH": ":".join([*folders, environment["PATH"]])}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def need_node_20() -> None:
    """Skip where `node --test` can't be given two reporters."""
    need("node", "npm")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version[1:].split(".")[0]) < 20:
        pytest.skip(f"node is {version.strip()}, and reports test by test from 20 on")


def need(*programs: str) -> None:
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")


def sandbox_for(root: Path, machine: Mapping[str, str], mode: str = "auto") -> Sandbox:
    try:
        if mode == "landlock":
            return open_landlock(repository=root, environ=machine, policy=CLOSED.expanded())
        return open_sandbox("off" if mode == "off" else "auto", repository=root, environ=machine)
    except SandboxError as error:
        pytest.skip(error.message)


def run(root: Path, machine: Mapping[str, str], tree: Path | None = None, mode: str = "auto") -> list[CheckRun]:
    plan = plan_checks(tree or root, repository=root, environ=machine)
    return list(asyncio.run(run_checks(plan.checks, Place(tree or root, root), sandbox_for(root, machine, mode))))


def names(root: Path, machine: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(check.name, check.command) for check in plan_checks(root, repository=root, environ=machine).checks]


def notes(root: Path, machine: Mapping[str, str]) -> str:
    return "\n".join(plan_checks(root, repository=root, environ=machine).notes)


def left_in(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


@pytest.mark.parametrize("mode", ["auto", "landlock", "off"])
def test_rust(root: Path, machine: dict[str, str], mode: str) -> None:
    need("cargo", "cargo-clippy", "cc")
    write_tree(root, RUST)
    before = run(root, machine, mode=mode)
    assert [check.name for check in before] == ["cargo test", "clippy"]
    assert before[0].tests == {"calc::tests::adds": "fail", "tests/sums.rs::zeros": "pass", "src/lib.rs - add": "fail"}
    assert [(one.path, one.line, one.rule) for one in before[1].findings] == [
        ("src/lib.rs", 5, "clippy::needless_return")
    ]
    assert left_in(root) == {"Cargo.toml", "Cargo.lock", "src", "tests"}, "nothing is built in the tree"
    write_tree(
        root,
        {"src/lib.rs": RUST["src/lib.rs"].replace("return a - b;", "a + b").replace("/// ```\n", "///\n/// ```\n")},
    )
    after = run(root, machine, mode=mode)
    assert compare_runs(before[0], after[0]).fixed == ("calc::tests::adds", "src/lib.rs - add")
    assert (after[0].status, after[1].findings) == ("pass", ())


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_go(root: Path, machine: dict[str, str], mode: str) -> None:
    need("go")
    write_tree(root, GO)
    test, vet = run(root, machine, mode=mode)
    assert test.tests == {"example.com/calc::TestAdd": "fail", "example.com/calc::TestZeros": "pass"}
    assert (test.status, vet.status, vet.findings) == ("fail", "pass", ())
    assert "calc_test.go:7: sum" in test.output
    assert '"Action"' not in test.output
    assert left_in(root) == set(GO)


def test_go_tests_are_named_also_where_another_command_starts_them(root: Path, machine: dict[str, str]) -> None:
    need("go")
    write_tree(root, {**GO, "run.sh": "go test ./...\n"})
    (asked,) = asyncio.run(
        run_checks([Check("asked", "sh run.sh", requested=True)], Place(root, root), sandbox_for(root, machine))
    )
    assert asked.tests == {"example.com/calc::TestAdd": "fail", "example.com/calc::TestZeros": "pass"}


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_node(root: Path, machine: dict[str, str], mode: str) -> None:
    need_node_20()
    (npm,) = run(write_tree(root, NODE), machine, mode=mode)
    assert (npm.name, npm.command, npm.status) == ("npm test", "npm test", "fail")
    assert npm.tests == {"calc.test.js::adds": "fail", "calc.test.js::zeros": "pass"}
    assert left_in(root) == set(NODE)


def test_a_reporter_of_the_user_s_is_left_alone(root: Path, machine: dict[str, str]) -> None:
    need_node_20()
    script = '{"scripts": {"test": "node --test --test-reporter=dot"}}'
    (npm,) = run(write_tree(root, {**NODE, "package.json": script}), machine)
    assert (npm.status, npm.tests) == ("fail", {})


def test_mocha_before_6(root: Path, machine: dict[str, str]) -> None:
    need("node", "npm")
    (npm,) = run(write_tree(root, OLD_MOCHA), machine)
    assert (npm.status, npm.tests) == ("fail", {"calc > adds": "fail", "calc > zeros": "pass"})


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_ctest(root: Path, machine: dict[str, str], mode: str) -> None:
    need("cmake", "ctest", "cc")
    (ctest,) = run(write_tree(root, CMAKE), machine, mode=mode)
    assert (ctest.name, ctest.status) == ("ctest", "fail")
    assert ctest.tests == {"sum": "fail", "zeros": "pass"}
    assert left_in(root) == set(CMAKE)


def test_make(root: Path, machine: dict[str, str]) -> None:
    need("make", "cc")
    write_tree(root, MAKE)
    assert [check.status for check in run(root, machine)] == ["fail"]
    write_tree(root, {"calc.c": "int add(int a, int b) { return a + b; }\n"})
    (fixed,) = run(root, machine)
    assert (fixed.name, fixed.command, fixed.status) == ("make test", "make test", "pass")


def test_a_repository_of_several_languages_has_the_checks_of_all(root: Path, machine: dict[str, str]) -> None:
    need("cargo", "cargo-clippy", "go", "node", "npm", "cmake")
    write_tree(root, {**RUST, **GO, **NODE, **CMAKE, "test_calc.py": "def test_add(): pass\n"})
    found = [name for name, _ in names(root, machine)]
    assert found == ["pytest", "cargo test", "clippy", "npm test", "go test", "go vet", "ctest"]


def test_what_is_missing_is_said(root: Path, machine: dict[str, str]) -> None:
    write_tree(root, {**RUST, **GO, **NODE, **CMAKE})
    told = notes(root, {**machine, "PATH": "/nowhere"})
    for tool in ("cargo", "node", "go", "cmake"):
        assert f"there is no {tool} on PATH" in told
    assert plan_checks(root, repository=root, environ={"PATH": "/nowhere"}).checks == ()


def test_packages_that_are_not_installed_are_said(root: Path, machine: dict[str, str]) -> None:
    need("node", "npm")
    manifest = '{"scripts": {"test": "jest"}, "devDependencies": {"jest": "29"}}'
    write_tree(root, {"package.json": manifest})
    assert names(root, machine) == []
    assert notes(root, machine) == "node_modules is missing in the repository: run npm install for the checks"
    write_tree(root, {"node_modules/jest/package.json": "{}"})
    assert names(root, machine) == [("npm test", "npm test")]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, []),
        ({"package.json": "{}", "web/package.json": NODE["package.json"]}, [("npm test", "cd web && npm test")]),
        (
            {"package.json": '{"workspaces": ["a"]}', "a/package.json": NODE["package.json"]},
            [("npm test", "npm test --workspaces --if-present")],
        ),
        ({"package.json": "[" * 100_000}, []),
        (
            {"package.json": '{"scripts": {"lint": "eslint src -f stylish --fix"}}', "eslint.config.js": ""},
            [("eslint", "node_modules/.bin/eslint src --format json")],
        ),
        (
            {"package.json": '{"scripts": {"lint": "eslint . && evil"}}', ".eslintrc.json": ""},
            [("eslint", "ESLINT_USE_FLAT_CONFIG=false node_modules/.bin/eslint . --format json")],
        ),
        ({"package.json": "{}", "tsconfig.json": "{}"}, [("tsc", "node_modules/.bin/tsc --noEmit --pretty false")]),
        (
            {"package.json": "{}", "web/package.json": NODE["package.json"], "web/tsconfig.json": "{}"},
            [("npm test", "cd web && npm test"), ("tsc", "cd web && ../node_modules/.bin/tsc --noEmit --pretty false")],
        ),
    ],
)
def test_scripts_and_linters_of_a_package(
    root: Path, machine: dict[str, str], files: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    need("node", "npm")
    write_tree(root, {**files, "node_modules/.bin/eslint": "", "node_modules/.bin/tsc": ""})
    assert names(root, machine) == expected


def test_workspaces_modules_and_nested_projects(root: Path, machine: dict[str, str]) -> None:
    need("cargo", "cargo-clippy", "go")
    write_tree(root, {"Cargo.toml": '[workspace]\nmembers = ["a"]\n', "a/Cargo.toml": RUST["Cargo.toml"]})
    assert names(root, machine)[0] == ("cargo test", "cargo test --no-fail-fast --workspace")
    write_tree(root, {"Cargo.toml": '[workspace]\nmembers = ["a"]\ndefault-members = ["a"]\n'})
    assert names(root, machine)[0] == ("cargo test", "cargo test --no-fail-fast")
    write_tree(root, {f"go/{name}": text for name, text in GO.items()})
    write_tree(root, {"tools/go.mod": "module x\n"})
    assert ("go test", "cd go && go test -json ./...") in names(root, machine)
    assert "not covered: the Go modules in tools" in notes(root, machine)


def test_crates_that_are_not_there_are_said(root: Path, machine: dict[str, str], home: Path) -> None:
    need("cargo")
    registry = "registry+https://example.org/index"
    lock = f'[[package]]\nname = "one"\nversion = "1.0.0"\nsource = "{registry}"\n'
    lock += f'[[package]]\nname = "two"\nversion = "2.0.0"\nsource = "{registry}"\n'
    lock += '[[package]]\nname = "calc"\nversion = "0.1.0"\n'
    write_tree(root, {**RUST, "Cargo.lock": lock})
    write_tree(home, {".cargo/registry/cache/example/one-1.0.0.crate": ""})
    told = notes(root, {**machine, "CARGO_HOME": str(home / ".cargo")})
    assert told == "crates are missing on this machine (two-2.0.0), and checks have no network: run cargo fetch"


@pytest.mark.parametrize(
    ("makefile", "found"),
    [
        ("check:\n\t$(CC) -o t t.c\n\t./t\n", ["make check"]),
        ("test:\n\tgcc t.c\n", ["make test"]),
        ("test:\n\tpytest -q\nall:\n\tgcc t.c\n", []),
        ("test:\n\t./run\n", []),
        ("test := x\nall:\n\tgcc t.c\n", []),
    ],
)
def test_makefiles(root: Path, machine: dict[str, str], makefile: str, found: list[str]) -> None:
    need("make")
    write_tree(root, {"Makefile": makefile, "t.c": "int main(void) { return 0; }\n"})
    assert [name for name, _ in names(root, machine)] == found


@pytest.mark.parametrize(
    "path",
    [
        *("src/tests.rs", "a/b_test.go", "testdata/x.json", "src/a.test.ts", "src/a.spec.tsx", "a.test.mjs"),
        *("src/__tests__/a.js", "a/__snapshots__/a.snap", "test_calc.c", "calc_test.cpp", "tests/x.hpp"),
    ],
)
def test_paths_of_tests(path: str) -> None:
    assert is_test_path(path)


@pytest.mark.parametrize(
    "path", ["src/lib.rs", "attest.go", "contest.ts", "src/testing.c", "latest.js", "a.spectrum.ts"]
)
def test_paths_of_code(path: str) -> None:
    assert not is_test_path(path)
    assert not is_test_configuration(path)


@pytest.mark.parametrize("path", ["clippy.toml", ".cargo/config.toml", "go.work", ".mocharc.json", "CMakeLists.txt"])
def test_paths_of_settings(path: str) -> None:
    assert is_test_configuration(path)


def test_the_checkout_s_packages_are_used_and_never_written(
    root: Path, tmp_path: Path, machine: dict[str, str]
) -> None:
    need("node", "npm")
    module = "exports.sum = (a, b) => a + b;\n"
    script = "const fs = require('fs');\nconst { sum } = require('adder');\nconst { one } = require('@me/one');\n"
    script += "fs.mkdirSync('node_modules/.vite');\nfs.writeFileSync('node_modules/.vite/results.json', '{}');\n"
    script += (
        "try { fs.writeFileSync('node_modules/adder/index.js', ''); } catch (error) { console.log(error.code); }\n"
    )
    script += "process.exit(sum(1, one) === 2 ? 0 : 1);\n"
    tree = write_tree(
        tmp_path / "tree",
        {
            "package.json": '{"scripts": {"test": "node run.js"}, "dependencies": {"adder": "1"}}',
            "run.js": script,
            "packages/one/index.js": "exports.one = 1;\n",
        },
    )
    write_tree(
        root, {"node_modules/adder/index.js": module, "packages/one/index.js": "exports.one = 'the checkout';\n"}
    )
    (root / "node_modules/@me").mkdir()
    (root / "node_modules/@me/one").symlink_to("../../packages/one")
    for _ in range(2):
        (npm,) = run(root, machine, tree)
        assert npm.status == "pass", npm.output
        shutil.rmtree(tree / "node_modules/.vite")
    assert "EROFS" in npm.output or "EACCES" in npm.output
    assert (root / "node_modules/adder/index.js").read_text() == module
    assert {path.name for path in (root / "node_modules").iterdir()} == {"adder", "@me"}


def test_no_folder_is_made_through_a_link(root: Path, tmp_path: Path, machine: dict[str, str]) -> None:
    write_tree(root, {"node_modules/a/index.js": "", "web/node_modules/b/index.js": ""})
    outside = write_tree(tmp_path / "outside", {"x": ""})
    tree = write_tree(tmp_path / "tree", {"y": ""})
    (tree / "web").symlink_to(outside)
    (tree / "node_modules").symlink_to(outside)
    place = show_modules(Place(tree, root), sandbox_for(root, machine))
    assert place.readable == ()
    assert left_in(outside) == {"x"}


def _build(builds: Builds | None, files: Mapping[str, str], *, of_base: bool) -> dict[str, str]:
    """Open a build, return the texts in it, and write files to it."""

    async def opened() -> dict[str, str]:
        async with open_build(builds, of_base=of_base) as path:
            found = {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}
            write_tree(path, files)
            return found

    return asyncio.run(opened())


def test_only_the_base_s_build_is_shared(tmp_path: Path) -> None:
    builds = Builds(tmp_path / "builds")
    assert _build(builds, {"early": "1"}, of_base=False) == {}
    assert _build(builds, {"a/lib": "base"}, of_base=True) == {}
    assert _build(builds, {"a/lib": "poisoned", "more": "x"}, of_base=False) == {"a/lib": "base"}
    assert _build(builds, {}, of_base=False) == {"a/lib": "base"}
    assert _build(builds, {"a/lib": "again"}, of_base=True) == {}, "the first one stays"
    assert _build(builds, {}, of_base=False) == {"a/lib": "base"}
    assert left_in(tmp_path / "builds") == {"base"}
    assert _build(None, {"x": "y"}, of_base=True) == {}


def test_a_copy_of_a_build_keeps_times_and_links_and_leaves_pipes_out(tmp_path: Path) -> None:
    base = write_tree(tmp_path / "builds/base", {"lib": "x"})
    (base / "link").symlink_to("lib")
    os.mkfifo(base / "pipe")
    os.utime(base / "lib", ns=(1_000_000_001, 1_000_000_001))

    async def opened() -> tuple[set[str], int, str]:
        async with Builds(tmp_path / "builds").opened(of_base=False) as path:
            return left_in(path), (path / "lib").stat().st_mtime_ns, str((path / "link").readlink())

    assert asyncio.run(opened()) == ({"lib", "link"}, 1_000_000_001, "lib")


def test_a_second_rust_build_is_not_taken_for_the_first(root: Path, tmp_path: Path, machine: dict[str, str]) -> None:
    need("cargo", "cc")
    builds = Builds(tmp_path / "builds")
    checks = [Check("cargo test", "cargo test --no-fail-fast --lib")]

    def tested(name: str, text: str, *, of_base: bool) -> Sequence[str]:
        tree = write_tree(tmp_path / name, {**RUST, "src/lib.rs": text})
        place, sandbox = Place(tree, root), sandbox_for(root, machine)
        return [one.status for one in asyncio.run(run_checks(checks, place, sandbox, builds=builds, of_base=of_base))]

    root.mkdir()
    wrong, right = RUST["src/lib.rs"], RUST["src/lib.rs"].replace("a - b", "a + b")
    assert tested("base", wrong, of_base=True) == ["fail"]
    assert tested("first", right, of_base=False) == ["pass"]
    assert tested("second", wrong, of_base=False) == ["fail"]
