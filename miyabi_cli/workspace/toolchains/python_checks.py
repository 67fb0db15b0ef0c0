"""Finds the checks of a Python project: pytest, unittest or Django's runner, and ruff and mypy where configured."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from miyabi_cli.workspace.check_records import Check, CheckPlan, Survey
from miyabi_cli.workspace.interpreters import Interpreter, find_interpreters, first_with
from miyabi_cli.workspace.toolchains.python_projects import Project, choose_project

_MAXIMUM_STARTS = 4


def find_python_checks(survey: Survey) -> CheckPlan:
    """Return the checks of the Python project nearest to the tree's top that has tests, and what they leave out."""
    project, notes = choose_project(survey)
    interpreters = find_interpreters(survey.repository, survey.environ, project.folder)
    if not interpreters:
        return CheckPlan((), (*notes, "no Python was found: neither .venv nor python3 on PATH"))
    tests = _test_checks(project, interpreters)
    tools = (*_ruff_checks(project, interpreters), *_mypy_checks(project, interpreters))
    return CheckPlan((*tests.checks, *tools), (*notes, *tests.notes))


def python_variables(survey: Survey) -> Mapping[str, str]:
    """Return what every check of a Python tree is given: the tree is imported, whatever is installed."""
    project, _ = choose_project(survey)
    folders = [f"{project.folder}/src" if project.folder else "src"] if project.has_source_folder else []
    folders += [project.folder, ""] if project.folder else [""]
    paths = [f"{{tree}}/{folder}".rstrip("/") for folder in folders]
    paths += filter(None, [survey.environ.get("PYTHONPATH")])
    options = survey.environ.get("PYTEST_ADDOPTS")
    return {"PYTHONPATH": ":".join(paths), **({"PYTEST_ADDOPTS": options} if options else {})}


def program_variables(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return what a check is given whose Python imports nothing of the tree: a `json.py` there would be the linter.

    Before Python 3.11 it can't be kept from the folder that it is started in.
    """
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": environ.get("PYTHONPATH", "")}


def _test_checks(project: Project, interpreters: tuple[Interpreter, ...]) -> CheckPlan:
    if not project.tests:
        return CheckPlan((), ("no Python test was found",))
    best = interpreters[0]
    if project.is_django and best.has("django") and not best.has("pytest_django"):
        return CheckPlan((_check(project, "django", f"{shlex.quote(best.command)} manage.py test -v 2 --noinput"),))
    by_pytest = project.pytest_files or project.pytest_settings.get("python_files")
    runner = best if best.has("pytest") else first_with(interpreters, "pytest") if project.needs_pytest else None
    if by_pytest and runner:
        return CheckPlan((_check(project, "pytest", f"{shlex.quote(runner.command)} -m pytest -q"),))
    if project.unittest_files and not project.imports_pytest:
        return _unittest_checks(project, best)
    hint = f"install it for {best.command}, or give a command by --check"
    return CheckPlan((), (f"the tests need pytest, which no Python here has: {hint}",))


def _unittest_checks(project: Project, interpreter: Interpreter) -> CheckPlan:
    """Return one check for each folder that unittest must start from to find all tests."""
    starts = sorted(set(_starts(project)))
    checks = []
    for start, top in starts[:_MAXIMUM_STARTS]:
        command = f"{shlex.quote(interpreter.command)} -m unittest discover -v -b"
        command += f" -s {shlex.quote(start)} -t {shlex.quote(top)}" if start != "." else ""
        if not any(PurePosixPath(path).name.startswith("test") for path in project.unittest_files):
            command += " -p '*_test.py'"
        checks.append(_check(project, "unittest" if len(starts) == 1 else f"unittest {start}", command))
    left = ", ".join(start for start, _ in starts[_MAXIMUM_STARTS:])
    return CheckPlan(tuple(checks), (f"not covered: the tests in {left}",) if left else ())


def _starts(project: Project) -> Iterator[tuple[str, str]]:
    """Yield (start, top-level folder) for each test file: unittest finds tests in packages below its start alone."""
    for path in project.unittest_files:
        start = top = PurePosixPath(path).parent
        while top.name and project.has(str(top / "__init__.py")):
            start, top = top, top.parent
        yield str(start), str(top)


def _ruff_checks(project: Project, interpreters: tuple[Interpreter, ...]) -> Iterator[Check]:
    if not project.configures_ruff:
        return
    if runner := first_with(interpreters, "ruff"):
        yield _program(project, "ruff", f"{shlex.quote(runner.command)} -m ruff check --no-fix")
    elif shutil.which("ruff", path=project.survey.environ.get("PATH")):
        yield _program(project, "ruff", "ruff check --no-fix")


def _mypy_checks(project: Project, interpreters: tuple[Interpreter, ...]) -> Iterator[Check]:
    settings = project.mypy_settings
    runner = interpreters[0]  # another one's would not see the packages that the code imports
    if settings is None or not runner.has("mypy"):
        return
    command = f"{shlex.quote(runner.command)} -m mypy --no-pretty{_mypy_targets(project, settings)}"
    yield _program(project, "mypy", command)


def _mypy_targets(project: Project, settings: Mapping[str, Any]) -> str:
    if any(settings.get(key) for key in ("files", "packages", "modules")):
        return ""
    return " " + " ".join(map(shlex.quote, project.packages or (".",)))


def _program(project: Project, name: str, command: str) -> Check:
    alone = program_variables(project.survey.environ)
    return replace(_check(project, name, command), alone=tuple(alone.items()))


def _check(project: Project, name: str, command: str) -> Check:
    return Check(name, f"cd {shlex.quote(project.folder)} && {command}" if project.folder else command)
