"""`miyabi trust`: what a repository's settings file could do harm with, and the user's word that it may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from miyabi_cli.commands import flags

if TYPE_CHECKING:
    from miyabi_cli.settings.trust import RepositoryFile


def trust(
    repo: flags.Repo = None,
    show: Annotated[bool, typer.Option("--show", help="Show what the file sets, and record nothing.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Forget each content that was trusted here.")] = False,
) -> None:
    """Trust this repository's .miyabi.yml as it is now: its endpoints, keys, commands and sandbox settings."""
    from miyabi_cli.errors import UsageError
    from miyabi_cli.settings.trust import REPOSITORY_FILE, find_repository_file, repository_root, revoke_trust

    if show and revoke:
        raise UsageError("--show and --revoke exclude each other")
    root = repository_root(repo or Path())
    if root is None:
        raise UsageError("not in a git repository", hint="change to one, or name it with --repo DIR")
    if revoke:
        typer.echo(f"forgotten: {revoke_trust(root)}")
        return
    found = find_repository_file(root)
    if found is None:
        raise UsageError(f"this repository has no {REPOSITORY_FILE}, so there is nothing to trust")
    _judge(found, record=not show)


def _judge(found: RepositoryFile, *, record: bool) -> None:
    import os

    from miyabi_cli.report.display import plain_text
    from miyabi_cli.settings.sources import repository_harms
    from miyabi_cli.settings.trust import TRUST_VARIABLE, is_trusted, record_trust

    path = plain_text(str(found.path))
    harms = repository_harms(found, os.environ)
    if not harms:
        typer.echo(f"{path} needs no trust: nothing in it could do harm")
        return
    typer.echo(f"{path} sets what could do harm:")
    for key, value in harms:
        typer.echo(f"  {plain_text(f'{key}: {value}')}")
    if record:
        record_trust(found)
    typer.echo("trusted" if record or is_trusted(found, os.environ) else "not trusted")
    typer.echo(f"sha256 {found.sha256}")
    typer.echo(f"elsewhere, in CI say: {TRUST_VARIABLE}={found.sha256}")
