"""Which linters, type checkers and compilers a repository is set up for, and how each is run."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from miyabi_cli.workspace.check_records import Check, CheckPlan, Survey
from miyabi_cli.workspace.checks import checks_of
from miyabi_cli.workspace.interpreters import find_interpreters, first_with
from miyabi_cli.workspace.linters import linter_of
from miyabi_cli.workspace.toolchains import survey
from miyabi_cli.workspace.toolchains.manifests import check_in, folders_with, has_program, read_toml
from miyabi_cli.workspace.toolchains.python_checks import program_variables
from miyabi_cli.workspace.toolchains.python_projects import choose_project

TIMEOUT = 600.0  # seconds
_IN_PYTHON = ("ruff", "mypy", "bandit")
_MAXIMUM_NAMED = 500  # files on a command line


def plan_linters(
    tree: Path,
    changed: Sequence[str],
    *,
    repository: Path,
    environ: Mapping[str, str],
    configured: Sequence[Check] = (),
    tools: Sequence[Check] = (),
) -> CheckPlan:
    """Return the linters that look at any of the `changed` paths, and a line for each that is set up and can't run.

    `configured` are the user's checks, of which the linters take the place of those that are found. `tools` are
    commands of the user's own that print SARIF or what a known linter prints; they are all run.
    """
    seen = survey(tree, repository=repository, environ=environ)
    found = checks_of(seen)
    variables = dict(found.checks[0].environment) if found.checks else {}
    more = [replace(check, environment=tuple(variables.items())) for check in _further(seen, found.checks, changed)]
    named = {linter.name for check in configured if (linter := linter_of(check.command))}
    own = [check for check in configured if linter_of(check.command)]
    others = [check for check in (*found.checks, *more) if _linter_name(check) not in named]
    wanted = [_without_cache(_apart(check, environ)) for check in (*own, *others) if _looks_at(check, changed)]
    notes = [note for note in found.notes if "test" not in note and "--check" not in note]
    return CheckPlan((*wanted, *tools), (*notes, *_missing(seen, (*own, *others), changed)))


def _apart(check: Check, environ: Mapping[str, str]) -> Check:
    """Return a check whose Python imports nothing of the tree, also where it is the user's own."""
    if _linter_name(check) not in _IN_PYTHON:
        return check
    return replace(check, alone=tuple(program_variables(environ).items()))


def _without_cache(check: Check) -> Check:
    """Return a check that writes no cache, for its tree goes with the run; mypy takes its time for it."""
    if _linter_name(check) != "mypy":
        return check
    return replace(check, environment=(*check.environment, ("MYPY_CACHE_DIR", os.devnull)))


def _linter_name(check: Check) -> str | None:
    linter = linter_of(check.command)
    return linter.name if linter else None


def _looks_at(check: Check, changed: Sequence[str]) -> bool:
    linter = linter_of(check.command)
    return linter is not None and _any_named(changed, linter.files)


def _any_named(paths: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path.rpartition("/")[2], pattern) for path in paths for pattern in patterns)


def _further(seen: Survey, found: Sequence[Check], changed: Sequence[str]) -> Iterator[Check]:
    """Yield linters that prove nothing of a patch, so that no check is made of them, but find what a review tells."""
    yield from _bandit(seen, changed)
    go = folders_with(seen, "go.mod")
    if go and has_program(seen, "go") and _is_set_up(seen, "staticcheck.conf") and has_program(seen, "staticcheck"):
        yield check_in(go[0], "staticcheck", "staticcheck -f json ./...")
    rust = folders_with(seen, "Cargo.toml")
    if rust and has_program(seen, "cargo") and not any(_linter_name(check) == "clippy" for check in found):
        yield check_in(rust[0], "rustc", "cargo check --all-targets --message-format=json")


def _bandit(seen: Survey, changed: Sequence[str]) -> Iterator[Check]:
    """Yield bandit on the changed files, with the settings that it would not find by itself."""
    files = [path for path in changed if path.endswith(".py") and path in set(seen.files)]
    settings = _bandit_settings(seen)
    if settings is None or not files:
        return
    interpreters = find_interpreters(seen.repository, seen.environ, choose_project(seen)[0].folder)
    if runner := first_with(interpreters, "bandit"):
        program = f"{shlex.quote(runner.command)} -m bandit"
    elif shutil.which("bandit", path=seen.environ.get("PATH")):
        program = "bandit"
    else:
        return
    names = " ".join(shlex.quote(f"./{path}") for path in files) if len(files) <= _MAXIMUM_NAMED else "-r ."
    yield Check("bandit", f"{program} -q --exit-zero --format json{settings} {names}")


def _bandit_settings(seen: Survey) -> str | None:
    """Return bandit's options for the settings that are there, None where it is not set up."""
    tool = read_toml(seen.text("pyproject.toml")).get("tool")
    if isinstance(tool, dict) and "bandit" in tool:
        return " -c pyproject.toml"
    for name in ("bandit.yaml", "bandit.yml", ".bandit.yaml", ".bandit.yml"):
        if name in seen.files:
            return f" -c {name}"
    if ".bandit" in seen.files:
        return " --ini .bandit"
    return "" if "bandit" in seen.text(".pre-commit-config.yaml") else None


def _is_set_up(seen: Survey, name: str) -> bool:
    return name in {path.rpartition("/")[2] for path in seen.files}


def _missing(seen: Survey, planned: Sequence[Check], changed: Sequence[str]) -> Iterator[str]:
    """Yield a line for each tool whose settings are there, and which is not."""
    names = {_linter_name(check) for check in planned}
    project, _ = choose_project(seen)
    go = bool(folders_with(seen, "go.mod"))
    set_up = {
        "ruff": project.configures_ruff,
        "mypy": project.mypy_settings is not None,
        "bandit": _bandit_settings(seen) is not None,
        "staticcheck": go and _is_set_up(seen, "staticcheck.conf"),
    }
    files = {"staticcheck": ("*.go",)}
    for name, is_set_up in set_up.items():
        if is_set_up and name not in names and _any_named(changed, files.get(name, ("*.py",))):
            yield f"{name} is set up here, and not installed"
