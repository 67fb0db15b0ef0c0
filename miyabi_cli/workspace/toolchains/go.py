"""Go: go test and go vet, offline."""

from __future__ import annotations

import re
from collections.abc import Mapping

from miyabi_cli.workspace.check_records import Check, CheckPlan, Survey
from miyabi_cli.workspace.runners.go_test import go_found_no_test, read_go_test, shown_go_test
from miyabi_cli.workspace.toolchains.manifests import check_in, folders_with, has_program, left_out, program_stamps
from miyabi_cli.workspace.toolchains.toolchain import Folders, Toolchain

_OTHER_COMMAND = re.compile(r"\bgo\s+(?:vet|build|install|run|generate|list)\b")


def find_go_checks(survey: Survey) -> CheckPlan:
    """Return the checks of the module nearest to the tree's top, of all modules where a go.work names them."""
    folders = folders_with(survey, "go.mod")
    if not folders:
        return CheckPlan()
    if not has_program(survey, "go"):
        return CheckPlan((), ("the Go code is not checked: there is no go on PATH",))
    folder = folders[0]
    checks = [check_in(folder, "go vet", "go vet ./...")]
    if any(path.endswith("_test.go") for path in survey.files):
        checks.insert(0, check_in(folder, "go test", "go test -json ./..."))
    # `./...` ends where another module begins
    nested = tuple(other for other in folders if other != folder)
    return CheckPlan(tuple(checks), left_out("Go modules", "-", nested))


def _variables(survey: Survey) -> Mapping[str, str]:
    flags = survey.environ.get("GOFLAGS")
    return {"GOFLAGS": flags} if flags else {}


def _environment(check: Check, folders: Folders) -> Mapping[str, str]:
    # the versions of what is built are nobody's business here, and to find them out git is asked
    flags = [dict(check.environment).get("GOFLAGS", ""), "-buildvcs=false"]
    if not _OTHER_COMMAND.search(check.command):
        flags.append("-v")  # so that `go test` names its tests, also where a `make test` calls it
    return {
        "GOFLAGS": " ".join(filter(None, flags)),
        "GOPROXY": "off",
        "GOCACHE": str(folders.builds / "go"),
    }


GO = Toolchain(
    name="go",
    recognised=("go.mod", "go.work"),
    find=find_go_checks,
    variables=_variables,
    environment=_environment,
    installed=lambda _repository, environ: program_stamps(environ, "go"),
    read_output=read_go_test,
    found_no_test=go_found_no_test,
    shown_output=shown_go_test,
    artifacts=("cover.out", "coverage.out", "*.coverprofile", "__debug_bin*"),
    tests=("*_test.go", "testdata/"),
    configuration=("go.work", ".golangci.*"),
    programs=(("go", "version"),),
)
