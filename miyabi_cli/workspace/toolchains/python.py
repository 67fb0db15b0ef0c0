"""Python: pytest, unittest and Django's runner, ruff and mypy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from miyabi_cli.workspace.check_records import Check
from miyabi_cli.workspace.interpreters import find_interpreters
from miyabi_cli.workspace.runners.unittest_output import count_tests_run, read_unittest
from miyabi_cli.workspace.toolchains.python_checks import find_python_checks, python_variables
from miyabi_cli.workspace.toolchains.toolchain import Folders, Toolchain

LONG_SECONDS = 20  # for one test; pytest then prints the stack, and goes on


def _environment(check: Check, folders: Folders) -> Mapping[str, str]:
    """Return what makes pytest report and run every test, also where a `make test` calls it."""
    report = folders.reports / "pytest.xml"
    options = [f"--junitxml={report}", "-o", "junit_logging=no", "-o", f"cache_dir={folders.leftovers}"]
    # one broken file or an `-x` in the settings must not hide the other tests; short tracebacks are what a model needs
    options += ["--continue-on-collection-errors", "--maxfail=0", "--tb=short", "--color=no"]
    options += ["-o", f"faulthandler_timeout={LONG_SECONDS}"]  # says where a test is that never ends
    existing = dict(check.environment).get("PYTEST_ADDOPTS", "")
    return {
        "PYTEST_ADDOPTS": f"{existing} {shlex.join(options)}".strip(),
        # bytecode is matched by the second and the size: an edit in the same second would run the old code
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUFF_NO_CACHE": "true",
        "RUFF_OUTPUT_FORMAT": "concise",
    }


PYTHON = Toolchain(
    name="python",
    recognised=("pyproject.toml", "setup.py", "setup.cfg", "*.py"),
    find=find_python_checks,
    variables=python_variables,
    environment=_environment,
    installed=lambda repository, environ: (one.fingerprint() for one in find_interpreters(repository, environ)),
    read_output=read_unittest,
    found_no_test=lambda output: count_tests_run(output) == 0,
    artifacts=(
        *("__pycache__/", "*.py[cod]", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/", ".hypothesis/"),
        *(".coverage", ".coverage.*", "htmlcov/", "coverage.xml", "*.egg-info/", ".eggs/", ".tox/", ".nox/"),
        *(".venv/", "venv/", ".benchmarks/", ".testmondata"),
    ),
    tests=("test_*.py", "*_test.py", "tests.py", "tests/", "test/"),
    configuration=(
        *("conftest.py", "pytest.ini", ".pytest.ini", "pyproject.toml", "setup.cfg", "tox.ini", "noxfile.py"),
        *("pytest.toml", ".pytest.toml", "mypy.ini", ".mypy.ini", "ruff.toml", ".ruff.toml", ".coveragerc"),
        # what Python imports by itself, or in place of a check's tool when it lies at the top of the tree
        *("sitecustomize.*", "usercustomize.*", "pytest.*", "unittest.*", "mypy.*", "ruff.*"),
        *("pytest/__init__.*", "_pytest/__init__.*", "unittest/__init__.*", "mypy/__init__.*", "ruff/__init__.*"),
    ),
    programs=(("python3", "--version"),),
)
