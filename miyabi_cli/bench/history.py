"""Tasks mined from a repository's own history: commits whose tests fail without them, and pass with them.

The task starts from the commit's parent. What the commit changed in tests is hidden, and put in at the end; its message
says what is asked. Whether it is a task is tried in the sandbox: some tests fail on the parent with the commit's tests,
pass on the commit itself, and nothing that passed before fails there. This is how SWE-bench takes its tasks from pull
requests (Jimenez et al. 2024, arXiv:2310.06770).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from miyabi_cli.bench.judging import Court, Judged
from miyabi_cli.bench.repositories import git_at, make_repository, solution_entries
from miyabi_cli.bench.tasks import NAMES_LIMIT, BenchTask, plain_paths
from miyabi_cli.errors import MiyabiError, RepositoryError
from miyabi_cli.workspace.git import Git
from miyabi_cli.workspace.removal import remove_tree
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.toolchains import is_test_configuration, is_test_path
from miyabi_cli.workspace.trees import LINK, SUBMODULE, FileChange, compare_trees, edit_tree, tree_id
from miyabi_cli.workspace.workspaces import open_workspace

MOST_LINES = 400  # that the commit changes outside of its tests
MOST_FILES = 15
LEAST_WORDS = 3  # of a message that says what is asked
MESSAGE_LIMIT = 8_000  # characters
TEST_SECONDS = 300.0
_TRAILER = re.compile(r"^[A-Z][A-Za-z-]+-(?:by|on|Id|to): |^git-svn-id: |^\(cherry picked from commit ")
_NUMBER = re.compile(r"\s*\((?:closes |fixes )?#\d+\)|\s*\b(?:closes|fixes|resolves|refs?) #\d+\.?", re.IGNORECASE)
_ERROR = re.compile(r"(?:npm )?(?:fatal )?err(?:or)?\b", re.IGNORECASE)
_LANGUAGES = {"py": "python", "rs": "rust", "go": "go", "js": "javascript", "ts": "javascript", "c": "c", "cpp": "c"}

SandboxOf = Callable[[Path], Sandbox]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Mined:
    """The tasks that were found among the commits looked at; `reasons` counts why the others are none."""

    tasks: tuple[BenchTask, ...]
    looked_at: int
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """What came of it, for a person."""
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(self.reasons.items()))
        return f"{len(self.tasks)} of {self.looked_at} commits make a task" + (f" ({why})" if why else "")


@dataclass(frozen=True, slots=True)
class _Commit:
    id: str
    parents: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Search:
    """Up to `wanted` tasks from the newest `commits` of HEAD; they are tried in `folder`, which is the search's own.

    `test_command`: what the user has set to run the tests, "" where their runner is to be found.
    """

    root: Path
    wanted: int
    commits: int
    folder: Path
    test_command: str = ""


async def mine(search: Search, sandbox: SandboxOf, environ: Mapping[str, str], say: Say) -> Mined:
    """Return the tasks that a search finds; `say` hears how it goes.

    Raises RepositoryError where the history can't be read, and what the sandbox raises.
    """
    git = git_at(search.root)
    commits = await asyncio.to_thread(_commits, git, search.commits)
    tasks: list[BenchTask] = []
    reasons: Counter[str] = Counter()
    seen = 0
    for commit in commits:
        if len(tasks) >= search.wanted:
            break
        seen += 1
        drafted = await asyncio.to_thread(_draft, git, search, commit)
        if isinstance(drafted, str):
            reasons[drafted] += 1
            continue
        say(f"{commit.id[:12]}: tries its tests: {commit.message.splitlines()[0][:80]}")
        proven = await _proven(drafted, search.folder / drafted.gold[:16], sandbox, environ, say)
        if isinstance(proven, str):
            reasons[proven] += 1
            say(f"{commit.id[:12]}: {proven}")
        else:
            tasks.append(proven)
            say(f"{commit.id[:12]}: a task ({len(tasks)} of {search.wanted})")
    return Mined(tuple(tasks), seen, dict(reasons))


def _commits(git: Git, count: int) -> list[_Commit]:
    form = "--format=%H%x00%P%x00%B%x00%x01"
    answer = git.ask("log", f"--max-count={count}", form, "--encoding=UTF-8", "--no-show-signature", "HEAD", "--")
    if answer.exit_code:
        raise RepositoryError("the history can't be read", hint="the repository needs commits; see `git log`")
    return list(_parsed(answer.output.decode("utf-8", "replace")))


def _parsed(text: str) -> Iterator[_Commit]:
    for entry in text.split("\x00\x01"):
        fields = entry.lstrip("\n").split("\x00", 2)
        if len(fields) == 3:
            yield _Commit(fields[0], tuple(fields[1].split()), fields[2])


def _draft(git: Git, search: Search, commit: _Commit) -> BenchTask | str:
    """Return what may be a task, or why a commit is none, as far as its diff says."""
    if len(commit.parents) != 1:
        return "merge" if commit.parents else "first commit"
    base = commit.parents[0]
    if git.ask("cat-file", "-e", f"{base}^{{commit}}").exit_code:
        return "parent is not there (a shallow clone)"
    words = task_words(commit.message)
    if len(words.split()) < LEAST_WORDS:
        return "message says too little"
    changes = compare_trees(git, base, commit.id)
    tests = [change for change in changes if _is_test(change.path)]
    rest = [change for change in changes if not _is_test(change.path)]
    if reason := _unfit(tests, rest):
        return reason
    configuration = tuple(change.path for change in rest if is_test_configuration(change.path))
    endings = Counter(_LANGUAGES.get(change.path.rpartition(".")[2], "") for change in rest)
    root = search.root
    return BenchTask(
        id=f"{root.name}@{commit.id[:12]}",
        task=words,
        repository=str(root.resolve()),
        base=base,
        gold=commit.id,
        test_paths=tuple(change.path for change in tests),
        test_command=search.test_command,
        editable=configuration,
        timeout=TEST_SECONDS,
        language=max(endings, key=lambda language: (bool(language), endings[language])),
        source=f"history of {root.name}",
        dependencies=str(root.resolve()),
    )


def _is_test(path: str) -> bool:
    return is_test_path(path) or path.rpartition("/")[2] == "conftest.py"


def _unfit(tests: Sequence[FileChange], rest: Sequence[FileChange]) -> str:
    if not tests:
        return "changes no test"
    if all(change.status == "deleted" for change in tests):
        return "only removes tests"
    sources = [change for change in rest if change.path.rpartition(".")[2] in _LANGUAGES]
    if not sources:
        return "changes no code beside tests"
    lines = sum(change.lines_added + change.lines_removed for change in rest)
    if lines > MOST_LINES or len(rest) > MOST_FILES:
        return "changes too much"
    if any(mode in (LINK, SUBMODULE) for change in (*tests, *rest) for mode in (change.old_mode, change.new_mode)):
        return "changes links or submodules"
    return "" if plain_paths([change.path for change in (*tests, *rest)]) else "has odd paths"


def task_words(message: str) -> str:
    """Return a commit's message as a task: without trailers and numbers of issues, which say nothing to an agent."""
    lines = [line for line in message[:MESSAGE_LIMIT].splitlines() if not _TRAILER.match(line)]
    return _NUMBER.sub("", "\n".join(lines)).strip()


