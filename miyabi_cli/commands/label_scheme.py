"""`miyabi init --labels`: the labels that triage knows, on the repository's GitHub."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from miyabi_cli.commands import flags
from miyabi_cli.commands.asynchronous import run_async
from miyabi_cli.commands.begun import Begun

if TYPE_CHECKING:
    from miyabi_cli.init.labels import Installed


def install(folder: Path, begun: Begun, *, dry: bool, as_json: bool) -> None:
    """Create the scheme's labels, and update those that are there; none is deleted or renamed. `dry`: only say so."""
    from miyabi_cli.report.display import plain_text

    done = run_async(_install(folder, begun, dry=dry))
    if as_json:
        typer.echo(json.dumps({"labels": dataclasses.asdict(done)}, indent=2))
        return
    lead = "would be " if dry else ""
    for verb, names in ((f"{lead}created", done.created), (f"{lead}updated", done.updated)):
        for name in names:
            typer.echo(f"{verb} {plain_text(name)}")
    counts = f"{len(done.created)} created, {len(done.updated)} updated, {len(done.unchanged)} as they were"
    typer.echo(f"nothing is written: {counts}" if dry else counts)


async def _install(folder: Path, begun: Begun, *, dry: bool) -> Installed:
    from miyabi_cli.commands.means import open_shared
    from miyabi_cli.errors import GitHubError
    from miyabi_cli.init.labels import install_labels
    from miyabi_cli.triage.labels import scheme_labels, text_of

    def show(event: object) -> None:
        """Show nothing: it takes seconds."""

    async with open_shared(folder, flags.nested({}), None, show, begun, on_github=True, unborn=True) as shared:
        if shared.github is None:
            raise GitHubError("there is no GitHub to put labels on")
        return await install_labels(shared.github, scheme_labels(), text_of, dry=dry)
