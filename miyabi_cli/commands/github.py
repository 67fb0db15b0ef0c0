"""What commands share of GitHub: a client for the repository at hand, tasks and results, a step's summary."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from miyabi_cli.commands.begun import Begun
from miyabi_cli.errors import MachineError, MiyabiError
from miyabi_cli.events import Event

if TYPE_CHECKING:
    from miyabi_cli.codegen.means import Means
    from miyabi_cli.codegen.publishing import Destination
    from miyabi_cli.codegen.request import CodegenRequest
    from miyabi_cli.codegen.result import CodegenResult
    from miyabi_cli.commands.requests import Asked
    from miyabi_cli.github.client import GitHub
    from miyabi_cli.redaction import Redactor
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.workspace.repository import Repository


async def find_github(repository: Repository, settings: Settings, tell: Callable[[str], None]) -> GitHub:
    """Return a client for the GitHub that a repository's remotes, or the variables of Actions, lead to; close it.

    Nothing is asked of it yet; `tell` hears of long waits. Raises GitHubError, SettingsError.
    """
    from miyabi_cli.github.client import GitHub
    from miyabi_cli.github.places import locate
    from miyabi_cli.github.tokens import find_token
    from miyabi_cli.workspace.remotes import read_remotes

    remotes = await asyncio.to_thread(read_remotes, repository)
    place = locate([url for remote in remotes for url in (remote.fetch_url, remote.url)], os.environ)
    configured = settings.github.token
    token = await find_token(place, configured.get_secret_value() if configured else None, os.environ)
    return GitHub.at(place, token, tell)


async def take_up(asked: Asked, means: Means, *, dry_run: bool) -> tuple[CodegenRequest, Destination | None]:
    """Return a request with its task, where that is an issue or feedback on a run, and where its result is to be
    published.
    """
    request, destination = asked.request, None
    if asked.came_from:
        from miyabi_cli.codegen.continuing import go_on_from
        from miyabi_cli.runs import find_at_rest

        request = await asyncio.to_thread(go_on_from, request, find_at_rest(asked.came_from), means)
    if means.github is None:
        return request, None
    from miyabi_cli.codegen.issue_task import with_issue
    from miyabi_cli.codegen.publishing import find_destination

    if asked.issue:
        request = await with_issue(request, means.github, asked.issue)
    if request.draft_pr and not dry_run:
        destination = await find_destination(means.github, means.repository, asked.request.base)
    return request, destination


async def publish_result(
    destination: Destination,
    request: CodegenRequest,
    result: CodegenResult,
    redactor: Redactor,
    emit: Callable[[Event], None],
) -> CodegenResult:
    """Open a draft pull request for a result; see `codegen.publishing.publish`."""
    from miyabi_cli.codegen.publishing import publish
    from miyabi_cli.report.pull_request import pull_request_text

    def describe(result: CodegenResult) -> tuple[str, str]:
        number = request.issue.number if request.issue else None
        return pull_request_text(redactor.redact(request.name), number, redactor.redact_data(result.data()))

    return await publish(destination, request, result, lambda event: emit(redactor.redact_data(event)), describe)


def result_in_summary(task: str, result: Mapping[str, Any], begun: Begun) -> None:
    """Put a result, the object of `--format json`, into the step's summary."""
    if os.environ.get("GITHUB_STEP_SUMMARY"):
        from miyabi_cli.report.step_summary import result_summary

        _append(result_summary(task, begun.redactor.redact_data(result)), begun)


@contextlib.contextmanager
def failure_in_summary(task: str, begun: Begun) -> Iterator[None]:
    """Put an error that ends the block into the step's summary."""
    try:
        yield
    except MiyabiError as error:
        if os.environ.get("GITHUB_STEP_SUMMARY"):
            from miyabi_cli.report.step_summary import error_summary

            _append(error_summary(task, error), begun)
        raise


def _append(text: str, begun: Begun) -> None:
    """Append to the step's summary; where it can't be written the run ends as it would."""
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.report.step_summary import append_summary

    try:
        append_summary(begun.redactor.redact(text))
    except MachineError as error:
        print(plain_text(error.message, "warning: "), file=sys.stderr)
