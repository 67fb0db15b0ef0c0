"""A result goes to GitHub: its branch is pushed, and a draft pull request opened from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from miyabi_cli.codegen.delivery import succeeded
from miyabi_cli.codegen.plan import Emit
from miyabi_cli.codegen.request import CodegenRequest
from miyabi_cli.codegen.result import CodegenResult, OpenedPullRequest
from miyabi_cli.errors import GitHubError, RepositoryError, SettingsError
from miyabi_cli.events import ProgressMade, WarningRaised
from miyabi_cli.github.client import GitHub
from miyabi_cli.github.places import Place, read_address
from miyabi_cli.github.pulls import Hosted, PullRequest, create_draft, find_pull, get_hosted, has_branch
from miyabi_cli.workspace.remotes import Header, PushFailed, Remote, push_branch, read_remotes, unpushed
from miyabi_cli.workspace.repository import Repository

KIND = "pull_request"  # of warnings

Describe = Callable[[CodegenResult], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a result goes: `remote` is None where none of the repository's leads there, `base` is a branch's name."""

    github: GitHub
    repository: Repository
    hosted: Hosted
    remote: Remote | None
    base: str


async def find_destination(github: GitHub, repository: Repository, revision: str) -> Destination:
    """Find where the result of work on a revision goes, before there is one.

    Its pull request is meant for the branch that the revision names, where GitHub has one, else for the default
    branch. Raises SettingsError where there is no token, GitHubError where the repository can't be seen.
    """
    if github.token is None:
        hint = "set GITHUB_TOKEN, or run gh auth login"
        raise SettingsError(f"--draft-pr needs a token for {github.place.host}", hint=hint)
    hosted = await get_hosted(github)
    remote = _remote(github.place, await asyncio.to_thread(read_remotes, repository))
    named = repository.branch if revision == "HEAD" else revision
    named = (named or "").removeprefix(f"{remote.name}/" if remote else "")
    if named and named != hosted.default_branch and await has_branch(github, named):
        return Destination(github, repository, hosted, remote, named)
    return Destination(github, repository, hosted, remote, hosted.default_branch or named)


async def publish(
    destination: Destination, request: CodegenRequest, result: CodegenResult, emit: Emit, describe: Describe
) -> CodegenResult:
    """Push a result's branch and open a draft pull request, with the title and body that `describe` gives.

    One that is not as good as was asked stays here, with a warning. Raises RepositoryError or GitHubError, with the
    branch kept, where GitHub takes it not.
    """
    branch, commit = result.branch, result.commit
    if not succeeded(result.status, request) or not branch or not commit:
        return _warned(result, "no pull request was opened: the patch is not verified", emit)
    result = await _push(destination, result, branch, commit, emit)
    emit(ProgressMade("opening a draft pull request"))
    title, body = describe(result)
    pull, is_new = await _open(destination, branch, title, body)
    if not is_new:
        result = _warned(result, f"pull request #{pull.number} of this branch was open before", emit)
    return replace(result, pull_request=OpenedPullRequest(pull.number, pull.url))


def _remote(place: Place, remotes: tuple[Remote, ...]) -> Remote | None:
    """Return the remote that leads to a repository; origin, where its address is a path, which tells nothing."""
    read = [
        (remote, [read_address(url) for url in (remote.push_url, remote.fetch_url, remote.url)]) for remote in remotes
    ]
    for remote, addresses in read:
        if any(one and place.is_at(one.host, one.owner, one.name) for one in addresses):
            return remote
    return next((remote for remote, addresses in read if remote.name == "origin" and not any(addresses)), None)


async def _push(destination: Destination, result: CodegenResult, branch: str, commit: str, emit: Emit) -> CodegenResult:
    """Push by the user's own means and, where the server does not come to take part, with the token."""
    repository, remote = destination.repository, destination.remote
    if remote and (count := await asyncio.to_thread(unpushed, repository, commit, remote.name)):
        commits = "1 commit" if count == 1 else f"{count} commits"
        result = _warned(result, f"the branch takes along {commits} that {remote.name} did not have before", emit)
    address = _address(destination)
    emit(ProgressMade(f"pushing {branch} to {remote.name if remote else address}"))
    try:
        await push_branch(repository, commit, branch, remote.name if remote else address)
    except PushFailed as failed:
        header = _header(destination)
        if failed.reached or header is None:
            raise _not_pushed(destination, branch, failed) from None
        try:
            await push_branch(repository, commit, branch, address, header)
        except PushFailed as again:
            raise _not_pushed(destination, branch, again) from None
    return result


def _address(destination: Destination) -> str:
    place, hosted = destination.github.place, destination.hosted
    return replace(place, owner=hosted.owner, name=hosted.name).git_url


def _header(destination: Destination) -> Header | None:
    """Return the header that shows the token to the server; None for one that it does not belong to."""
    place, token = destination.github.place, destination.github.token
    remote = destination.remote
    leads_there = remote is None or any(map(read_address, (remote.push_url, remote.fetch_url, remote.url)))
    return Header.of_token(place.server, token.value) if token and place.takes_token and leads_there else None


def _not_pushed(destination: Destination, branch: str, failed: PushFailed) -> RepositoryError:
    name = destination.remote.name if destination.remote else _address(destination)
    hint = f"the work is kept: git push {name} {branch}, then gh pr create --draft --head {branch}"
    return RepositoryError(f"can't push {branch} to {name}: {failed.reason}", hint=hint)


async def _open(destination: Destination, branch: str, title: str, body: str) -> tuple[PullRequest, bool]:
    """Return the pull request of a branch, and whether it is new."""
    github, hosted = destination.github, destination.hosted
    try:
        return await create_draft(github, head=branch, base=destination.base, title=title, body=body), True
    except GitHubError as error:
        is_there = error.status == 422 and "already exists" in error.message
        if is_there and (found := await find_pull(github, hosted.owner, branch)):
            return found, False
        page = f"{github.place.server}/{hosted.owner}/{hosted.name}/pull/new/{branch}"
        kept = f"the branch {branch} is pushed: open the pull request at {page}"
        error.hint = f"{error.hint}; {kept}" if error.hint else kept
        raise


def _warned(result: CodegenResult, message: str, emit: Emit) -> CodegenResult:
    warning = WarningRaised(KIND, "", message)
    emit(warning)
    return replace(result, warnings=(*result.warnings, warning))
