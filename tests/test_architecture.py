"""The house as CONTRIBUTING.md draws it: who may import whom, what stays light, and that the tables are complete."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

import pytest

import miyabi_cli
from miyabi_cli import __version__, errors, events
from miyabi_cli.app import COMMANDS
from miyabi_cli.codegen.result import CodegenResult
from miyabi_cli.commands.flags import PROVIDERS
from miyabi_cli.errors import MiyabiError
from miyabi_cli.exits import EXIT_CODES, exit_code_of
from miyabi_cli.llm.table import OPENERS
from miyabi_cli.settings.schema import ProviderChoice, Server
from tests.conftest import PYTHON, ROOT
from tests.support.schemas import schema

PACKAGE = ROOT / "miyabi_cli"
MODULES = sorted(PACKAGE.rglob("*.py"))
FEATURES = ("codegen", "triage", "init", "doctor", "agent", "llm", "workspace")
LONGEST = 300
# What a JSON object has only where there is something to say.
OPTIONAL = {CodegenResult: ("pull_request",)}
# Any room may ask for the version, and the entry point stands above all of them.
ANYWHERE = "__init__"
ENTRY = "__main__"


def floors() -> dict[str, int]:
    """Return the floor of each room, as the table of CONTRIBUTING.md says."""
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    return {
        room.removesuffix("/").removesuffix(".py"): int(floor)
        for floor, rooms in rows
        for room in re.findall(r"`([\w/.]+)`", rooms)
    }


def room_of(path: Path) -> str:
    """Return the room that a module of the package is in: its folder, or itself at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a module imports, wherever in it, also those for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""
            if node.module == "miyabi_cli" or (node.module or "").count(".") == 1:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    """Return the rooms that a module imports from."""
    names = {name.split(".")[1] for name in imports(path) if name.startswith("miyabi_cli.")}
    return {name for name in names if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_every_room_is_on_a_floor_and_every_floor_s_room_is_there() -> None:
    rooms = {room_of(path) for path in MODULES} - {ANYWHERE, ENTRY}
    assert set(floors()) == rooms


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_from_its_own_room_or_from_floors_below(path: Path) -> None:
    known = floors()
    room = room_of(path)
    floor = known.get(room, max(known.values()) + 1)
    upwards = {name for name in rooms_imported(path) - {room} if known[name] > floor}
    # Rooms of one floor stand side by side; floors 0, 1 and 6 hold single modules that build on each other.
    sideways = {name for name in rooms_imported(path) - {room} if known[name] == floor and (PACKAGE / name).is_dir()}
    assert not upwards | (sideways if room != "app" else set())


def test_no_circle_of_modules() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in MODULES}
    left = {name: {other for other in imports(path) if other in names} for name, path in names.items()}
    while free := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) in FEATURES], ids=name_of)
def test_features_know_nothing_of_terminals(path: Path) -> None:
    assert not {"rich", "typer", "click"} & {name.split(".")[0] for name in imports(path)}
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("print", "input")]


def test_one_module_uses_gitpython() -> None:
    assert [name_of(path) for path in MODULES if "git" in imports(path)] == ["workspace/git.py"]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_and_says_in_a_line_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST
    docstring = ast.get_docstring(ast.parse(text)) or ""
    first, _, rest = docstring.partition("\n")
    assert first.endswith((".", "`."))
    assert rest == "" or rest.startswith("\n")


