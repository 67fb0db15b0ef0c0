"""Who does the work in a worktree: an agent with tools, or a rewriter for a model that is too small for them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from miyabi_cli.agent.actions import Actions, NativeTools, SchemaActions, actions_for
from miyabi_cli.agent.context import prompt, read_context, render_context
from miyabi_cli.agent.conversation import Conversation
from miyabi_cli.agent.focus import Evidence, Excerpt, find_focus
from miyabi_cli.agent.infilling import Infiller
from miyabi_cli.agent.loop import Agent, Ending
from miyabi_cli.agent.rewriting import Rewriter, anew_prompt, rewriting_prompt
from miyabi_cli.agent.tools import Toolbox
from miyabi_cli.codegen.earlier import EarlierAttempt
from miyabi_cli.codegen.plan import Plan
from miyabi_cli.errors import MiyabiError
from miyabi_cli.events import ConversationOpened, Event
from miyabi_cli.llm.profiles import Strategy
from miyabi_cli.messages import Function, Message, Sampling
from miyabi_cli.workspace.check_records import CheckRun
from miyabi_cli.workspace.digest import brief_failure, failure_digest
from miyabi_cli.workspace.git import split_paths
from miyabi_cli.workspace.linters import linter_of
from miyabi_cli.workspace.modules import show_modules
from miyabi_cli.workspace.paths import PathRefused, Root
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.staging import stage
from miyabi_cli.workspace.toolchains import is_test_path
from miyabi_cli.workspace.worktrees import Worktree

MAP_LIMIT = 1_200
DIGEST_BYTES = 1_600
BRIEF_BYTES = 600
EXCERPT_LIMIT = 6_000
TEMPERATURES = (0.0, 0.5, 0.7, 0.9, 0.3, 0.6, 0.8, 1.0)
CHARACTERS_PER_TOKEN = 3


class Worker(Protocol):
    """An agent at work: `turn` until it stops by itself, `tell` it more, look at how it ended.

    `messages`: the conversation so far, () where there is none. `rounds`: how often it is worth telling it what fails
    with its work.

    `keeps_work`: its next turn builds on what the last one left, where an infiller begins with the base's files again.
    """

    steps: int
    rounds: int
    keeps_work: bool
    ending: Ending
    reason: str
    answer: str

    @property
    def messages(self) -> Sequence[Message]: ...

    def turn(self) -> AsyncGenerator[Event, None]: ...

    def tell(self, text: str, *, lasting: bool = False) -> tuple[Event, ...]: ...


def open_worker(plan: Plan, worktree: Worktree, attempt: int) -> tuple[Worker, ConversationOpened]:
    """Return the worker that suits the plan's model, and the head of its conversation."""
    root = _root(plan, worktree)
    if plan.profile.editing == "rewrite":
        worker = _small(plan, worktree, root, attempt)
        if worker is not None:
            return worker, ConversationOpened(attempt, tuple(worker.messages), ())
    agent = _agent(plan, worktree, root, attempt)
    return agent, ConversationOpened(attempt, tuple(agent.messages), agent.actions.offered)


def head_of(plan: Plan, worktree: Worktree) -> tuple[tuple[Message, ...], tuple[Function, ...]]:
    """Return what a worker would tell its model first, and the functions it would offer."""
    _, opened = open_worker(plan, worktree, 1)
    return opened.messages, opened.functions


def digest(runs: Sequence[CheckRun], limit: int = DIGEST_BYTES) -> str:
    """Return what fails in some check runs, for a model; "" where nothing does."""
    failing = [run for run in runs if run.status == "fail"]
    share = limit // max(1, len(failing))
    return "\n".join(failure_digest(run, share) for run in failing)


def listed_files(worktree: Worktree) -> list[str]:
    """Return the paths that git tracks in a worktree."""
    return split_paths(worktree.git.run("ls-files", "-z"))


