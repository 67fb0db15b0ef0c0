"""Installs a scheme of labels in a repository of GitHub's: creates and updates, and never deletes or renames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from miyabi_cli.github.client import GitHub
from miyabi_cli.github.issues import Label, create_label, list_labels, update_label


@dataclass(frozen=True, slots=True)
class Installed:
    """The names of the labels that were made, that were changed, and that were as they are to be."""

    created: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]


async def install_labels(
    github: GitHub, scheme: Sequence[Label], text_of: Callable[[str], str], *, dry: bool = False
) -> Installed:
    """Make a repository's labels those of a scheme; what else it has stays as it is. Raises GitHubError.

    `dry`: nothing is written, and what would be is returned.

    A label is the same as the scheme's where `text_of` gives the same for both names, whatever emoji stand in them: it
    keeps its name, and takes the scheme's color and description.
    """
    there = {text_of(label.name): label async for label in list_labels(github)}
    created: list[str] = []
    updated: list[str] = []
    unchanged: list[str] = []
    for label in scheme:
        known = there.get(text_of(label.name))
        if known is None:
            if not dry:
                await create_label(github, label)
            created.append(label.name)
        elif replace(known, color=known.color.upper()) != replace(label, name=known.name, color=label.color.upper()):
            if not dry:
                await update_label(github, known.name, label)
            updated.append(known.name)
        else:
            unchanged.append(known.name)
    return Installed(tuple(created), tuple(updated), tuple(unchanged))
