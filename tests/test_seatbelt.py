"""The sandbox of macOS as far as it can be seen without a Mac: the profile as a text, and what is run by which argv."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from miyabi_cli.errors import SandboxError
from miyabi_cli.workspace.policy import CLOSED, Policy
from miyabi_cli.workspace.sandbox import open_sandbox
from miyabi_cli.workspace.seatbelt import PROGRAM, UNTESTED, Profile, Seatbelt, open_seatbelt, profile_of
from tests.support.sandboxes import CANARY, Bench, make_bench

# Plays sandbox-exec: takes the profile and the parameters away, says them, runs the rest.
FAKE = """#!/bin/sh
log=$(dirname "$0")/log; : > "$log"
while :; do case $1 in
    -p) echo "$2" >> "$log.profile"; shift 2;;
    -D) echo "$2" >> "$log"; shift 2;;
    *) break;;
esac; done
exec "$@"
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "sandbox-exec").write_text(FAKE)
    (tmp_path / "sandbox-exec").chmod(0o755)
    return tmp_path / "sandbox-exec"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


def opened(bench: Bench, program: Path, policy: Policy = CLOSED) -> Seatbelt:
    return open_seatbelt(repository=bench.repository, environ=bench.environ, policy=policy, program=program)


def expressions(text: str) -> list[object]:
    """Read a profile as the Scheme that it is, so that nothing in it is taken for what it is not."""
    tokens = re.findall(r'"(?:\\.|[^"\\])*"|[()]|[^\s()"]+', text)
    stack: list[list[object]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            closed = stack.pop()
            stack[-1].append(closed)
        else:
            stack[-1].append(token)
    assert len(stack) == 1
    return stack[0]


def profile(*, network: bool = False, **paths: list[Path]) -> Profile:
    none: dict[str, list[Path]] = {"readable": [], "writable": [], "closed": [], "kept": []}
    return profile_of(**{**none, **paths}, network=network)


def test_all_is_denied_but_what_is_listed() -> None:
    rules = expressions(profile().text)
    assert rules[:2] == [["version", "1"], ["deny", "default"]]
    allowed = [rule for rule in rules if isinstance(rule, list) and rule[0] == "allow"]
    assert not any("file-write" in str(rule) or "network" in str(rule) for rule in allowed)
    assert ["allow", "file-read-metadata"] in allowed
    assert [rule for rule in allowed if "file-read*" in rule] == [["allow", "file-read*", ["literal", '"/"']]]


def test_what_is_closed_or_kept_comes_after_what_opens_it() -> None:
    """The last rule that matches is the one that decides."""
    made = profile(readable=[Path("/r")], writable=[Path("/w")], closed=[Path("/r/.ssh")], kept=[Path("/w/.git")])
    assert expressions(made.text)[-4:] == [
        ["allow", "file-read*", ["subpath", ["param", '"READ_0"']]],
        ["allow", "file-read*", "file-write*", ["subpath", ["param", '"WRITE_0"']]],
        ["deny", "file-read*", "file-write*", ["subpath", ["param", '"CLOSED_0"']]],
        ["deny", "file-write*", ["subpath", ["param", '"KEPT_0"']]],
    ]
    assert made.parameters == {"READ_0": "/r", "WRITE_0": "/w", "CLOSED_0": "/r/.ssh", "KEPT_0": "/w/.git"}


def test_the_network_is_opened_where_asked() -> None:
    assert "network" not in profile().text
    assert ["allow", "network*"] in expressions(profile(network=True).text)


@pytest.mark.parametrize(
    "name",
    ['a"))(allow file-write* (subpath "x', "a\\", 'a\\"', "a\n(allow default)\n", ";", "a) (allow default", "(param)"],
)
def test_a_hostile_path_is_no_part_of_the_profile(name: str) -> None:
    hostile, plain = (profile(writable=[Path("/work", part)], kept=[Path("/x", part)]) for part in (name, "plain"))
    assert hostile.text == plain.text
    arguments = hostile.arguments()
    assert arguments[2:] == ["-D", f"WRITE_0=/work/{name}", "-D", f"KEPT_0=/x/{name}"]


def test_a_command_runs_under_the_profile_of_its_place(bench: Bench, program: Path) -> None:
    sandbox = opened(bench, program)
    assert sandbox.kind == "sandbox-exec"
    assert UNTESTED in sandbox.warnings
    assert sandbox.inside(bench.place) == bench.place.tree
    outcome = asyncio.run(sandbox.run("pwd; env; ulimit -c", bench.place, workdir="package"))
    assert outcome.exit_code == 0
    assert outcome.output.startswith(f"{bench.place.tree}/package\n")
    assert CANARY not in outcome.output
    parameters = (program.parent / "log").read_text().splitlines()
    values = dict(line.split("=", 1) for line in parameters)
    writable = {value for name, value in values.items() if name.startswith("WRITE")}
    assert str(bench.place.tree) in writable
    assert values["KEPT_0"] == f"{bench.place.tree}/.git"
    opened_paths = [Path(value) for name, value in values.items() if name.startswith(("READ", "WRITE"))]
    for secret in (Path(bench.environ["HOME"], ".ssh"), bench.repository / ".git", Path("/private/etc/master.passwd")):
        assert not any(secret.is_relative_to(path) for path in opened_paths), secret
    for folder in ("/tmp", "/private/tmp", "/Library", "/Users", "/private/etc"):
        assert folder not in writable | set(map(str, opened_paths))


def test_what_can_not_be_asked_is_an_outcome(bench: Bench, program: Path) -> None:
    sandbox = opened(bench, program)
    assert asyncio.run(sandbox.run([], bench.place)).exit_code == 127
    assert asyncio.run(sandbox.run("true", bench.place, workdir="/etc")).exit_code == 126


def test_a_named_path_that_is_not_there_is_a_warning(bench: Bench, program: Path, tmp_path: Path) -> None:
    sandbox = opened(bench, program, Policy(readable=(tmp_path / "nowhere",)))
    assert sandbox.warnings[-1] == f"{tmp_path}/nowhere: not there, so the sandbox does not show it"


def test_one_that_does_not_work_is_refused(bench: Bench, program: Path, tmp_path: Path) -> None:
    program.write_text("#!/bin/sh\necho 'sandbox-exec: sandbox_apply: Operation not permitted' >&2; exit 71\n")
    for broken, said in ((program, "sandbox_apply: Operation not permitted"), (tmp_path / "gone", "No such file")):
        with pytest.raises(SandboxError, match=said) as refused:
            opened(bench, broken)
        assert "--sandbox off" in (refused.value.hint or "")


def test_it_is_chosen_on_macos_alone(bench: Bench) -> None:
    if PROGRAM.exists():
        pytest.skip("this is a Mac")
    with pytest.raises(SandboxError, match="no sandbox: sandbox-exec does not work here"):
        open_sandbox("auto", repository=bench.repository, environ=bench.environ, platform="darwin")
    assert bench.open().kind != "sandbox-exec"
