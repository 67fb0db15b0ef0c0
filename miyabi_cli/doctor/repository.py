"""The repository looked at: its languages, and the checks that would prove a patch. None of its code is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from miyabi_cli.errors import MiyabiError
from miyabi_cli.observations import Observation, failure
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.check_records import Check
from miyabi_cli.workspace.checks import plan_checks
from miyabi_cli.workspace.repository import open_repository
from miyabi_cli.workspace.toolchains import list_files, recognised_toolchains

NOTE_HINT = "name the checks that you want: checks in the settings, or --check"


def examine_repository(folder: Path, settings: Settings, environ: Mapping[str, str]) -> tuple[Observation, ...]:
    """Return what a run in a repository would find."""
    try:
        repository = open_repository(folder)
    except MiyabiError as error:
        return (failure("repository", error, "git init, and a first commit, make one"),)
    root = repository.root
    languages = [chain.name for chain in recognised_toolchains(list_files(root))]
    configured = [Check(one.name, one.command, one.timeout) for one in settings.checks]
    plan = plan_checks(root, repository=root, environ=environ, configured=configured)
    findings = [Observation("repository", "ok", str(root))]
    findings.append(
        Observation("languages", "ok" if languages else "skip", ", ".join(languages) or "none that is known")
    )
    findings += [Observation("check", "ok", f"{check.name}: {check.command}") for check in plan.checks]
    if not plan.checks:
        said = "none is found: no patch can be verified here"
        findings.append(Observation("check", "warn", said, NOTE_HINT))
    findings += [Observation("check", "warn", note, NOTE_HINT) for note in plan.notes]
    return tuple(findings)
