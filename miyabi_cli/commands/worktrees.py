"""`miyabi worktrees`: the worktrees of runs that live, were stopped, died, or asked to keep theirs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miyabi_cli.commands import flags

if TYPE_CHECKING:
    from miyabi_cli.workspace.leftovers import WorktreeEntry

app = typer.Typer(help="Worktrees: what runs work in, and what they left.")

Folder = Annotated[
    Path | None, typer.Option("--path", help="Where they lie; default: the setting worktree.path.", metavar="DIR")
]


@app.command("list")
def list_(
    format: flags.Format = "text", path: Folder = None, repo: flags.Repo = None, config: flags.Config = None
) -> None:
    """List the worktrees on this machine: live, kept, of a run that was stopped, or left over by one that died."""
    from miyabi_cli.workspace.leftovers import list_worktrees

    _print(list_worktrees(_folder(path, repo, config)), format, "no worktrees")


@app.command()
def clean(
    runs: Annotated[list[str] | None, typer.Argument(help="Only those of these runs.", metavar="RUN")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those kept, and those to resume with.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    format: flags.Format = "text",
    path: Folder = None,
    repo: flags.Repo = None,
    config: flags.Config = None,
) -> None:
    """Remove the worktrees that dead runs left over. Those of runs that live are never touched."""
    from miyabi_cli.workspace.leftovers import clean_worktrees

    folder = _folder(path, repo, config)
    run_ids = _run_ids(runs, folder) if runs else ()
    removed, errors = clean_worktrees(folder, kept=all_, run_ids=run_ids, dry_run=dry_run)
    _print(removed, format, "nothing to remove")
    if errors:
        raise errors[0]


def _run_ids(names: list[str], folder: Path) -> tuple[str, ...]:
    """Return the ids of runs that are named by them, or as `runs show` takes a name. Raises UsageError for no run."""
    from miyabi_cli.runs import find_run
    from miyabi_cli.workspace.leftovers import list_worktrees

    listed = {entry.run_id for entry in list_worktrees(folder)}
    return tuple(name if name in listed else find_run(name).run_id for name in names)


def _folder(path: Path | None, repo: Path | None, config: Path | None) -> Path:
    import os

    from miyabi_cli.settings.sources import load_settings
    from miyabi_cli.settings.trust import repository_root
    from miyabi_cli.workspace.workspaces import default_folder

    if path is not None:
        return path
    settings = load_settings(
        flags={}, environ=os.environ, repository=repository_root(repo or Path()), config=config, ask=None
    )
    return settings.worktree.path or default_folder()


def _print(entries: tuple[WorktreeEntry, ...], format: str, none: str) -> None:
    from miyabi_cli.report.display import plain_text

    if format == "json":
        typer.echo(json.dumps([_row(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        typer.echo(
            f"{entry.run_id}  {entry.name:<12}  {entry.state:<9}  {_age(entry):>4}  {entry.size_bytes / 1e6:8.1f} MB  "
            f"{plain_text(entry.repository or 'half-made')}\n  {plain_text(str(entry.folder / 'tree'))}"
        )
    if not entries:
        typer.echo(none, err=True)


def _row(entry: WorktreeEntry) -> dict[str, Any]:
    return {
        "run_id": entry.run_id,
        "name": entry.name,
        "state": entry.state,
        "repository": entry.repository,
        "base": entry.base,
        "created": entry.created,
        "size_bytes": entry.size_bytes,
        "path": str(entry.folder / "tree"),
    }


def _age(entry: WorktreeEntry) -> str:
    if entry.created is None:
        return "?"
    seconds = max(0.0, time.time() - entry.created)
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"
