"""C and C++: CMake with ctest, and Makefiles that have a target for tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from miyabi_cli.workspace.check_records import Check, CheckPlan, Survey
from miyabi_cli.workspace.runners.ctest import ctest_found_no_test, read_ctest
from miyabi_cli.workspace.runners.junit import merge_reports
from miyabi_cli.workspace.runners.lines import read_test_lines
from miyabi_cli.workspace.toolchains.manifests import check_in, folders_with, has_program, in_folder, program_stamps
from miyabi_cli.workspace.toolchains.toolchain import Folders, Toolchain

_ENDINGS = ("c", "cc", "cpp", "cxx", "c++", "h", "hh", "hpp", "hxx")
_SOURCES = tuple(f"*.{ending}" for ending in _ENDINGS)
_CTEST = re.compile(
    r"^\s*(?:enable_testing|add_test|gtest_discover_tests|catch_discover_tests|doctest_discover_tests)\s*\("
    r"|^\s*include\s*\(\s*CTest\s*\)",
    re.MULTILINE | re.IGNORECASE,
)
_TARGET = re.compile(r"^(?P<name>test|tests|check):(?!=)", re.MULTILINE)
_COMPILER = re.compile(r"\$[({](?:CC|CXX|LINK\.\w+|COMPILE\.\w+)[)}]|\b(?:gcc|g\+\+|clang|clang\+\+|cc|c99|c\+\+)\s")
_OTHER_RUNNER = re.compile(r"\b(?:pytest|unittest|tox|cargo|go (?:test|vet)|npm|npx|yarn|pnpm)\b")
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_MAXIMUM_READ = 200  # files that are looked into


def find_c_checks(survey: Survey) -> CheckPlan:
    """Return ctest for a CMake project that has tests, else the Makefile's target for tests."""
    folders = folders_with(survey, "CMakeLists.txt")
    if folders and _has_ctest(survey):
        return _cmake_checks(survey, folders[0])
    for name in _MAKEFILES:
        for folder in folders_with(survey, name)[:1]:
            if target := _test_target(survey.text(in_folder(folder, name))):
                return _make_checks(survey, folder, target)
    return CheckPlan()


def _has_ctest(survey: Survey) -> bool:
    paths = [path for path in survey.files if path.endswith(("CMakeLists.txt", ".cmake"))]
    return any(_CTEST.search(survey.text(path)) for path in paths[:_MAXIMUM_READ])


def _cmake_checks(survey: Survey, folder: str) -> CheckPlan:
    missing = [program for program in ("cmake", "ctest") if not has_program(survey, program)]
    if missing:
        return CheckPlan((), (f"the CMake project is not checked: there is no {missing[0]} on PATH",))
    source, build = shlex.quote(folder or "."), '"${MIYABI_BUILD:-build}"'
    configure = f"cmake -S {source} -B {build}"
    compile_ = f"cmake --build {build} --parallel 4"
    test = f"ctest --test-dir {build} --output-on-failure"
    return CheckPlan((Check("ctest", f"{configure} && {compile_} && {test}"),))


def _test_target(makefile: str) -> str:
    """Return the target for tests of a Makefile that compiles C and leaves its tests to no other language's runner."""
    if not _COMPILER.search(makefile) or _OTHER_RUNNER.search(makefile):
        return ""
    names = {match["name"] for match in _TARGET.finditer(makefile)}
    return next((name for name in ("test", "check", "tests") if name in names), "")


def _make_checks(survey: Survey, folder: str, target: str) -> CheckPlan:
    if not has_program(survey, "make"):
        return CheckPlan((), ("the Makefile's tests are not run: there is no make on PATH",))
    return CheckPlan((check_in(folder, f"make {target}", f"make {target}"),))


def _environment(_check: Check, folders: Folders) -> Mapping[str, str]:
    return {
        # a build folder knows its own path, so it is not one of those that are copied
        "MIYABI_BUILD": str(folders.leftovers / "cmake"),
        "CTEST_OUTPUT_ON_FAILURE": "1",
    }


def _patterns(*stems: str) -> tuple[str, ...]:
    return tuple(f"{stem}.{ending}" for stem in stems for ending in _ENDINGS)


C = Toolchain(
    name="c",
    recognised=("CMakeLists.txt", *_SOURCES),
    find=find_c_checks,
    environment=_environment,
    installed=lambda _repository, environ: program_stamps(environ, "cc", "c++", "make", "cmake", "ctest"),
    read_output=lambda output: merge_reports([read_ctest(output), read_test_lines(output)]),
    found_no_test=ctest_found_no_test,
    artifacts=(
        *("*.o", "*.obj", "*.gcda", "*.gcno", "CMakeFiles/", "CMakeCache.txt", "cmake_install.cmake"),
        *("CTestTestfile.cmake", "cmake-build-*/", "install_manifest.txt"),
    ),
    tests=_patterns("test", "tests", "test_*", "*_test", "*_tests"),
    configuration=("CMakeLists.txt", "*.cmake", "CMakePresets.json", "meson.build", "Makefile.in", "Makefile.am"),
    programs=(("cc", "--version"), ("make", "--version"), ("cmake", "--version")),
)