def modules_of(*arguments: str) -> set[str]:
    """Return the modules outside of the standard library that a command line loads."""
    code = (
        "import atexit, json, sys\n"
        "known = set(sys.modules)\n"
        "sys.argv[0] = 'miyabi'\n"
        "atexit.register(lambda: print(json.dumps(sorted(set(sys.modules) - known)), file=sys.stderr))\n"
        "from miyabi_cli.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([PYTHON, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(done.stderr)
    return {name for name in loaded if name.split(".")[0] not in sys.stdlib_module_names}


def test_the_version_needs_the_standard_library_alone() -> None:
    assert modules_of("--version") == {"miyabi_cli", "miyabi_cli.__main__"}


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("codegen",),
        ("review",),
        ("triage",),
        ("bench",),
        ("bench", "codegen"),
        ("init",),
        ("doctor",),
        ("runs",),
        ("model",),
        ("trust",),
        ("worktrees",),
    ],
)
def test_help_needs_no_client_no_git_and_no_settings(command: tuple[str, ...]) -> None:
    loaded = modules_of(*command, "--help")
    assert "miyabi_cli.app" in loaded
    heavy = {"httpx", "git", "yaml", "pydantic_settings", "rich", "junitparser", "fastjsonschema", "platformdirs"}
    assert not heavy & {name.split(".")[0] for name in loaded}
    rooms = {name.split(".")[1] for name in loaded if name.startswith("miyabi_cli.")}
    assert not rooms & {"settings", "llm", "workspace", "agent", "codegen", "doctor"}
    commands = {f"miyabi_cli.commands.{name}" for name in COMMANDS} & loaded
    assert len(commands) == (1 if command else len(COMMANDS)), commands


def all_errors() -> list[type[MiyabiError]]:
    """Return every error class of the project, also those that a module has of its own."""
    for module in pkgutil.walk_packages(miyabi_cli.__path__, "miyabi_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[MiyabiError]] = [MiyabiError]
    for error in found:
        found += error.__subclasses__()
    return found[1:]


def test_every_error_has_an_exit_code_and_a_kind_of_its_own() -> None:
    kinds = all_errors()
    assert {exit_code_of(kind("x")) for kind in kinds} == set(EXIT_CODES.values())
    names = [kind.kind for kind in kinds]
    assert len(set(names)) == len(names)


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^([ │├└─]*)(\w+)(?:  |$)", errors.__doc__ or "", re.MULTILINE)
    every: list[type[MiyabiError]] = [MiyabiError, *all_errors()]
    classes = {kind.__name__: kind for kind in every if kind.__module__ == errors.__name__}
    above: list[str] = []
    for lead, name in [(lead, name) for lead, name in drawn if name in classes]:
        depth = len(lead) // 4 - 1
        above = [*above[:depth], name]
        assert [kind.__name__ for kind in classes.pop(name).__mro__[1 : depth + 1]] == above[-2::-1]
    assert not classes


def assert_same_shape(kind: type[Any], branch: dict[str, Any], whole: dict[str, Any], *more: str) -> None:
    """Hold a record's fields, and those of the records and choices in it, against its branch of a schema."""
    named = {*more, *(field.name for field in fields(kind))}
    assert named == set(branch["properties"]) == {*branch["required"], *OPTIONAL.get(kind, ())}, kind
    for name, hint in get_type_hints(kind).items():
        inner = branch["properties"][name]
        inner = inner.get("items", inner)
        if inner.get("$ref", "").startswith("#"):
            inner = whole["$defs"][inner["$ref"].rpartition("/")[2]]
        for part in (hint, *get_args(hint)):
            if is_dataclass(part):
                assert_same_shape(cast(type[Any], part), inner, whole)
            elif get_origin(part) is Literal:
                assert {*get_args(part)} == {*inner["enum"]} - {None}, name


def test_an_event_has_the_shape_of_its_schema() -> None:
    whole = schema("event")
    branches = {branch["properties"]["type"]["const"]: branch for branch in whole["oneOf"]}
    for event in get_args(events.Event):
        if event not in events.TRANSIENT:
            assert_same_shape(event, branches.pop(event.type), whole, "type", "time", "run_id")
    assert set(branches) == {"error"}  # the last line of a run that ended by one


def test_the_result_has_the_shape_of_its_schema() -> None:
    assert_same_shape(CodegenResult, schema("codegen"), schema("codegen"), "version")


def test_every_provider_can_be_named_and_opened() -> None:
    assert get_args(PROVIDERS) == get_args(ProviderChoice) == ("auto", *get_args(Server))
    assert set(OPENERS) == set(get_args(Server))


def test_the_changelog_s_top_version_is_the_package_s() -> None:
    versions = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == __version__
