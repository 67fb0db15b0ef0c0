"""JavaScript and TypeScript: the package's test script, eslint and tsc."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from miyabi_cli.workspace.check_records import Check, CheckPlan, Survey, TestReport
from miyabi_cli.workspace.interpreters import stamp
from miyabi_cli.workspace.mounts import dependency_folders
from miyabi_cli.workspace.runners.jest import read_jest
from miyabi_cli.workspace.runners.junit import read_junit
from miyabi_cli.workspace.toolchains.manifests import (
    check_in,
    folders_with,
    has_program,
    in_folder,
    left_out,
    program_stamps,
    read_json_object,
)
from miyabi_cli.workspace.toolchains.toolchain import Folders, Toolchain

REPORTERS = "reporters.cjs"

_INSTALLED = (".package-lock.json", ".modules.yaml", ".yarn-integrity", ".yarn-state.yml")
_NO_SCRIPT = re.compile(r"no test specified")
_RUNNERS = (("vitest", "vitest run"), ("jest", "jest"), ("mocha", "mocha"))
_FLAT = ("eslint.config.js", "eslint.config.mjs", "eslint.config.cjs", "eslint.config.ts", "eslint.config.mts")
_FOUND_NONE = re.compile(
    r"^(?:No tests found, exiting with code \d|No test files found, exiting with code \d|Error: No test files found)",
    re.MULTILINE,
)
_ESLINT_SCRIPT = re.compile(r"eslint(?P<rest>(?: [\w./*{},@='\"-]+)*)")
_FORMAT = re.compile(r" (?:--format|-f)(?:=| )\S+| --fix\b| --cache\b")


def find_javascript_checks(survey: Survey) -> CheckPlan:
    """Return the checks of the package nearest to the tree's top that has a test script, the top's where none has."""
    folders = [folder for folder in folders_with(survey, "package.json") if "node_modules" not in folder]
    if not folders:
        return CheckPlan()
    missing = [program for program in ("node", "npm") if not has_program(survey, program)]
    if missing:
        return CheckPlan((), (f"the JavaScript code is not checked: there is no {missing[0]} on PATH",))
    packages = [_Package(survey, folder) for folder in folders[:50]]
    tested = [package for package in packages if package.test_command]
    package = tested[0] if tested else packages[0]
    notes = list(left_out("npm packages", package.folder, [other.folder for other in tested]))
    if not package.is_installed:
        notes.append(f"node_modules is missing in {package.folder or 'the repository'}: run npm install for the checks")
        if not package.needs_nothing:
            return CheckPlan((), tuple(notes))
    if not package.test_command:
        notes.append(f"{in_folder(package.folder, 'package.json')} has no test script")
    return CheckPlan(tuple(package.checks()), tuple(notes))


class _Package:
    """A package.json, and what is installed for it."""

    def __init__(self, survey: Survey, folder: str) -> None:
        self.survey = survey
        self.folder = folder
        self._manifest = read_json_object(survey.text(in_folder(folder, "package.json")))
        self._modules = tuple(_module_folders(survey, folder))

    @property
    def is_installed(self) -> bool:
        """Whether its dependencies are there, as far as their folder tells, or it has none."""
        return bool(self._modules) or not any(self._named("dependencies") | self._named("devDependencies"))

    @property
    def needs_nothing(self) -> bool:
        """Whether its tests are run by node itself."""
        return self.test_command.startswith("npm") and self._script("test").startswith("node ")

    @property
    def test_command(self) -> str:
        script = self._script("test")
        if script and not _NO_SCRIPT.search(script):
            return "npm test"
        if "workspaces" in self._manifest and not self.folder:
            return "npm test --workspaces --if-present"
        known = self._named("devDependencies") | self._named("dependencies")
        return next((f"node_modules/.bin/{command}" for name, command in _RUNNERS if name in known), "")

    def checks(self) -> Iterator[Check]:
        if self.test_command:
            yield check_in(self.folder, self.test_command.partition(" --")[0].rpartition("/")[2], self.test_command)
        if self._has("eslint") and (command := self._eslint()):
            yield check_in(self.folder, "eslint", command)
        if self._has("tsc") and self._has_file("tsconfig.json"):
            yield check_in(self.folder, "tsc", f"{self._program('tsc')} --noEmit --pretty false")

    def _eslint(self) -> str:
        """Return the command that prints JSON; its files are those of the lint script, where that is a plain call."""
        flat = any(self._has_file(name) for name in _FLAT)
        old = "eslintConfig" in self._manifest or any(
            str(PurePosixPath(path).parent) == (self.folder or ".") and PurePosixPath(path).name.startswith(".eslintrc")
            for path in self.survey.files
        )
        if not flat and not old:
            return ""
        script = _ESLINT_SCRIPT.fullmatch(self._script("lint"))
        rest = _FORMAT.sub("", script["rest"]) if script else " ."
        # eslint 9 still reads the old settings when it is told to
        told = "" if flat else "ESLINT_USE_FLAT_CONFIG=false "
        return f"{told}{self._program('eslint')}{rest} --format json"

    def _script(self, name: str) -> str:
        scripts = self._manifest.get("scripts")
        script = scripts.get(name) if isinstance(scripts, dict) else None
        return script.strip() if isinstance(script, str) else ""

    def _named(self, key: str) -> set[str]:
        value: Any = self._manifest.get(key)
        return set(map(str, value)) if isinstance(value, dict) else set()

    def _has_file(self, name: str) -> bool:
        return in_folder(self.folder, name) in self.survey.files

    def _has(self, program: str) -> bool:
        return any((modules / ".bin" / program).exists() for modules in self._modules)

    def _program(self, program: str) -> str:
        """Return the program's path as seen from the package's folder."""
        modules = next(modules for modules in self._modules if (modules / ".bin" / program).exists())
        depth = len(Path(self.folder).parts) - len(_relative(self.survey, modules).parent.parts)
        return f"{'../' * depth}node_modules/.bin/{program}"


def _module_folders(survey: Survey, folder: str) -> Iterator[Path]:
    """Yield the folders that a package's dependencies are looked for in, of the worktree and the user's checkout."""
    for place in (Path(folder), *Path(folder).parents):
        for root in (survey.tree, survey.repository):
            if (root / place / "node_modules").is_dir():
                yield root / place / "node_modules"
                break


def _relative(survey: Survey, path: Path) -> Path:
    root = survey.tree if path.is_relative_to(survey.tree) else survey.repository
    return path.relative_to(root)


def _variables(survey: Survey) -> Mapping[str, str]:
    options = survey.environ.get("NODE_OPTIONS")
    return {"NODE_OPTIONS": options} if options else {}


def _installed(repository: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield stamps of the programs, and what package managers write as they install."""
    yield from program_stamps(environ, "node", "npm")
    for folder in dependency_folders(repository):
        if folder.name == "node_modules":
            yield from map(stamp, (folder, *(folder / name for name in _INSTALLED)))


