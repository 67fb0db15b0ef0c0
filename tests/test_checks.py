"""Checks run for real: in real trees, with the real runners, with and without the sandbox."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.check_records import Check, CheckRun, TestsDelta, TestStatus
from miyabi_cli.workspace.checks import compare_runs, plan_checks, run_checks
from miyabi_cli.workspace.digest import failure_digest
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.sandbox import Sandbox, open_sandbox
from miyabi_cli.workspace.toolchains import list_files
from tests.support.trees import write_tree

PYTHON = shlex.quote(sys.executable)
CALC = {
    "calc.py": "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n",
    "test_calc.py": "import calc\n\n\ndef test_add():\n    assert calc.add(2, 3) == 5\n\n\n"
    "def test_double():\n    assert calc.double(4) == 8\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def _open(mode: str, root: Path, environment: dict[str, str]) -> Sandbox:
    try:
        return open_sandbox("off" if mode == "off" else "auto", repository=root, environ=environment)
    except SandboxError as error:
        pytest.skip(error.message)


def _run(checks: Sequence[Check], root: Path, environment: dict[str, str], mode: str = "off") -> list[CheckRun]:
    sandbox = _open(mode, root, environment)
    return list(asyncio.run(run_checks(checks, Place(root, root), sandbox)))


def _found(root: Path, environment: dict[str, str], mode: str = "off") -> CheckRun:
    (run,) = _run(plan_checks(root, repository=root, environ=environment).checks, root, environment, mode)
    return run


def _asked(command: str, root: Path, environment: dict[str, str], **given: object) -> CheckRun:
    check = Check("asked", command, **{"requested": True, **given})  # type: ignore[arg-type]
    checks = plan_checks(root, repository=root, environ=environment, configured=[check]).checks
    return _run(checks, root, environment)[0]


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_pytest_test_by_test(root: Path, environment: dict[str, str], mode: str) -> None:
    run = _found(write_tree(root, CALC), environment, mode)
    assert (run.name, run.command, run.status, run.exit_code) == ("pytest", "python3 -m pytest -q", "fail", 1)
    assert run.tests == {"test_calc::test_add": "fail", "test_calc::test_double": "pass"}
    assert "test_calc.py:5: in test_add" in run.failures[0].details
    assert run.conclusive
    assert list_files(root) == ("calc.py", "test_calc.py"), "nothing is left in the tree"
    assert sorted(path.name for path in root.iterdir()) == ["calc.py", "test_calc.py"]


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_unittest_test_by_test(root: Path, environment: dict[str, str], mode: str) -> None:
    module = (
        "import unittest, calc\nclass T(unittest.TestCase):\n"
        "    def test_add(self): print('noise'); self.assertEqual(calc.add(2, 3), 5)\n"
        "    def test_double(self): print('noise'); self.assertEqual(calc.double(4), 8)\n"
    )
    write_tree(root, {"calc.py": CALC["calc.py"], "tests.py": module})
    run = _found(root, environment, mode)
    assert run.name == "unittest"
    assert run.tests == {"tests.T::test_add": "fail", "tests.T::test_double": "pass"}
    assert run.failures[0].message == "AssertionError: -1 != 5"
    assert 'File "tests.py", line 3' in run.failures[0].details, "paths are relative to the tree"
    assert sorted(path.name for path in root.iterdir()) == ["calc.py", "tests.py"]


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_the_tree_is_imported_and_not_what_is_installed(
    root: Path, tmp_path: Path, environment: dict[str, str], mode: str
) -> None:
    installed = write_tree(tmp_path / "installed", {"calc.py": "def add(a, b):\n    return a + b\n"})
    write_tree(root, {"src/calc.py": CALC["calc.py"], "tests/test_calc.py": CALC["test_calc.py"]})
    run = _found(root, {**environment, "PYTHONPATH": str(installed)}, mode)
    assert run.tests["tests.test_calc::test_add"] == "fail"


def test_the_callers_pytest_options_are_kept(root: Path, environment: dict[str, str]) -> None:
    run = _found(write_tree(root, CALC), {**environment, "PYTEST_ADDOPTS": "-k double"})
    assert run.tests == {"test_calc::test_double": "pass"}


def test_the_repositorys_pytest_options_hide_no_test(root: Path, environment: dict[str, str]) -> None:
    settings = "[pytest]\naddopts = -x --tb=no --lf --color=yes\n"
    run = _found(write_tree(root, {**CALC, "pytest.ini": settings}), environment)
    assert run.tests == {"test_calc::test_add": "fail", "test_calc::test_double": "pass"}
    assert "assert -1 == 5" in run.failures[0].details
    assert "\x1b" not in run.output


def test_a_broken_test_file_hides_no_other(root: Path, environment: dict[str, str]) -> None:
    write_tree(root, {**CALC, "test_more.py": "def test_more(): pass\n"})
    before = _found(root, environment)
    write_tree(root, {"test_more.py": "import nowhere_at_all\n"})
    after = _found(root, environment)
    assert after.tests == {"test_more": "fail", "test_calc::test_add": "fail", "test_calc::test_double": "pass"}
    assert compare_runs(before, after) == TestsDelta(
        broken=("test_more::test_more",), still_failing=("test_calc::test_add",)
    )


def _parametrised(values: str) -> str:
    return f"import pytest\n@pytest.mark.parametrize('x', {values}, ids=str)\ndef test_x(x): pass\n"


def test_names_are_the_same_in_parallel(root: Path, environment: dict[str, str]) -> None:
    write_tree(root, {"test_ids.py": _parametrised("[1, 'é b', 'a::b[c]', 1]")})
    alone = _asked(f"{PYTHON} -m pytest", root, environment)
    parallel = _asked(f"{PYTHON} -m pytest -n 2", root, environment)
    assert len(alone.tests) == 4
    assert alone.tests == parallel.tests


def test_names_are_stable_where_they_hold_an_address(root: Path, environment: dict[str, str]) -> None:
    write_tree(root, {"test_ids.py": _parametrised("[object()]")})
    assert list(_found(root, environment).tests) == ["test_ids::test_x[<object object at 0x…>]"]


def test_an_edit_in_the_same_second_is_seen(root: Path, environment: dict[str, str]) -> None:
    write_tree(root, CALC)
    os.utime(root / "calc.py", (1_700_000_000, 1_700_000_000))
    assert _found(root, environment).status == "fail"
    write_tree(root, {"calc.py": CALC["calc.py"].replace("a - b", "a + b")})
    os.utime(root / "calc.py", (1_700_000_000, 1_700_000_000))
    assert _found(root, environment).status == "pass"


def test_a_check_in_any_language_reports_pytest_inside_it(root: Path, environment: dict[str, str]) -> None:
    write_tree(root, {**CALC, "Makefile": f"test:\n\t@echo made; {PYTHON} -m pytest\n"})
    run = _asked("make -s test", root, environment)
    assert (run.status, run.exit_code) == ("fail", 2)
    assert run.tests == {"test_calc::test_add": "fail", "test_calc::test_double": "pass"}


def test_two_runs_in_one_check_leave_the_exit_code_to_decide(root: Path, environment: dict[str, str]) -> None:
    write_tree(root, CALC)
    single = _asked(f"{PYTHON} -m pytest -k double", root, environment)
    assert single.tests == {"test_calc::test_double": "pass"}
    twice = _asked(f"{PYTHON} -m pytest -k double && {PYTHON} -m pytest -k double", root, environment)
    assert (twice.status, twice.tests, twice.reported) == ("pass", {}, True)


@pytest.mark.parametrize(
    ("end", "status", "tests"),
    [
        ("atexit.register(os._exit, 0)", "fail", {"test_calc::test_add": "fail", "test_calc::test_double": "pass"}),
        ("os._exit(0)", "pass", {}),
    ],
    ids=["at exit", "at import"],
)
def test_code_that_ends_its_test_runner_is_seen(
    root: Path, environment: dict[str, str], end: str, status: str, tests: dict[str, str]
) -> None:
    write_tree(root, {**CALC, "calc.py": f"import atexit, os\n{end}\n{CALC['calc.py']}"})
    run = _found(root, environment)
    assert (run.exit_code, run.status, run.tests, run.reported) == (0, status, tests, bool(tests))


def test_a_report_that_goes_elsewhere_leaves_the_exit_code_to_decide(root: Path, environment: dict[str, str]) -> None:
    run = _asked(f"{PYTHON} -m pytest --junitxml=own.xml -k double", write_tree(root, CALC), environment)
    assert (run.status, run.tests) == ("pass", {})


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_linters_name_the_lines(root: Path, environment: dict[str, str], mode: str) -> None:
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # a Python that has mypy
    settings = "[tool.ruff]\nfix = true\nlint.select = ['F']\n[tool.mypy]\nstrict = true\npretty = true\n"
    write_tree(root, {"pyproject.toml": settings, "pkg/__init__.py": "import os\nx: int = 'a'\n"})
    runs = _run(plan_checks(root, repository=root, environ=environment).checks, root, environment, mode)
    assert [(run.name, run.status) for run in runs] == [("ruff", "fail"), ("mypy", "fail")]
    assert failure_digest(runs[0]).startswith("ruff fails:\npkg/__init__.py:1:8: F401 ")
    assert failure_digest(runs[1]).startswith("mypy fails:\npkg/__init__.py:2: error: Incompatible types")
    assert (root / "pkg/__init__.py").read_text().startswith("import os"), "a check changes nothing"
    # A file of a patch does not take a linter's place.
    write_tree(root, {"ruff.py": "", "mypy.py": "", "json.py": "raise SystemExit(0)\n"})
    again = _run(plan_checks(root, repository=root, environ=environment).checks, root, environment, mode)
    assert [failure_digest(run) for run in again] == [failure_digest(run) for run in runs]


def _planted(action: str) -> str:
    """Return a command that does something with the path of the report, which is `p`."""
    code = f"import os, shlex; p = shlex.split(os.environ['PYTEST_ADDOPTS'])[0].partition('=')[2]; {action}"
    return f"{PYTHON} -c {shlex.quote(code)}"


@pytest.mark.parametrize(
    "action",
    [
        "os.symlink(os.path.abspath('own.xml'), p)",
        "os.mkfifo(p)",
        "os.mkdir(p)",
        "open(p, 'w').write('<testsuite')",
        "open(p, 'w').truncate(1 << 29)",
    ],
    ids=["link", "fifo", "folder", "torn", "sparse"],
)
def test_a_planted_report_is_none(root: Path, environment: dict[str, str], action: str) -> None:
    write_tree(root, {"own.xml": '<testsuite><testcase name="a"/></testsuite>', "a.py": ""})
    read = _asked(_planted("open(p, 'w').write(open('own.xml').read())"), root, environment)
    assert read.tests == {"a": "pass"}
    run = _asked(_planted(action), root, environment)
    assert (run.status, run.tests, run.exit_code) == ("pass", {}, 0)


@pytest.mark.parametrize(("requested", "status"), [(True, "fail"), (False, "skip")])
@pytest.mark.parametrize(
    "command", ["no-such-command-here --x", f"{PYTHON} -m no_such_module_here", f"{PYTHON} -m unittest"]
)
def test_what_can_not_run_is_a_skip_unless_it_was_asked_for(
    root: Path, environment: dict[str, str], command: str, requested: bool, status: str
) -> None:
    run = _asked(command, write_tree(root, {"a.py": ""}), environment, requested=requested)
    no_tests_pass = command.endswith("unittest") and sys.version_info < (3, 12)
    assert run.status == ("pass" if requested and no_tests_pass else status)
    assert run.tests == {}


def test_a_test_that_prints_like_a_missing_tool_is_still_a_failure(root: Path, environment: dict[str, str]) -> None:
    run = _asked(
        "echo 'python: No module named x'; echo more; exit 1", root_with_code(root), environment, requested=False
    )
    assert run.status == "fail"


def root_with_code(root: Path) -> Path:
    return write_tree(root, {"a.py": ""})


def test_a_pytest_that_collects_nothing_is_a_skip(root: Path, environment: dict[str, str]) -> None:
    run = _found(write_tree(root, {"test_empty.py": "import pytest\n"}), environment)
    assert (run.status, run.exit_code, run.conclusive) == ("skip", 5, True)


def test_a_check_that_takes_too_long_fails(root: Path, environment: dict[str, str]) -> None:
    run = _asked("echo begun; sleep 60", root_with_code(root), environment, timeout=0.3, requested=False)
    assert (run.status, run.conclusive) == ("fail", False)
    assert run.output.startswith("begun")
    assert run.output.endswith("timed out after 0.3 s")


def test_much_output_keeps_its_end(root: Path, environment: dict[str, str]) -> None:
    run = _asked("seq 1 200000; echo THE END; exit 3", root_with_code(root), environment)
    assert run.output.startswith("1\n2\n")
    assert run.output.rstrip().endswith("THE END")
    assert len(run.output) < 30_000


def test_checks_run_in_order_and_are_told(root: Path, environment: dict[str, str]) -> None:
    checks = [Check("one", "echo 1 >> log"), Check("two", "echo 2 >> log; exit 1"), Check("three", "echo 3 >> log")]
    told: list[str] = []
    place = Place(write_tree(root, {"a.py": ""}), root)
    runs = asyncio.run(
        run_checks(
            checks,
            place,
            _open("off", root, environment),
            started=lambda check: told.append(f"> {check.name}"),
            ended=lambda run: told.append(f"{run.name} {run.status}"),
        )
    )
    assert told == ["> one", "one pass", "> two", "two fail", "> three", "three pass"]
    assert [run.name for run in runs] == ["one", "two", "three"]
    assert (root / "log").read_text() == "1\n2\n3\n"


def test_configured_checks_replace_those_found_and_have_names_of_their_own(root: Path) -> None:
    given = [Check("tests", "a"), Check("tests", "b", requested=True), Check("tests 2", "c")]
    plan = plan_checks(write_tree(root, CALC), repository=root, environ={"PATH": "/bin"}, configured=given)
    assert [(check.name, check.command) for check in plan.checks] == [
        ("tests", "a"),
        ("tests 2", "b"),
        ("tests 2 2", "c"),
    ]
    assert [check.requested for check in plan.checks] == [False, True, False]
    elsewhere = plan_checks(root / "none", repository=root, environ={}, configured=given[:1])
    assert elsewhere.checks == (Check("tests", "a"),)


def test_comparing_runs() -> None:
    def run(tests: dict[str, TestStatus]) -> CheckRun:
        return CheckRun("c", "c", "pass", 1.0, tests, "", 0)

    before = run({"a": "pass", "b": "pass", "c": "pass", "d": "fail", "e": "fail", "f": "skip", "g": "fail"})
    after = run({"a": "pass", "b": "fail", "c": "skip", "d": "pass", "e": "fail", "f": "fail", "h": "fail"})
    assert compare_runs(before, after) == TestsDelta(fixed=("d",), broken=("b", "c"), still_failing=("e",))
    assert compare_runs(before, run({})).broken == ("a", "b", "c")
    assert compare_runs(None, after) == TestsDelta()
    assert compare_runs(dataclasses.replace(before, tests={}), after) == TestsDelta()
