"""From the flags of `miyabi codegen` to a request: those of the command line, or of a run that goes on."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from miyabi_cli.commands import flags
from miyabi_cli.errors import MachineError, RepositoryError, UsageError

if TYPE_CHECKING:
    from miyabi_cli.codegen.earlier import Earlier
    from miyabi_cli.codegen.request import CodegenRequest, Delivery
    from miyabi_cli.runs import Run

# What a run that goes on takes from its log, unless it is given anew.
KEPT = (
    *("provider", "model", "endpoint", "effort", "attempts", "jobs", "check", "no_checks", "branch", "apply", "patch"),
    *("max_steps", "max_time", "max_cost", "timeout", "sandbox", "keep_worktree", "config", "repo", "draft_pr"),
    *("tests", "docs", "all_attempts"),
)
OWN = {"repo": "--repo", "base": "--base", "include_uncommitted": "--include-uncommitted", "dry_run": "--dry-run"}
OWN |= {"issue": "--issue"}
# What a flag rules out, by the names of the command's parameters.
AGAINST = {
    "from_": ("base", "include_uncommitted", "issue", "resume"),
    "tasks": ("task", "issue", "resume", "from_", "apply", "patch", "branch", "dry_run"),
}
# Of these one rules out the others.
INSTEAD = (("check", "no_checks"), ("branch", "apply", "patch"), ("draft_pr", "apply", "patch"))
WITH_A_SERVER = ("vllm", "ollama", "groq", "openai")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for: the request, the settings that its flags are, and what else they say.

    `issue` is one that is still to be read, by its number or address; the request has no task until then. `came_from`
    is the run on whose result the task is feedback.
    """

    request: CodegenRequest
    chosen: dict[str, Any]
    config: Path | None
    patch: str | None
    issue: str | None = None
    came_from: str | None = None

    @property
    def on_github(self) -> bool:
        """Say whether GitHub is needed."""
        return bool(self.issue or self.request.draft_pr)


def asked(values: Mapping[str, Any], given: Collection[str]) -> Asked:
    """Return what the flags ask for: `values` by the names of the command's parameters, those `given` by the user.

    Raises UsageError where they contradict each other, MachineError where a file can't be written.
    """
    from miyabi_cli.codegen.request import CodegenRequest, Wishes

    request = CodegenRequest(
        task=values["task"],
        base=values["base"],
        include_uncommitted=values["include_uncommitted"],
        requested_checks=_checks(values["check"], no_checks=values["no_checks"]),
        checks_wanted=not values["no_checks"],
        attempts=values["attempts"],
        all_attempts=values["all_attempts"],
        wishes=Wishes(tests=values["tests"], docs=values["docs"]),
        jobs=values["jobs"],
        delivery=_delivery(values["branch"], values["patch"], values["format"], apply=values["apply"]),
        keep_worktree=values["keep_worktree"],
        cost_capped=values["max_cost"] is not None,
        folder=values["repo"] or Path(),
        flags=_kept(values, given),
        issue=values.get("taken_from"),
        draft_pr=_draft_pr(values),
        continued=values.get("continued"),
    )
    chosen = {
        **flags.provider_flags(values["provider"], values["model"], values["endpoint"]),
        "llm.default_reasoning_effort": values["effort"],
        "llm.timeout": values["timeout"],
        "limits.steps": values["max_steps"],
        "limits.seconds": values["max_time"],
        "budget.per_run_usd": values["max_cost"],
        "sandbox.mode": values["sandbox"],
    }
    return Asked(request, flags.nested(chosen), values["config"], values["patch"], values["issue"], values["from_"])


def check_flags(values: Mapping[str, Any], given: Collection[str]) -> None:
    """Raise UsageError for flags that exclude each other whatever their values are."""
    for name, others in AGAINST.items():
        for other in others:
            if values[name] is not None and other in given:
                told = "TASK" if other == "task" else f"--{other.strip('_').replace('_', '-')}"
                raise UsageError(f"{told} and --{name.strip('_')} exclude each other")


