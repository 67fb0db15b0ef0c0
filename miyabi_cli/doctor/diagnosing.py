"""The whole look: the providers side by side, what `auto` takes, the machine, and the repository."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from miyabi_cli.doctor.machine import examine_machine
from miyabi_cli.doctor.providers import Means, examine
from miyabi_cli.doctor.report import Choice, Diagnosis
from miyabi_cli.doctor.repository import examine_repository
from miyabi_cli.llm.choosing import LOOKS, NONE_FOUND, hint_for_none
from miyabi_cli.observations import Observation
from miyabi_cli.settings.schema import Server, Settings

# A recording is looked at only where it is chosen.
PROVIDERS: tuple[str, ...] = tuple(name for name in get_args(Server) if name != "replay")


async def diagnose(
    means: Means, folder: Path, environ: Mapping[str, str], *, is_repository: bool, is_named: bool = False
) -> Diagnosis:
    """Return what works here, and why not. `is_named`: the user asks for this provider alone."""
    settings = means.settings
    machine = asyncio.create_task(examine_machine(settings, folder, environ))
    repository = (
        asyncio.create_task(asyncio.to_thread(examine_repository, folder, settings, environ)) if is_repository else None
    )
    choice = await find_choice(settings, is_named=is_named)
    names = [choice.provider] if is_named and choice.provider else list(PROVIDERS)
    names += [choice.provider] if choice.provider and choice.provider not in names else []
    reports = await asyncio.gather(*(examine(name, means, is_chosen=name == choice.provider) for name in names))
    return Diagnosis(choice, tuple(reports), await machine, await repository if repository else None)


async def find_choice(settings: Settings, *, is_named: bool) -> Choice:
    """Return the provider that a run would take: the one that is set, or the first that `auto` finds.

    What `auto` would take is looked at also where another one is set, unless the user has asked for that one alone.
    """
    provider = settings.llm.provider
    if is_named:
        return Choice(provider, "it is named")
    candidates = await asyncio.gather(*(look(settings) for look in LOOKS.values()))
    taken = next((one for one in candidates if one.is_there), None)
    findings = [Observation(one.provider, "ok" if one.is_there else "skip", one.reason) for one in candidates]
    if provider != "auto":
        would = f"it would take {taken.provider}" if taken else "it would find nothing"
        return Choice(provider, "the settings name it", (*findings, Observation("auto", "skip", would)))
    if taken is None:
        return Choice(None, NONE_FOUND, (*findings, Observation("auto", "fail", NONE_FOUND, hint_for_none(settings))))
    return Choice(
        taken.provider, f"auto: {taken.reason}", (*findings, Observation("auto", "ok", f"it takes {taken.provider}"))
    )
