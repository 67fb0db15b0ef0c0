"""Which checks a Python tree is found to have."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from miyabi_cli.workspace.check_records import CheckPlan
from miyabi_cli.workspace.checks import plan_checks
from tests.support.trees import make_environment, write_tree

UNITTEST = "import unittest\nclass T(unittest.TestCase):\n    def test_x(self): pass\n"
PYTEST = "def test_x(): pass\n"


def _plan(root: Path, *modules: str, **environ: str) -> CheckPlan:
    """Plan the checks of a tree whose caller has a Python with these modules on PATH, and nothing else."""
    bin_folder = root.parent / "python-of-the-user"
    if not bin_folder.exists():
        make_environment(bin_folder, *modules)
    return plan_checks(root, repository=root, environ={"PATH": str(bin_folder / "bin"), **environ})


def _commands(plan: CheckPlan) -> list[str]:
    return [check.command for check in plan.checks]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.mark.parametrize("test_file", ["test_a.py", "a_test.py", "tests/test_a.py", "pkg/tests/unit/test_a.py"])
def test_pytest_where_it_is_there(root: Path, test_file: str) -> None:
    plan = _plan(write_tree(root, {test_file: PYTEST}), "pytest")
    assert _commands(plan) == ["python3 -m pytest -q"]
    assert plan.notes == ()


def test_unittest_where_pytest_is_not(root: Path) -> None:
    plan = _plan(write_tree(root, {"test_a.py": UNITTEST}))
    assert _commands(plan) == ["python3 -m unittest discover -v -b"]


def test_tests_that_only_unittest_finds_are_run_by_it(root: Path) -> None:
    plan = _plan(write_tree(root, {"tests.py": UNITTEST}), "pytest")
    assert _commands(plan) == ["python3 -m unittest discover -v -b"]


@pytest.mark.parametrize(
    "files",
    [{"test_a.py": PYTEST}, {"test_a.py": UNITTEST + "import pytest\n"}],
    ids=["functions", "imports"],
)
def test_tests_that_need_a_missing_pytest_are_no_check(root: Path, files: dict[str, str]) -> None:
    plan = _plan(write_tree(root, files))
    assert plan.checks == ()
    assert "pytest" in plan.notes[0]


def test_the_first_python_that_has_the_needed_pytest_runs_it(root: Path) -> None:
    write_tree(root, {"test_a.py": PYTEST})
    make_environment(root / ".venv")
    assert _commands(_plan(root, "pytest")) == ["python3 -m pytest -q"]
    make_environment(root / "venv", "pytest")
    assert _commands(_plan(root, "pytest")) == [f"{root}/venv/bin/python -m pytest -q"]


def test_plain_unittest_stays_with_the_projects_own_python(root: Path) -> None:
    make_environment(write_tree(root, {"test_a.py": UNITTEST}) / ".venv")
    assert _commands(_plan(root, "pytest")) == [f"{root}/.venv/bin/python -m unittest discover -v -b"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\npython_files = check_*.py\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\npython_files = ['check_*.py']\n"),
        ("pyproject.toml", "[tool.pytest]\npython_files = ['check_*.py']\n"),
        ("tox.ini", "[pytest]\npython_files = check_*.py\n"),
        ("setup.cfg", "[tool:pytest]\npython_files = check_*.py\n"),
    ],
)
def test_test_files_named_by_the_settings(root: Path, name: str, text: str) -> None:
    write_tree(root, {"check_a.py": PYTEST, name: text})
    assert _commands(_plan(root, "pytest")) == ["python3 -m pytest -q"]
    (root / name).write_text("[broken")
    assert _plan(root, "pytest").checks == ()


@pytest.mark.parametrize("files", [{}, {"README.md": "x"}, {"a.py": "x = 1\n"}, {"pytest.ini": "[pytest]\n"}])
def test_no_test_no_check(root: Path, files: dict[str, str]) -> None:
    root.mkdir()
    assert _plan(write_tree(root, files), "pytest").checks == ()


def test_what_lies_in_environments_and_packages_is_not_the_projects(root: Path) -> None:
    make_environment(root / "myenv", "pytest")
    write_tree(root, {"myenv/test_a.py": PYTEST, "node_modules/x/test_a.py": PYTEST, ".tox/py/test_a.py": PYTEST})
    assert _plan(write_tree(root, {"a.py": ""}), "pytest").checks == ()


@pytest.mark.parametrize(
    ("files", "options"),
    [
        (["tests/test_a.py"], [" -s tests -t tests"]),
        (["tests/__init__.py", "tests/test_a.py", "tests/sub/__init__.py", "tests/sub/test_b.py"], [" -s tests -t ."]),
        (["src/p/__init__.py", "src/p/tests/__init__.py", "src/p/tests/test_a.py"], [" -s src/p -t src"]),
        (["test_a.py", "lib/test_b.py"], ["", " -s lib -t lib"]),
        (["a b/test_a.py"], [" -s 'a b' -t 'a b'"]),
        (["a_test.py"], [" -p '*_test.py'"]),
    ],
)
def test_where_unittest_starts(root: Path, files: list[str], options: list[str]) -> None:
    plan = _plan(write_tree(root, {name: "" if name.endswith("__init__.py") else UNITTEST for name in files}))
    assert _commands(plan) == [f"python3 -m unittest discover -v -b{option}" for option in options]
    assert len({check.name for check in plan.checks}) == len(options)


def test_many_starts_of_unittest_are_not_all_run(root: Path) -> None:
    plan = _plan(write_tree(root, {f"part{number}/test_a.py": UNITTEST for number in range(6)}))
    assert len(plan.checks) == 4
    assert plan.notes == ("not covered: the tests in part4, part5",)


def test_django_runs_its_own(root: Path) -> None:
    files = {"manage.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'x')", "app/tests.py": UNITTEST}
    plan = _plan(write_tree(root, files), "django", "pytest")
    assert _commands(plan) == ["python3 manage.py test -v 2 --noinput"]


def test_linters_where_they_are_configured_and_there(root: Path) -> None:
    write_tree(root, {"pyproject.toml": "[tool.ruff]\n[tool.mypy]\n", "pkg/__init__.py": "", "tests/__init__.py": ""})
    assert _commands(_plan(root, "ruff", "mypy")) == [
        "python3 -m ruff check --no-fix",
        "python3 -m mypy --no-pretty pkg",
    ]


def test_linters_that_are_not_configured_or_not_there_are_none(root: Path, tmp_path: Path) -> None:
    assert _plan(write_tree(root, {"a.py": ""}), "ruff", "mypy").checks == ()
    other = write_tree(tmp_path / "other/repository", {"ruff.toml": "", "mypy.ini": "[mypy]\n", "a.py": ""})
    assert _plan(other).checks == ()


@pytest.mark.parametrize(
    ("files", "targets"),
    [
        ({"mypy.ini": "[mypy]\nfiles = a\n"}, ""),
        ({"setup.cfg": "[mypy]\nstrict = true\n"}, " ."),
        ({"pyproject.toml": "[tool.mypy]\nstrict = true\n", "src/p/__init__.py": ""}, " src"),
    ],
)
def test_what_mypy_looks_at(root: Path, files: dict[str, str], targets: str) -> None:
    assert _commands(_plan(write_tree(root, {"a.py": "", **files}), "mypy")) == [
        f"python3 -m mypy --no-pretty{targets}"
    ]


def test_a_ruff_of_its_own_on_path(root: Path, tmp_path: Path) -> None:
    tool = write_tree(tmp_path / "tools", {"ruff": "#!/bin/sh\n"}) / "ruff"
    tool.chmod(0o755)
    write_tree(root, {"ruff.toml": "", "a.py": ""})
    make_environment(tmp_path / "python-of-the-user")
    plan = _plan(root, PATH=f"{tmp_path}/python-of-the-user/bin:{tool.parent}")
    assert _commands(plan) == ["ruff check --no-fix"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.py", "test_a.py"], "{tree}"),
        (["src/p/__init__.py", "test_a.py"], "{tree}/src:{tree}"),
        (["back/setup.py", "back/src/p.py", "back/test_a.py"], "{tree}/back/src:{tree}/back:{tree}"),
    ],
)
def test_the_tree_is_what_is_imported(root: Path, files: list[str], expected: str) -> None:
    write_tree(root, dict.fromkeys(files, PYTEST))
    assert dict(_plan(root, "pytest").checks[0].environment)["PYTHONPATH"] == expected
    also = _plan(root, PYTHONPATH="/more", PYTEST_ADDOPTS="-x")
    assert dict(also.checks[0].environment) == {"PYTHONPATH": f"{expected}:/more", "PYTEST_ADDOPTS": "-x"}


def test_the_nearest_project_of_several(root: Path) -> None:
    files = {"b/pyproject.toml": "", "b/test_b.py": PYTEST, "deep/a/setup.py": "", "deep/a/test_a.py": PYTEST}
    fixture = {"b/tests/data/setup.py": "", "b/tests/data/test_c.py": PYTEST}
    plan = _plan(write_tree(root, {"README.md": "", **files, **fixture}), "pytest")
    assert _commands(plan) == ["cd b && python3 -m pytest -q"]
    assert plan.notes == ("not covered: the tests of deep/a; name their command by --check",)


def test_a_pytest_at_the_top_covers_what_lies_below(root: Path) -> None:
    files = {"pytest.ini": "[pytest]\n", "b/setup.py": "", "b/test_b.py": PYTEST}
    plan = _plan(write_tree(root, files), "pytest")
    assert (_commands(plan), plan.notes) == (["python3 -m pytest -q"], ())
    plan = _plan(write_tree(root, {"pytest.ini": "[pytest]\ntestpaths = tests\n"}), "pytest")
    assert plan.notes == ("not covered: the tests of b; name their command by --check",)


def test_no_python_at_all_is_said(root: Path) -> None:
    plan = plan_checks(write_tree(root, {"test_a.py": PYTEST}), repository=root, environ={"PATH": "/nowhere"})
    assert plan == CheckPlan((), ("no Python was found: neither .venv nor python3 on PATH",))


def test_settings_that_are_no_files_are_not_read(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.toml"
    secret.write_text("[tool.ruff]\n")
    write_tree(root, {"a.py": ""})
    (root / "pyproject.toml").symlink_to(secret)
    assert _plan(root, "ruff").checks == ()


def test_this_project_is_understood() -> None:
    root = Path(__file__).parent.parent
    plan = plan_checks(root, repository=root, environ={"PATH": str(Path(sys.executable).parent)})
    assert plan.checks[0].command.endswith("-m pytest -q")