def resumed(
    run: Run, values: Mapping[str, Any], given: Collection[str], context: typer.Context
) -> tuple[dict[str, Any], list[str]]:
    """Return the flags of a run that goes on, and which of them a user has given, then or now; now counts more.

    `context` is the command's, which knows what a flag may be. Raises UsageError for what is the run's own,
    RepositoryError where its repository is not there any more, MachineError for a log that is damaged.
    """
    from miyabi_cli.codegen.earlier import read_earlier
    from miyabi_cli.runs import read_log

    earlier = read_earlier(run.run_id, read_log(run.directory))
    if earlier is None:
        raise _damaged(run, "it has no beginning")
    recorded = _recorded(run, earlier.options.get("flags"), context)
    _refuse_own(run, values, given)
    if not Path(run.repository).is_dir():
        raise RepositoryError(f"the repository of run {run.run_id} is gone: {run.repository}", hint="begin anew")
    for group in INSTEAD:
        if any(name in given for name in group):
            recorded = {name: value for name, value in recorded.items() if name not in group}
    provider = _provider(earlier, recorded, values, given)
    now = {name: values[name] for name in given if name in KEPT}
    told = {**recorded, **provider, **now}
    folder = Path(told.get("repo") or run.repository)
    told["repo"] = folder if folder.is_dir() else Path(run.repository)
    told["config"] = Path(told["config"]) if told.get("config") else None
    return {**values, **told, **recorded_task(run, earlier.options)}, list(told)


def played(run: Run) -> CodegenRequest:
    """Return what a past run was asked for, to be played again; its patch goes to stdout.

    Raises UsageError where the run's log has no beginning, MachineError where it is damaged.
    """
    from miyabi_cli.codegen.earlier import read_earlier
    from miyabi_cli.codegen.request import CodegenRequest, Delivery
    from miyabi_cli.runs import read_log

    earlier = read_earlier(run.run_id, read_log(run.directory))
    if earlier is None:
        raise UsageError(f"run {run.run_id} has no events to play", hint="miyabi runs list shows the others")
    options = earlier.started.options
    checks, attempts = options.get("checks"), options.get("attempts")
    recorded = recorded_task(run, options)
    return CodegenRequest(
        task=recorded["task"],
        continued=recorded.get("continued"),
        base=earlier.started.base,
        requested_checks=tuple(map(str, checks)) if isinstance(checks, list) else (),
        checks_wanted=bool(options.get("checks_wanted", True)),
        attempts=attempts if isinstance(attempts, int) and attempts > 0 else None,
        all_attempts=bool(options.get("all_attempts")),
        delivery=Delivery("patch"),
        folder=Path(run.repository),
    )


def _refuse_own(run: Run, values: Mapping[str, Any], given: Collection[str]) -> None:
    if own := [flag for name, flag in OWN.items() if name in given]:
        raise UsageError(f"{own[0]} and --resume exclude each other", hint="a run goes on with what it began with")
    if values["task"] is not None and flags.read_task(values["task"]) != run.task:
        raise UsageError("--resume goes on with the run's own task", hint="leave TASK out")


def _recorded(run: Run, flags: object, context: typer.Context) -> dict[str, Any]:
    """Return the flags that a run's log holds, each as its parameter takes it."""
    if not isinstance(flags, dict):
        raise _damaged(run, "it has no flags")
    recorded: dict[str, Any] = {}
    for parameter in context.command.params:
        name = parameter.name
        if name in KEPT and flags.get(name) is not None:
            try:
                recorded[name] = parameter.process_value(context, flags[name])
            except (typer.BadParameter, TypeError, ValueError):
                raise _damaged(run, f"{parameter.opts[0]} is {flags[name]!r:.50}") from None
    return recorded


