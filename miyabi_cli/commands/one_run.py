"""One run of codegen with its log: from a request to a result, each event told as it is kept."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from miyabi_cli.commands.begun import Begun
from miyabi_cli.commands.github import publish_result
from miyabi_cli.events import TRANSIENT, Event, ReplyReceived, RunEnded, RunResumed
from miyabi_cli.exits import ExitCode

if TYPE_CHECKING:
    from miyabi_cli.codegen.means import Means
    from miyabi_cli.codegen.publishing import Destination
    from miyabi_cli.codegen.request import CodegenRequest
    from miyabi_cli.codegen.result import CodegenResult, Status
    from miyabi_cli.runs import RunLog


@dataclass(frozen=True, slots=True)
class OneRun:
    """A run that is to be done. `told` hears of each event, with its data where it is one that the log keeps;
    `write_patch` is given the patch of the result.
    """

    request: CodegenRequest
    means: Means
    destination: Destination | None
    run_id: str
    begun: Begun
    told: Callable[[Event, dict[str, Any] | None], None]
    write_patch: Callable[[bytes], None]

    async def do(self, *, resume: bool = False) -> CodegenResult:
        """Do the run, or go on with it where it was stopped."""
        from miyabi_cli.codegen.earlier import read_earlier
        from miyabi_cli.codegen.result import CodegenResult
        from miyabi_cli.codegen.run import run_codegen
        from miyabi_cli.runs import PATCH, START, find_run, open_log, read_log, read_patch

        request, redactor = self.request, self.means.redactor
        with open_log(self.run_id, redactor.redact, resume=resume) as log:
            self.begun.run_id = self.run_id
            if request.continued and not resume:
                log.keep(START, request.continued.patch)
            earlier = read_earlier(self.run_id, read_log(log.directory, strict=True)) if resume else None
            goes_on = earlier is not None and any(part.steps for part in earlier.attempts.values())

            def emit(event: Event) -> None:
                if isinstance(event, ReplyReceived) or (goes_on and isinstance(event, RunResumed)):
                    self.begun.can_go_on = True
                self.told(event, None if isinstance(event, TRANSIENT) else log.write(event))

            conclude = functools.partial(self._conclude, log)
            keep = functools.partial(log.keep, PATCH)
            run = find_run(self.run_id) if resume else None
            if run and run.result and run.unpublished:
                result = CodegenResult.of(run.result, read_patch(run.directory))
            else:
                result = await run_codegen(
                    request, self.means, run_id=self.run_id, emit=emit, keep=keep, conclude=conclude, earlier=earlier
                )
            if self.destination:
                result = await publish_result(self.destination, request, result, redactor, emit)
                conclude(result)
            data = result.data()
            ended = RunEnded(data)
            self.told(ended, {**log.write(RunEnded(redactor.redact_data(data))), "result": data})
            return result

    def _conclude(self, log: RunLog, result: CodegenResult) -> None:
        from miyabi_cli.runs import RESULT

        self.write_patch(result.patch_bytes)
        log.keep(RESULT, json.dumps(result.data(), indent=2).encode())
        self.begun.can_go_on = False


def exit_code(status: Status, request: CodegenRequest) -> ExitCode:
    """Return what a result's status means to the caller."""
    from miyabi_cli.codegen.delivery import succeeded

    if succeeded(status, request):
        return ExitCode.OK
    return ExitCode.LIMIT if status == "limit" else ExitCode.NOT_GOOD_ENOUGH