def _paths(plan: Plan, worktree: Worktree) -> list[str]:
    """Return the paths of a worktree's files as the work begins: also of those that an earlier patch has made."""
    if plan.start is None:
        return listed_files(worktree)
    return split_paths(worktree.git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", plan.start))


def recalled_agent(plan: Plan, worktree: Worktree, earlier: EarlierAttempt) -> Agent:
    """Return the agent of an attempt as it was when its process was stopped."""
    toolbox = _toolbox(plan, worktree, _root(plan, worktree))
    actions: Actions
    if earlier.offered_functions:
        actions = NativeTools(toolbox.functions())
    else:
        actions = SchemaActions(toolbox.functions(), held=plan.provider.capabilities.schema)
    agent = _acting(plan, toolbox, actions, _conversation(plan, worktree, [], earlier.number))
    for event in earlier.events:
        agent.recall(event)
    return agent


def _root(plan: Plan, worktree: Worktree) -> Root:
    return Root(worktree.tree, aliases=(plan.repository.root,))


def _toolbox(plan: Plan, worktree: Worktree, root: Root) -> Toolbox:
    return Toolbox(
        root=root,
        place=show_modules(worktree.place(), plan.sandbox),
        sandbox=plan.sandbox,
        limits=Limits(),
        output_bytes=_output_bytes(plan),
        environment=_environment(plan, worktree),
    )


def _agent(plan: Plan, worktree: Worktree, root: Root, attempt: int) -> Agent:
    toolbox = _toolbox(plan, worktree, root)
    actions = actions_for(plan.provider.capabilities, toolbox.functions())
    head = prompt("tools") + (f"\n\n{actions.instructions}" if actions.instructions else "")
    messages = [Message("system", head), Message("user", first_message(plan, worktree, root))]
    return _acting(plan, toolbox, actions, _conversation(plan, worktree, messages, attempt))


def _acting(plan: Plan, toolbox: Toolbox, actions: Actions, conversation: Conversation) -> Agent:
    return Agent(conversation, actions, toolbox.run, rounds=plan.profile.mending_rounds)


def _conversation(plan: Plan, worktree: Worktree, messages: list[Message], attempt: int) -> Conversation:
    async def patch() -> str:
        try:
            return (await stage(worktree, plan.sandbox)).patch.decode("utf-8", "replace")
        except MiyabiError as error:
            return f"(it can't be read: {error.message})"

    return Conversation(plan.provider, messages, plan.allowance, _sampling(plan, attempt), attempt, patch)


def _environment(plan: Plan, worktree: Worktree) -> dict[str, str]:
    """Return the variables of the checks, so that a test which the agent runs imports what a check would."""
    tree = str(plan.sandbox.inside(worktree.place()))
    return {name: value.replace("{tree}", tree) for check in plan.checks for name, value in check.environment}


def first_message(plan: Plan, worktree: Worktree, root: Root) -> str:
    """Return the task with all that surrounds it: see `agent.context`."""
    statuses = {run.name: run.status for run in plan.base_runs}
    when = "now" if plan.start is None else "on the base"
    checks = tuple((check.name, check.command, _status(statuses.get(check.name), when)) for check in plan.checks)
    context = read_context(
        plan.task,
        root,
        _paths(plan, worktree),
        folder=plan.folder,
        map_limit=MAP_LIMIT,
        checkout=Root(plan.repository.root),
        checks=checks,
        failures=digest(plan.base_runs) if plan.start is None else "",
        refuse=lambda path, why: plan.voice.warn("instructions", why, path),
    )
    return render_context(context)


def _status(status: str | None, when: str) -> str:
    known = {"pass": f"passes {when}", "fail": f"fails {when}", "skip": "can't run here", None: "not run yet"}
    return known[status]


def _small(plan: Plan, worktree: Worktree, root: Root, attempt: int) -> Worker | None:
    """Return a worker for a small model, by the profile's strategy for this attempt; None where no code is found."""
    # What fails on the base may be mended where the work begins with an earlier patch.
    failures = digest(plan.base_runs, BRIEF_BYTES) if plan.start is None else ""
    excerpts = _excerpts(plan, worktree, root, failures)
    if not excerpts:
        return None
    strategy = _strategy(plan, attempt, failing=bool(failures) and any(map(_tells_of_a_bug, plan.base_runs)))
    if strategy == "infill":
        return Infiller(plan.provider, root, excerpts, brief_failure(plan.base_runs), plan.allowance, attempt)
    if strategy == "anew" and excerpts[0].likeliest:
        text = anew_prompt(plan.task.description, excerpts[0], _text(root, excerpts[0].path), failures)
    else:
        text = rewriting_prompt(plan.task.description, excerpts, failures)
    conversation = _conversation(plan, worktree, [Message("user", text)], attempt)
    return Rewriter(conversation, root, excerpts, rounds=plan.profile.mending_rounds)


def _tells_of_a_bug(run: CheckRun) -> bool:
    """Say whether a check shows that the code does something wrong: a stub has lint too, and no one line mends it."""
    return run.status == "fail" and not run.findings and linter_of(run.command) is None


def _strategy(plan: Plan, attempt: int, *, failing: bool) -> Strategy:
    """Return what an attempt does: the profile's strategies in turn; where nothing fails, nothing says which line is
    wrong or what a function that is written anew has to do.
    """
    if not failing:
        return "rewrite"
    possible = [one for one in plan.profile.strategies if one != "infill" or plan.provider.capabilities.infill]
    if attempt <= len(possible):
        return possible[attempt - 1]
    # What is filled in is the likeliest: it would be the same again.
    again = [one for one in possible if one != "infill"] or possible
    return again[(attempt - len(possible) - 1) % len(again)]


def _excerpts(plan: Plan, worktree: Worktree, root: Root, failures: str) -> tuple[Excerpt, ...]:
    failing = tuple(failure.name for run in plan.base_runs for failure in run.failures)
    output = "\n".join(f"{failure.message}\n{failure.details}" for run in plan.base_runs for failure in run.failures)
    evidence = Evidence(plan.task.description, output or failures, failing)
    room = min((plan.provider.max_tokens // 4) * CHARACTERS_PER_TOKEN, EXCERPT_LIMIT)
    paths = _paths(plan, worktree)
    return find_focus(paths, lambda path: _text(root, path), evidence, is_test=is_test_path, limit=room)


def _sampling(plan: Plan, attempt: int) -> Sampling:
    """Vary the seed between attempts and, where the profile has none of its own, the temperature too."""
    given = plan.sampling
    temperature = given.temperature
    if temperature is None and plan.profile.temperature is None and plan.profile.editing == "rewrite":
        temperature = TEMPERATURES[(attempt - 1) % len(TEMPERATURES)]
    seed = (
        given.seed if given.seed is not None else attempt if plan.profile.editing == "rewrite" or attempt > 1 else None
    )
    return Sampling(temperature, given.max_tokens, given.effort, seed)


def _output_bytes(plan: Plan) -> int:
    """Return how much of a tool's output a model may see: an eighth of its window at the most."""
    return min(plan.output_bytes, plan.provider.max_tokens * CHARACTERS_PER_TOKEN // 8)


def _text(root: Root, path: str) -> str:
    try:
        return root.read(path).decode("utf-8", "replace")
    except (PathRefused, OSError):
        return ""