def recorded_task(run: Run, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's task as `asked` takes it: its own words, an issue as it was read then, or feedback on a run.

    Raises MachineError for a log that is damaged.
    """
    from miyabi_cli.codegen.request import FromIssue, FromRun
    from miyabi_cli.runs import START, read_patch

    match options:
        case {"from": {"run_id": str(run_id), "asked": [*asked], "task": str(task)}} if asked:
            patch = read_patch(run.directory, START)
            return {"task": task, "continued": FromRun(run_id, tuple(map(str, asked)), patch)}
        case {"issue": {"number": int(number), "title": str(title), "task": str(task)}}:
            return {"task": task, "taken_from": FromIssue(number, title)}
    if options.get("issue") is None and options.get("from") is None:
        return {"task": run.task}
    raise _damaged(run, "its issue can't be read" if options.get("issue") else "the run that it went on from is lost")


def _damaged(run: Run, what: str) -> MachineError:
    return MachineError(f"the log of run {run.run_id} is damaged: {what}", hint="begin the task anew")


def _provider(
    earlier: Earlier, recorded: Mapping[str, Any], values: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """Return provider, model and endpoint: the run's own, or none of them where another provider is given."""
    name, model = earlier.provider, earlier.model
    known = name in get_args(flags.PROVIDERS)
    wanted = values["provider"] if "provider" in given else name
    if "endpoint" in given and "provider" not in given and name not in WITH_A_SERVER:
        wanted = "openai"
    if wanted == "replay":
        raise UsageError("recorded replies are not gone on with", hint="miyabi runs replay plays a run from its start")
    if wanted != name or not known:
        other = {"provider": wanted, "model": None, "endpoint": None}
        return other if known else {}
    served = {"model": recorded.get("model") or model} if name in WITH_A_SERVER else {}
    return {"provider": name, **served}


def _kept(values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Return the flags that a run's log keeps, as JSON has them; paths are absolute."""
    kept = {name: values[name] for name in KEPT if name in given and values[name] is not None}
    if kept.get("patch", "-") != "-":
        kept["patch"] = str(Path(kept["patch"]).absolute())
    kept["repo"] = (values["repo"] or Path()).absolute()
    return {name: str(value.absolute()) if isinstance(value, Path) else value for name, value in kept.items()}


def read_task(task: str | None, issue: str | None) -> str:
    """Return the task that is given, "" for one that is an issue. Raises UsageError for both, and for neither."""
    if issue is None:
        return flags.read_task(task)
    if task is not None:
        raise UsageError("TASK and --issue exclude each other", hint="the issue is the task")
    from miyabi_cli.codegen.request import ISSUE

    if not ISSUE.fullmatch(issue):
        hint = "miyabi codegen --issue 12"
        raise UsageError("--issue takes the number of an issue, or its address", hint=hint)
    return ""


def _draft_pr(values: Mapping[str, Any]) -> bool:
    """Say whether a pull request is asked for. Raises UsageError for what does not go with one."""
    if not values["draft_pr"]:
        return False
    flags_against = {"apply": "--apply", "patch": "--patch", "include_uncommitted": "--include-uncommitted"}
    for name, flag in flags_against.items():
        if values[name]:
            raise UsageError(f"--draft-pr and {flag} exclude each other", hint="a pull request is a branch of commits")
    return True


def _checks(check: list[str] | None, *, no_checks: bool) -> tuple[str, ...]:
    if check and no_checks:
        raise UsageError("--check and --no-checks exclude each other")
    if empty := [command for command in check or () if not command.strip()]:
        raise UsageError(f"--check {empty[0]!r} is no command")
    return tuple(check or ())


def _delivery(branch: str | None, patch: str | None, format: str, *, apply: bool) -> Delivery:
    from miyabi_cli.codegen.request import Delivery

    given = [name for name, value in (("--branch", branch), ("--apply", apply), ("--patch", patch)) if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
    if patch == "-" and format != "text":
        raise UsageError(f"--patch - and --format {format} both want stdout", hint="the JSON holds the patch")
    if patch not in (None, "-") and not _is_writable(Path(str(patch))):
        raise MachineError(f"can't write {patch}", hint="--patch names a file in a folder that is there")
    if branch is not None and not branch.strip():
        raise UsageError("--branch needs a name")
    return Delivery("apply" if apply else "patch" if patch else "branch", branch)


def _is_writable(path: Path) -> bool:
    """Say whether a file can be written, as far as that can be told before the work."""
    return not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)
