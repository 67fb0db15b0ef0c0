"""What a shell completes to: the runs, models and branches that there are. A failure completes to nothing.

Nothing is asked of a server: a key that is pressed must be answered at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from miyabi_cli.errors import MiyabiError

Completions = list[str | tuple[str, str]]  # a value, or with words about it

MOST_RUNS = 30
MOST_NAMES = 200
ABOUT = 60  # characters
# The names by which each server knows the models that miyabi is made for.
SERVED = {
    "vllm": ("openai/gpt-oss-20b", "openai/gpt-oss-120b"),
    "ollama": ("gpt-oss:20b", "gpt-oss:120b"),
    "groq": ("openai/gpt-oss-20b", "openai/gpt-oss-120b"),
}


def complete_run(incomplete: str) -> Completions:
    """Return the ids of the newest runs, with their tasks, and `last`."""
    return _runs(incomplete, stopped=False)


def complete_stopped_run(incomplete: str) -> Completions:
    """Return the ids of the runs that `--resume` can go on with."""
    return _runs(incomplete, stopped=True)


def complete_model(context: typer.Context, incomplete: str) -> Completions:
    """Return the models of the provider that the line names; without one, those of every provider."""
    provider = context.params.get("provider")
    names = [*SERVED.get(str(provider), ())]
    if provider in (None, "auto"):
        names = sorted({name for served in SERVED.values() for name in served})
    if provider in (None, "auto", "embedded"):
        names += _embedded()
    return [name for name in names if name.startswith(incomplete)]


def complete_embedded_model(incomplete: str) -> Completions:
    """Return the models that can be pulled to this machine."""
    return [name for name in _embedded() if name.startswith(incomplete)]


def complete_revision(context: typer.Context, incomplete: str) -> Completions:
    """Return the branches and tags of the repository that the line names, the latest first."""
    from miyabi_cli.workspace.git import Git

    folder = context.params.get("repo") or Path()
    options = ("--sort=-committerdate", f"--count={MOST_NAMES}", "--format=%(refname:short)")
    try:
        answer = Git(cwd=folder).ask("for-each-ref", *options, "refs/heads", "refs/remotes", "refs/tags")
    except MiyabiError:
        return []
    names = answer.output.decode("utf-8", "replace").splitlines()
    return [name for name in ("HEAD", *names) if name.startswith(incomplete) and name.isprintable()]


def _runs(incomplete: str, *, stopped: bool) -> Completions:
    try:
        return list(_matching_runs(incomplete, stopped=stopped))
    except (MiyabiError, OSError):
        return []


def _matching_runs(incomplete: str, *, stopped: bool) -> Iterator[tuple[str, str]]:
    from miyabi_cli.report.display import plain_text
    from miyabi_cli.runs import list_runs

    for number, run in enumerate(list_runs(MOST_RUNS)):
        if stopped and not run.can_go_on:
            continue
        about = plain_text(f"{run.status}: {run.task}")[:ABOUT]
        if number == 0 and "last".startswith(incomplete):
            yield "last", about
        if run.run_id.startswith(incomplete):
            yield run.run_id, about


def _embedded() -> list[str]:
    from miyabi_cli.llm.local.models import KNOWN_MODELS

    return [model.name for model in KNOWN_MODELS]
