"""Opens all that a review needs, does it, and shows or posts its result."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from miyabi_cli.commands import flags
from miyabi_cli.commands.begun import Begun
from miyabi_cli.errors import ProviderError, RepositoryError, SettingsError
from miyabi_cli.events import Event, ProgressMade, WarningRaised
from miyabi_cli.exits import ExitCode

if TYPE_CHECKING:
    from miyabi_cli.commands.access import Access
    from miyabi_cli.github.client import GitHub
    from miyabi_cli.llm.provider import Provider
    from miyabi_cli.redaction import Redactor
    from miyabi_cli.report.streams import Streams
    from miyabi_cli.review.change import Change
    from miyabi_cli.review.findings import SourceResult
    from miyabi_cli.review.means import ReviewMeans, Source
    from miyabi_cli.review.result import ReviewResult
    from miyabi_cli.review.selecting import Selection
    from miyabi_cli.settings.schema import Settings
    from miyabi_cli.workspace.repository import Repository
    from miyabi_cli.workspace.workspaces import Workspace


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for."""

    selection: Selection
    folder: Path
    chosen: dict[str, Any]
    config: Path | None
    llm: bool
    linters: bool
    fail_on: Literal["error", "warning", "note"] | None
    baseline: Path | None
    write_baseline: Path | None
    suggest: bool
    post: bool
    also: tuple[tuple[str, Path], ...]
    written: tuple[Path, ...]
    cost_capped: bool


async def do_review(asked: Asked, form: str, streams: Streams, begun: Begun) -> int:
    """Open all that a review needs, do it, show the result; return the exit code."""
    from miyabi_cli.commands.access import open_access
    from miyabi_cli.report.progress import Progress
    from miyabi_cli.report.reviews import write_review
    from miyabi_cli.report.streams import open_streams
    from miyabi_cli.review.baseline import read_baseline, write_baseline
    from miyabi_cli.review.hiding import hider_of
    from miyabi_cli.runs import new_run_id
    from miyabi_cli.workspace.repository import secrets_in_configuration

    run_id = begun.run_id = new_run_id()
    accepted = read_baseline(asked.baseline) if asked.baseline else frozenset()
    repository = await asyncio.to_thread(_repository, asked)
    settings = flags.resolve_settings(asked.chosen, asked.config, repository.root if repository else None)
    secrets = [*await asyncio.to_thread(secrets_in_configuration, repository)] if repository else []
    progress = Progress(streams)
    async with contextlib.AsyncExitStack() as opened:
        opened.callback(progress.close)
        github = await _github(asked, repository, settings, progress.show, begun)
        if github:
            opened.push_async_callback(github.close)
            secrets += [(github.token.name, github.token.value)] if github.token else []
        access = await opened.enter_async_context(open_access(settings, progress.show, begun, secrets))
        workspace = opened.enter_context(_workspace(repository, run_id, settings))
        # threads go on when who waits for them is cancelled: what they still write must not outlive the workspace
        opened.push_async_callback(asyncio.get_running_loop().shutdown_default_executor)
        change, means = await _change_and_means(workspace, asked, github, access, progress.show)
        result = await _review(asked, change, means, access, run_id, accepted)
        progress.close()
        if asked.write_baseline:
            write_baseline(asked.write_baseline, result.findings)
        shown = hider_of(result.secrets).change(change)
        data = access.redactor.redact_data(result.data())
        write_review(data, form, streams, shown)
        begun.result_begins()
        for other, file in asked.also:
            with contextlib.closing(open_streams(file, color="never", quiet=True, verbose=False).output) as opened_file:
                write_review(data, other, replace(streams, output=opened_file, color="never"), shown)
        if asked.post and github:
            await _post(github, change, result, access.redactor, means.warn)
        return _exit_code(result)


async def _change_and_means(
    workspace: Workspace | None, asked: Asked, github: GitHub | None, access: Access, show: Callable[[Event], None]
) -> tuple[Change, ReviewMeans]:
    """Read the change while the sandbox is tried out."""
    opening = asyncio.ensure_future(asyncio.to_thread(_means, access, workspace, show, asked))
    try:
        change = await _change(workspace, asked, github)
    finally:
        await asyncio.gather(opening, return_exceptions=True)
    return change, opening.result()


async def _review(
    asked: Asked, change: Change, means: ReviewMeans, access: Access, run_id: str, accepted: frozenset[str]
) -> ReviewResult:
    from miyabi_cli.review.result import Gate
    from miyabi_cli.review.run import MODEL, ReviewPlan, run_review, without_provider

    sources = _sources(asked)
    if asked.llm and change.reviewed:
        try:
            means = replace(means, provider=await _provider(asked, access, means, run_id))
            from miyabi_cli.review.model.source import find

            sources[MODEL] = find
        except ProviderError as error:
            failed = error

            async def fail(_change: Change, _means: ReviewMeans) -> SourceResult:
                return await without_provider(failed)

            sources[MODEL] = fail
    gate = Gate(access.settings.review.fail_under, asked.fail_on)
    return await run_review(
        change, means, ReviewPlan(run_id, sources, gate, accepted, explained=asked.llm, suggested=asked.suggest)
    )


