"""`miyabi codegen --tasks`: many tasks in one process, one result a line, and on from there where it was stopped."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.github import failure_in_summary, result_in_summary, take_up
from miyabi_cli.commands.means import Shared, means_of, open_shared
from miyabi_cli.commands.one_run import OneRun, exit_code
from miyabi_cli.commands.requests import Asked, asked, recorded_task
from miyabi_cli.commands.unforeseen import explain
from miyabi_cli.errors import BudgetReached, MachineError, MiyabiError, ProviderError, UsageError
from miyabi_cli.events import Event
from miyabi_cli.exits import ExitCode
from miyabi_cli.messages import Usage

if TYPE_CHECKING:
    from miyabi_cli.codegen.backlog import Backlog, BacklogTask
    from miyabi_cli.commands.task_results import TaskResults
    from miyabi_cli.report.tasks import TaskProgress
    from miyabi_cli.runs import Run

Line = dict[str, Any]

# The kinds of errors that are no task's own: so many in a row, and the others are not tried.
COMMON = ("provider_unreachable", "provider_refused", "provider_overloaded", "sandbox", "machine")
MOST_IN_A_ROW = 3
# Of the tasks' exit codes the first of these is that of all.
WORST_FIRST = (ExitCode.BUG, ExitCode.LIMIT, ExitCode.MACHINE, ExitCode.PROVIDER, ExitCode.USAGE)


def run_tasks(source: str, values: Mapping[str, Any], given: Collection[str], begun: Begun) -> int:
    """Do the tasks of a file, or of stdin for `-`, with the flags of the command line; return the exit code.

    Nothing is done where a line is wrong (UsageError). What a task ends with is on its line, and does not stop the
    others; but where several in a row end by what is no task's own (MiyabiError) the rest is not begun.
    """
    from miyabi_cli.codegen.backlog import Backlog
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.report.tasks import TaskProgress, task_line

    streams = open_streams(None, color=values["color"], quiet=values["quiet"], verbose=values["verbose"])
    with contextlib.ExitStack() as cleanup:
        file = cleanup.enter_context(_opened(source))
        backlog = cleanup.enter_context(Backlog(file, lambda task: _asked(task, values, given)))
        common = asked({**values, "task": ""}, given)
        results = cleanup.enter_context(_results(values["output"], source)) if values["output"] else None

        def show(line: Line) -> None:
            if results is not None:
                results.write(line)
            else:
                text = json.dumps(line, separators=(",", ":")) if values["format"] != "text" else task_line(line)
                print(text, file=streams.output, flush=True)

        batch = _Batch(values, given, begun, TaskProgress(streams, backlog.count), show, results)
        with failure_in_summary(f"the tasks of {source}", begun):
            run_async(batch.run(backlog, common))
        return batch.tally.exit_code


@contextlib.contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise MachineError(f"can't read {source}: {error.strerror}", hint="--tasks FILE, or - for stdin") from None
    with file:
        yield file


def _results(path: Path, source: str) -> TaskResults:
    from miyabi_cli.commands.task_results import TaskResults

    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UsageError(f"--tasks and --output are both {path}", hint="--output names a file of its own")
    return TaskResults(path)


def _asked(
    task: BacklogTask, values: Mapping[str, Any], given: Collection[str], recorded: Mapping[str, Any] | None = None
) -> Asked:
    """Return what a line asks for: what it does not say is as on the command line. `recorded` is a stopped run's."""
    own = {
        "issue": task.issue,
        "base": task.base,
        "check": list(task.check) or None,
        "branch": task.branch,
        "attempts": task.attempts,
        "from_": task.from_run,
    }
    said = {name: value for name, value in own.items() if value is not None}
    alone: dict[str, Any] = {"jobs": 1, "patch": None}
    if task.base or task.from_run:
        alone["include_uncommitted"] = False
    if recorded is not None:
        alone |= {**recorded, "issue": None, "from_": None}
    return asked({**values, "task": task.task or "", **said, **alone}, [*given, *said])


@dataclass(frozen=True, slots=True)
class _Stopped:
    """A run of an earlier process, and its task as its log has it."""

    run: Run
    recorded: dict[str, Any]


@dataclass(slots=True)
class _Tally:
    """What became of the tasks so far; `in_a_row` counts those that ended by the same, which is no task's own."""

    codes: set[int] = field(default_factory=set)
    in_a_row: int = 0
    last: str = ""

    def take(self, code: int, kind: str) -> bool:
        """Count a task with its exit code, and the kind of what is not its own; say whether there is no use in more."""
        self.codes.add(code)
        self.in_a_row = self.in_a_row + 1 if kind and kind == self.last else 1 if kind else 0
        self.last = kind
        return self.in_a_row >= MOST_IN_A_ROW

    @property
    def exit_code(self) -> ExitCode:
        """Return the worst task's."""
        worst = next((code for code in WORST_FIRST if code in self.codes), ExitCode.NOT_GOOD_ENOUGH)
        return worst if self.codes - {ExitCode.OK} else ExitCode.OK