async def _proven(
    task: BenchTask, place: Path, sandbox: SandboxOf, environ: Mapping[str, str], say: Say
) -> BenchTask | str:
    """Return the task with the tests that have to pass, or why it is none, as its tests say."""
    try:
        return await _tried(task, place, sandbox, environ, say)
    except RepositoryError as error:
        return f"can't be tried ({error.message[:80]})"
    finally:
        with contextlib.suppress(MiyabiError):
            await asyncio.to_thread(remove_tree, place)


async def _tried(
    task: BenchTask, place: Path, sandbox: SandboxOf, environ: Mapping[str, str], say: Say
) -> BenchTask | str:
    repository = await asyncio.to_thread(make_repository, task, place / "project")
    workspace = await asyncio.to_thread(open_workspace, repository, "history", place / "worktrees")
    try:
        court = Court(repository, workspace, sandbox(repository.root), environ)
        before = await court.judge(task, repository.head, "before")
        if before.problem:
            say(f"{task.gold[:12]}: {': '.join(filter(None, (before.problem, telling_line(before.output))))}")
            return "no test could be run"
        gold = await asyncio.to_thread(_gold_tree, task, workspace.git_dir, repository.head)
        after = await court.judge(task, gold, "after")
    finally:
        await asyncio.to_thread(workspace.close)
    kept = _kept(task, before, after)
    if isinstance(kept, str) and not after.tests and (words := telling_line(after.output)):
        say(f"{task.gold[:12]}: {words}")  # what is missing on this machine, as a rule
    return kept


def telling_line(output: str) -> str:
    """Return the line of a failed command's output that says most: the first error, else the last line; "" for none."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if _ERROR.match(line)), lines[-1] if lines else "")[:200]


def _gold_tree(task: BenchTask, git_dir: Path, base: str) -> str:
    git = Git(git_dir)
    return edit_tree(git, tree_id(git, base), solution_entries(task, git))


def _kept(task: BenchTask, before: Judged, after: Judged) -> BenchTask | str:
    """Return the task where its tests tell a commit from its parent."""
    if after.problem or after.timed_out:
        return "its tests can't be run, or take too long"
    passing = [name for name, status in after.tests.items() if status == "pass"]
    if not passing and task.test_command and after.passed and not before.passed:
        return task  # the command's exit code is all that tells them apart
    if not passing:
        return "its runner names no test" if after.passed else "its tests fail with it too"
    fixed = [name for name in passing if before.tests.get(name) != "pass"]
    broken = [name for name, status in before.tests.items() if status == "pass" and after.tests.get(name) == "fail"]
    if broken:
        return "breaks tests"
    if not fixed or len(passing) > NAMES_LIMIT:
        return "its tests pass without it too" if not fixed else "has too many tests"
    return replace(task, must_pass=tuple(passing))