def _environment(check: Check, folders: Folders) -> Mapping[str, str]:
    preload = str(folders.tools / REPORTERS).replace("\\", "\\\\").replace('"', '\\"')
    existing = dict(check.environment).get("NODE_OPTIONS", "")
    return {
        "NODE_OPTIONS": f'{existing} --require="{preload}"'.strip(),
        "MIYABI_REPORTS": str(folders.reports),
        "npm_config_offline": "true",
        "npm_config_update_notifier": "false",
        "npm_config_fund": "false",
        "npm_config_audit": "false",
    }


def _read_report(name: str, data: bytes) -> TestReport | None:
    if name.startswith("jest-") and name.endswith(".json"):
        return read_jest(data)
    return read_junit(data, named_by_file=True) if name.startswith("mocha-") else None


def _reporters() -> str:
    return files("miyabi_cli.workspace.toolchains").joinpath(REPORTERS).read_text()


def _scripts(*stems: str) -> tuple[str, ...]:
    return tuple(f"{stem}.{ending}" for stem in stems for ending in ("[jt]s", "[jt]sx", "[cm][jt]s", "vue"))


JAVASCRIPT = Toolchain(
    name="javascript",
    recognised=("package.json",),
    find=find_javascript_checks,
    variables=_variables,
    environment=_environment,
    installed=_installed,
    files={REPORTERS: _reporters()},
    read_report=_read_report,
    found_no_test=lambda output: bool(_FOUND_NONE.search(output)),
    artifacts=(
        *("node_modules/", "*.tsbuildinfo", ".nyc_output/", "coverage/", ".eslintcache", ".vitest/", ".vite/"),
        *(".jest-cache/", ".parcel-cache/", ".turbo/", "npm-debug.log*"),
    ),
    tests=(*_scripts("*.test", "*.spec", "*-test", "*_test", "test", "tests"), "__tests__/", "__mocks__/", "*.snap"),
    configuration=(
        *("package.json", "jest.config.*", "jest.setup.*", "vitest.config.*", "vitest.workspace.*", "vitest.setup.*"),
        *("vite.config.*", ".mocharc*", "karma.conf.*", "tsconfig*.json", "playwright.config.*", "cypress.config.*"),
        *("babel.config.*", ".babelrc*", "eslint.config.*", ".eslintrc*", "setupTests.*", "jasmine.json", ".npmrc"),
    ),
    programs=(("node", "--version"), ("npm", "--version")),
)