@dataclass(slots=True)
class _Batch:
    """Tasks that are done side by side; `show` is given each one's line."""

    values: Mapping[str, Any]
    given: Collection[str]
    begun: Begun
    progress: TaskProgress
    show: Callable[[Line], None]
    results: TaskResults | None
    tally: _Tally = field(default_factory=_Tally)

    async def run(self, backlog: Backlog, common: Asked) -> None:
        """Do all tasks that have no result yet, `jobs` at a time. Raises MiyabiError where there is no use in more."""
        if self._skip_done(backlog):
            return
        on_github = self.values["draft_pr"] or any(task.issue for task in backlog)
        folder = common.request.folder
        opened = open_shared(folder, common.chosen, common.config, self.progress.show, self.begun, on_github=on_github)
        async with opened as shared:
            await shared.access.servers.provider()  # what is wrong with its settings is not every task's
            left = (task for task in backlog if not (self.results and self.results.is_done(task)))
            failure: Exception | None = None
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.values["jobs"]):
                        group.create_task(self._work(left, shared))
            except* Exception as failed:
                failure = failed.exceptions[0]
            if failure is not None:
                raise failure

    def _skip_done(self, backlog: Backlog) -> bool:
        """Count the tasks that have their results; say whether those are all."""
        results = self.results
        codes = [results.finished[task.id].exit_code for task in backlog if results.is_done(task)] if results else []
        self.tally.codes.update(codes)
        if codes:
            self.progress.skipped(len(codes), sum(code != ExitCode.OK for code in codes))
        return len(codes) == backlog.count

    async def _work(self, left: Iterator[BacklogTask], shared: Shared) -> None:
        for task in left:
            line, error = await self._do(task, shared)
            self.show(line)
            self.progress.ended(line)
            if self.tally.take(line["exit_code"], _common(line)):
                raise _given_up(line, error)

    async def _do(self, task: BacklogTask, shared: Shared) -> tuple[Line, Exception | None]:
        """Do one task; return its line, and what ended it."""
        from miyabi_cli.runs import new_run_id

        started = time.monotonic()
        begun = Begun(redactor=shared.access.redactor)
        stopped = self._stopped(task)
        run_id = stopped.run.run_id if stopped else new_run_id()
        head: Line = {"id": task.id, "digest": task.digest, "run_id": run_id}
        try:
            asked = _asked(task, self.values, self.given, stopped.recorded if stopped else None)
            result = None if stopped is None or stopped.run.can_go_on else stopped.run.result
            if result is None:
                self.progress.started(task.id, run_id, goes_on=stopped is not None)
                with failure_in_summary(task.task or f"issue {task.issue}", begun):
                    result = await self._new_result(task, asked, shared, run_id, begun, resume=stopped is not None)
        except Exception as error:
            failure = explain(error, begun)
            usage = error.usage if isinstance(error, ProviderError) else Usage()
            message = shared.access.redactor.redact(failure.message)
            told = {"kind": failure.kind, "message": message, "hint": failure.hint}
            line: Line = {**head, "run_id": begun.run_id, "status": "error", "exit_code": int(failure.code)}
            line |= {"branch": None, "commit": None, "summary": "", "tests_added": 0, "warnings": []}
            line |= {"usage": dataclasses.asdict(usage), "seconds": round(time.monotonic() - started, 3), "error": told}
            return line, error
        line = {**head, "status": result["status"], "exit_code": int(exit_code(result["status"], asked.request))}
        named = ("branch", "commit", "summary", "tests_added", "warnings", "usage", "seconds")
        line |= {name: result[name] for name in named} | {"error": None}
        if "pull_request" in result:
            line["pull_request"] = result["pull_request"]
        return line, None

    def _stopped(self, task: BacklogTask) -> _Stopped | None:
        """Return the run that a task had when its process was stopped, if it can go on or has its result."""
        from miyabi_cli.codegen.earlier import read_earlier
        from miyabi_cli.commands.task_results import is_final
        from miyabi_cli.runs import find_at_rest, read_log

        run_id = self.results.begun(task) if self.results else None
        if run_id is None:
            return None
        try:
            run = find_at_rest(run_id)
            earlier = read_earlier(run_id, read_log(run.directory))
            if earlier is not None and (run.can_go_on or (run.result and is_final(run.result))):
                return _Stopped(run, recorded_task(run, earlier.options))
        except MiyabiError:  # it is gone or damaged, or somebody goes on with it elsewhere
            pass
        return None

    async def _new_result(
        self, task: BacklogTask, asked: Asked, shared: Shared, run_id: str, begun: Begun, *, resume: bool
    ) -> dict[str, Any]:
        from miyabi_cli.events import WarningRaised
        from miyabi_cli.relay import Relay

        def told(event: Event, _kept: object = None) -> None:
            self.progress.show(event, task.id)

        warn = Relay(lambda kind, what: told(WarningRaised(kind, "", shared.access.redactor.redact(what))))
        means = await means_of(shared, asked.request, run_id, warn)
        request, destination = await take_up(asked, means, dry_run=False)
        if self.results:
            self.results.begin(task, run_id)
        run = OneRun(request, means, destination, run_id, begun, told, lambda _patch: None)
        result = (await run.do(resume=resume)).data()
        result_in_summary(request.name, result, begun)
        return result


def _common(line: Line) -> str:
    """Return the kind of what ended a task if that is no task's own: a server that is away, a cap that is reached."""
    if line["error"]:
        return line["error"]["kind"] if line["error"]["kind"] in COMMON else ""
    return "limit" if line["status"] == "limit" and not line["usage"]["requests"] else ""


def _given_up(line: Line, error: Exception | None) -> MiyabiError:
    """Return the error that ends all tasks, for the last of those that ended by the same."""
    many = f"{MOST_IN_A_ROW} tasks in a row"
    hint = "with --output FILE the same command goes on with the tasks that are left"
    if isinstance(error, MiyabiError):
        return type(error)(f"{many}: {error.message}", hint=error.hint or hint)
    if error is not None:
        return MachineError(f"{many}: {line['error']['message']}", hint=hint)
    return BudgetReached(f"{many}: {line['summary']}", hint=hint)
