"""The few lines of a failed check that a model needs: small models read slowly, so every line has to tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from miyabi_cli.workspace.check_records import CheckRun, TestFailure

_TESTS = 5
_FRAMES = 3
_MESSAGE_LINES = 12
_WIDTH = 200
_NOISE = re.compile(
    r"^[\s=\-_~^*#+.!?]*$|^(?:rootdir|plugins|platform|cachedir|configfile|testpaths)\b.*|^\W*[Uu]se '?-vv?'? to .*"
    r"|^note: run with `RUST_BACKTRACE=1`.*"
)
_PYTEST_FRAME = re.compile(r"^(?P<path>[^\s:][^:\n]*):(?P<line>\d+): (?:in (?P<function>.+)|[\w.]+)$")
_NODE_FRAME = re.compile(
    r"^ {1,20}(?:at|\u276f) (?:(?P<function>[^(\n]{1,200}) \()?(?P<path>[^\s():]{1,500}):(?P<line>\d{1,9}):\d{1,9}\)?$"
)
_PYTHON_FRAME = re.compile(r'^\s*File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_FINDING = re.compile(r"^[^\s:][^:\n]*:\d+(?::\d+)?: .+")
_PLACE = re.compile(r"^\S+:\d+( in .+)?$")
_FOREIGN = ("site-packages", "dist-packages", "lib/python", "<frozen", "importlib/", "node_modules/", "node:")


def failure_digest(run: CheckRun, limit_bytes: int = 2_000) -> str:
    """Return what failed in a check, in at most `limit_bytes` of UTF-8; "" for a check that did not fail.

    Where the runner reported tests: of the first five failures the name, the innermost frames in the repository's own
    files and the assertion; failures that differ in their name alone are told once. Of a linter or a compiler the
    lines that name a place, otherwise the end of the output.
    """
    if run.status != "fail":
        return ""
    if run.failures:
        lines = _of_tests(run, limit_bytes)
    elif findings := [line for line in run.output.splitlines() if _is_finding(line)]:
        lines = [f"{run.name} fails:", *findings]
    else:
        kept = [line for line in run.output.splitlines() if not _NOISE.match(line)]
        return _tail([f"{run.name} fails: exit code {run.exit_code}"], kept, limit_bytes)
    if not run.conclusive:
        lines.append(run.output.rpartition("\n")[2])
    return _head(lines, limit_bytes)


def brief_failure(runs: Sequence[CheckRun], lines: int = 4) -> str:
    """Return the first failing test's name, the line that failed and what was raised; "" without a failing test."""
    for run in runs:
        for failure in run.failures:
            trace = [line.strip() for line in _trace(failure)]
            told = [line for line in trace if not _PLACE.match(line)][-(lines - 1) :]
            return "\n".join([f"{failure.name.rpartition('::')[2]}:", *told])
    return ""


def _of_tests(run: CheckRun, limit_bytes: int) -> list[str]:
    groups = _grouped(run.failures)
    failed = sum(status == "fail" for status in run.tests.values())
    lines = [f"{run.name}: {failed} of {len(run.tests)} tests fail" if failed else f"{run.name} fails:"]
    shown = groups[:_TESTS]
    share = max(120, limit_bytes // max(1, len(shown)))
    for names, trace in shown:
        lines += _head([_names(names), *trace], share).splitlines()
    told = {name for names, _ in shown for name in names}
    left = list(dict.fromkeys(failure.name for failure in run.failures if failure.name not in told))
    return [*lines, f"and {len(left)} more: {_names(left)}"] if left else lines


def _grouped(failures: Iterable[TestFailure]) -> list[tuple[list[str], tuple[str, ...]]]:
    """Return the failures by what they tell: one parametrised test often fails many times in one way."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for failure in failures:
        groups.setdefault(_trace(failure), []).append(failure.name)
    return [(names, trace) for trace, names in groups.items()]


def _names(names: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return ", ".join(distinct[:3])[:_WIDTH] + more


def _trace(failure: TestFailure) -> tuple[str, ...]:
    """Return the last frames in files of the repository, each with its line of code, and what was raised there."""
    frames: list[tuple[str, ...]] = []
    asserted: list[str] = []
    for line in failure.details.splitlines():
        if frame := _PYTHON_FRAME.match(line) or _PYTEST_FRAME.match(line):
            frames.append((_told(frame),))
            asserted = []
        elif frame := _NODE_FRAME.match(line):  # after what was raised, the innermost first
            frames.insert(0, (_told(frame),))
        elif line.startswith("E "):
            asserted.append(line[1:].strip())
        elif line.startswith("    ") and frames and len(frames[-1]) == 1 and not asserted:
            frames[-1] = (*frames[-1], f"    {line.strip()}")
        elif not _NOISE.match(line) and not line.startswith(("Traceback ", "    ")):
            asserted.append(line.rstrip())
    own = [frame for frame in frames if _is_own(frame[0])] or frames
    message = asserted or failure.message.splitlines()
    told = [f"  {line}" for line in message if not _NOISE.match(line)][:_MESSAGE_LINES]
    return tuple(line[:_WIDTH] for line in (*(line for frame in own[-_FRAMES:] for line in frame), *told))


def _told(frame: re.Match[str]) -> str:
    function = f" in {frame['function']}" if frame["function"] else ""
    return f"  {frame['path']}:{frame['line']}{function}"


def _is_own(frame: str) -> bool:
    path = frame.strip()
    return not any(part in path for part in _FOREIGN) and not PurePosixPath(path).is_absolute()


def _is_finding(line: str) -> bool:
    """Say whether a line is a linter's or a compiler's finding: `path:line: text`, but for mypy's notes."""
    return bool(_FINDING.match(line)) and ": note: " not in line


def _head(lines: Sequence[str], limit_bytes: int) -> str:
    """Return the first lines that fit, and how many are left out."""
    kept: list[str] = []
    used = 0
    for number, line in enumerate(lines):
        used += len(line.encode()) + 1
        if used > limit_bytes:
            ending = f"… {len(lines) - number} more lines"
            while kept and len("\n".join([*kept, ending]).encode()) > limit_bytes:
                kept.pop()
            return _cut("\n".join([*kept, ending]), limit_bytes)
        kept.append(line)
    return "\n".join(kept)


def _tail(head: Sequence[str], lines: Sequence[str], limit_bytes: int) -> str:
    """Return the head and the last lines that fit."""
    kept: list[str] = []
    used = sum(len(line.encode()) + 1 for line in head)
    for line in reversed(lines):
        short = line[:_WIDTH]
        used += len(short.encode()) + 1
        if used > limit_bytes:
            break
        kept.append(short)
    return _cut("\n".join([*head, *reversed(kept)]), limit_bytes)


def _cut(text: str, limit_bytes: int) -> str:
    return text.encode()[: max(0, limit_bytes)].decode(errors="ignore")
