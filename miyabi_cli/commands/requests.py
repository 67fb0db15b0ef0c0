"""From the flags of `miyabi codegen` to a request: those of the command line, or of a run that goes on."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from miyabi_cli.commands import flags
from miyabi_cli.errors import MachineError, RepositoryError, UsageError

if TYPE_CHECKING:
    from miyabi_cli.codegen.request import CodegenRequest, Delivery
    from miyabi_cli.runs import Run

# What a run that goes on takes from its log, unless it is given anew.
KEPT = (
    *("provider", "model", "endpoint", "effort", "attempts", "jobs", "check", "no_checks", "branch", "apply", "patch"),
    *("max_steps", "max_time", "max_cost", "timeout", "sandbox", "keep_worktree", "config", "repo"),
)
OWN = {"repo": "--repo", "base": "--base", "include_uncommitted": "--include-uncommitted", "dry_run": "--dry-run"}
INSTEAD = (("check", "no_checks"), ("branch", "apply", "patch"))  # of these one rules out the others
WITH_A_SERVER = ("vllm", "ollama", "groq", "openai")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for: the request, the settings that its flags are, and what else they say."""

    request: CodegenRequest
    chosen: dict[str, Any]
    config: Path | None
    patch: str | None


def asked(values: Mapping[str, Any], given: Collection[str]) -> Asked:
    """Return what the flags ask for: `values` by the names of the command's parameters, those `given` by the user.

    Raises UsageError where they contradict each other, MachineError where a file can't be written.
    """
    from miyabi_cli.codegen.request import CodegenRequest

    request = CodegenRequest(
        task=values["task"],
        base=values["base"],
        include_uncommitted=values["include_uncommitted"],
        requested_checks=_checks(values["check"], no_checks=values["no_checks"]),
        checks_wanted=not values["no_checks"],
        attempts=values["attempts"],
        jobs=values["jobs"],
        delivery=_delivery(values["branch"], values["patch"], values["format"], apply=values["apply"]),
        keep_worktree=values["keep_worktree"],
        cost_capped=values["max_cost"] is not None,
        folder=values["repo"] or Path(),
        flags=_kept(values, given),
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
    return Asked(request, flags.nested(chosen), values["config"], values["patch"])


def resumed(run: Run, values: Mapping[str, Any], given: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the flags of a run that goes on, and which of them a user has given, then or now; now counts more.

    Raises UsageError for what is the run's own, RepositoryError where its repository is not there any more.
    """
    from miyabi_cli.runs import read_log

    events = [event for event in read_log(run.directory) if event.get("type") in ("run_started", "run_resumed")]
    recorded: dict[str, Any] = {
        name: value for name, value in events[-1]["options"].get("flags", {}).items() if name in KEPT
    }
    _refuse_own(run, values, given)
    if not Path(run.repository).is_dir():
        raise RepositoryError(f"the repository of run {run.run_id} is gone: {run.repository}", hint="begin anew")
    for group in INSTEAD:
        if any(name in given for name in group):
            recorded = {name: value for name, value in recorded.items() if name not in group}
    provider = _provider(events[-1], recorded, values, given)
    now = {name: values[name] for name in given if name in KEPT}
    told = {**recorded, **provider, **now}
    folder = Path(told.get("repo") or run.repository)
    told["repo"] = folder if folder.is_dir() else Path(run.repository)
    told["config"] = Path(told["config"]) if told.get("config") else None
    return {**values, **told, "task": run.task}, list(told)


def _refuse_own(run: Run, values: Mapping[str, Any], given: Collection[str]) -> None:
    if own := [flag for name, flag in OWN.items() if name in given]:
        raise UsageError(f"{own[0]} and --resume exclude each other", hint="a run goes on with what it began with")
    if values["task"] is not None and flags.read_task(values["task"]) != run.task:
        raise UsageError("--resume goes on with the run's own task", hint="leave TASK out")


def _provider(
    latest: Mapping[str, Any], recorded: Mapping[str, Any], values: Mapping[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """Return provider, model and endpoint: the run's own, or none of them where another provider is given."""
    name, model = str(latest["provider"]), str(latest["model"])
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