def _sources(asked: Asked) -> dict[str, Source]:
    from miyabi_cli.review.hidden_characters import find_hidden_characters
    from miyabi_cli.review.linting import find_by_linters
    from miyabi_cli.review.secrets import find_secrets

    linters: dict[str, Source] = {"linters": find_by_linters} if asked.linters else {}
    return {**linters, "secrets": find_secrets, "unicode": find_hidden_characters}


async def _provider(asked: Asked, access: Access, means: ReviewMeans, run_id: str) -> Provider:
    repository = str(means.checkouts.repository.root) if means.checkouts else ""
    return await access.provider("review", run_id, repository=repository, cost_capped=asked.cost_capped)


def _means(access: Access, workspace: Workspace | None, show: Callable[[Event], None], asked: Asked) -> ReviewMeans:
    from miyabi_cli.review.checkouts import Checkouts
    from miyabi_cli.review.means import ReviewMeans
    from miyabi_cli.workspace.policy import policy_of
    from miyabi_cli.workspace.sandbox import open_sandbox

    settings = access.settings
    sandbox = None
    if workspace is not None and (asked.linters or asked.suggest):
        policy = policy_of(settings.sandbox, settings.limits)
        root = workspace.repository.root
        sandbox = open_sandbox(settings.sandbox.mode, repository=root, environ=access.environ, policy=policy)
    redact = access.redactor.redact

    def tell(what: str) -> None:
        show(ProgressMade(redact(what)))

    def warn(kind: str, what: str) -> None:
        show(WarningRaised(kind, "", redact(what)))

    return ReviewMeans(
        settings=settings,
        environ=access.environ,
        checkouts=Checkouts(workspace, tuple(settings.worktree.include)) if workspace else None,
        sandbox=sandbox,
        redactor=access.redactor,
        deadline=time.monotonic() + settings.limits.seconds,
        tell=tell,
        warn=warn,
    )


def _repository(asked: Asked) -> Repository | None:
    """Return the repository, None where a diff is reviewed outside of any."""
    from miyabi_cli.workspace.repository import open_repository

    try:
        return open_repository(asked.folder, unborn=True)
    except RepositoryError:
        if asked.selection.diff is None:
            raise
        return None


@contextlib.contextmanager
def _workspace(repository: Repository | None, run_id: str, settings: Settings) -> Iterator[Workspace | None]:
    from miyabi_cli.workspace.workspaces import open_workspace

    if repository is None:
        yield None
        return
    with open_workspace(repository, run_id, settings.worktree.path) as workspace:
        yield workspace


async def _github(
    asked: Asked, repository: Repository | None, settings: Settings, show: Callable[[Event], None], begun: Begun
) -> GitHub | None:
    """Return a client for GitHub where a pull request is reviewed. Raises SettingsError where it could not post."""
    if asked.selection.pull_request is None or repository is None:
        return None
    from miyabi_cli.commands.github import find_github

    def waits(what: str) -> None:
        show(WarningRaised("github", "", begun.redactor.redact(what)))

    github = await find_github(repository, settings, waits)
    if asked.post and github.token is None:  # told before a model is paid for what can't be posted
        await github.close()
        hint = "set GITHUB_TOKEN, or run gh auth login"
        raise SettingsError(f"--post needs a token for {github.place.host}", hint=hint)
    return github


async def _change(workspace: Workspace | None, asked: Asked, github: GitHub | None) -> Change:
    from miyabi_cli.review.selecting import change_of_diff, select_change

    if workspace is None:
        return change_of_diff(asked.selection.diff or b"")
    if asked.selection.pull_request is not None and github is not None:
        from miyabi_cli.review.pulling import pull_change

        return await pull_change(workspace, github, asked.selection.pull_request)
    return await asyncio.to_thread(select_change, workspace, asked.selection, asked.written)


async def _post(
    github: GitHub, change: Change, result: ReviewResult, redactor: Redactor, warn: Callable[[str, str], None]
) -> None:
    from miyabi_cli.report.review_markdown import review_markdown
    from miyabi_cli.review.posting import post_review

    findings = redactor.redact_data(result.findings)
    body = review_markdown(redactor.redact_data(result.data()))
    await post_review(github, change, findings, body, warn, complete=result.complete)


def _exit_code(result: ReviewResult) -> ExitCode:
    """Return what a review means to the caller; what is not complete is never 0."""
    from miyabi_cli.exits import exit_code_of

    if result.error is not None:
        return exit_code_of(result.error)
    if result.limit:
        return ExitCode.LIMIT
    return ExitCode.OK if result.passed else ExitCode.NOT_GOOD_ENOUGH
