"""The machine looked at: Python, git, sandbox, toolchains, disk, ledger. Nothing of the repository is run."""

from __future__ import annotations

import asyncio
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from miyabi_cli import __version__
from miyabi_cli.errors import MiyabiError
from miyabi_cli.http import one_line
from miyabi_cli.ledger.records import NANO
from miyabi_cli.ledger.store import FILE, Ledger
from miyabi_cli.observations import Observation, failure
from miyabi_cli.places import cache_dir, data_dir
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.git import INSTALL_HINT, git_version
from miyabi_cli.workspace.policy import policy_of
from miyabi_cli.workspace.sandbox_report import describe_sandbox
from miyabi_cli.workspace.toolchains import TOOLCHAINS
from miyabi_cli.workspace.toolchains.toolchain import Toolchain

SCARCE_BYTES, FEW_BYTES = 200 * 10**6, 2 * 10**9
VERSION_SECONDS = 5.0
OFF_HINT = "take `sandbox.mode: off` out of the settings: commands of a model run with all that you may do"


async def examine_machine(settings: Settings, folder: Path, environ: Mapping[str, str]) -> tuple[Observation, ...]:
    """Return what this machine has, and lacks, for work in a folder."""
    looks = (
        asyncio.to_thread(_git),
        asyncio.to_thread(_sandbox, settings, folder, environ),
        *(asyncio.to_thread(_toolchain, chain, environ) for chain in TOOLCHAINS if chain.programs),
        asyncio.to_thread(_disk),
        asyncio.to_thread(_ledger, settings.budget.monthly_usd),
    )
    found = await asyncio.gather(*looks)
    return (
        Observation("miyabi", "ok", f"{__version__}, Python {platform.python_version()}"),
        *(finding for part in found for finding in part),
    )


def _git() -> list[Observation]:
    try:
        return [Observation("git", "ok", git_version())]
    except MiyabiError as error:
        return [failure("git", error, INSTALL_HINT)]


def _sandbox(settings: Settings, folder: Path, environ: Mapping[str, str]) -> list[Observation]:
    if settings.sandbox.mode == "off":
        return [Observation("sandbox", "warn", "it is switched off by the settings", OFF_HINT)]
    report = describe_sandbox(repository=folder, environ=environ, policy=policy_of(settings.sandbox, settings.limits))
    if report.kind == "none":
        why = "; ".join(report.weaknesses) or "no sandbox works here"
        return [Observation("sandbox", "fail", why, report.hint or "run commands without one by --sandbox off")]
    named = f"{report.kind} {report.version}".strip()
    if not report.weaknesses:
        return [Observation("sandbox", "ok", named)]
    hint = report.hint or "what it can't keep out is in docs/safety.md"
    return [Observation("sandbox", "warn", f"{named}, weaker: {'; '.join(report.weaknesses)}", hint)]


def _toolchain(chain: Toolchain, environ: Mapping[str, str]) -> list[Observation]:
    """Tell which programs of a language there are; that one is missing matters to a repository, not to the machine."""
    versions = {command[0]: version_of(command, environ) for command in chain.programs}
    there = [version or name for name, version in versions.items() if version is not None]
    missing = [name for name, version in versions.items() if version is None]
    if not there:
        return [Observation(chain.name, "skip", f"no {', no '.join(missing)} on PATH")]
    lacking = f"; no {', no '.join(missing)}" if missing else ""
    return [Observation(chain.name, "ok", ", ".join(there) + lacking)]


def version_of(command: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return the first line that a program says of its version, None where it is not on PATH.

    It runs in the file system's root: no repository's file chooses which version it is.
    """
    program = shutil.which(command[0], path=environ.get("PATH"))
    if program is None or not Path(program).is_absolute():
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return f"{command[0]} (it does not say its version)"
    line = next(iter(done.stdout.decode(errors="replace").strip().splitlines()), "")
    if done.returncode or not line:
        return f"{command[0]} (it does not say its version)"
    text = one_line(line)[:60]
    return text if command[0] in text.lower() else f"{command[0]} {text}"


def _disk() -> list[Observation]:
    findings = []
    for name, variable, place in (("data", "MIYABI_DATA_DIR", data_dir), ("cache", "MIYABI_CACHE_DIR", cache_dir)):
        hint = f"free some space there, or set {variable} to another folder"
        try:
            path = place()
            free = shutil.disk_usage(path).free
        except MiyabiError as error:
            findings.append(failure(name, error, hint))
            continue
        except OSError as error:
            findings.append(Observation(name, "fail", f"can't look at {path}: {error.strerror}", hint))
            continue
        findings.append(disk_finding(name, path, free, hint))
    return findings


def disk_finding(name: str, path: Path, free: int, hint: str) -> Observation:
    """Judge the free bytes where miyabi keeps its files."""
    said = f"{free / 1e9:.1f} GB free in {path}"
    if free < SCARCE_BYTES:
        return Observation(name, "fail", said, hint)
    return Observation(name, "warn", said, hint) if free < FEW_BYTES else Observation(name, "ok", said)


def _ledger(monthly_usd: float | None) -> list[Observation]:
    hint = "see that the disk has room and the file is yours; paid servers are not asked without it"
    try:
        with closing(Ledger(data_dir() / FILE)) as ledger:
            ledger.settle_dead()
            spent = ledger.spent().nano / NANO
    except MiyabiError as error:
        return [Observation("ledger", "warn", error.message, error.hint or hint)]
    if monthly_usd is None:
        return [Observation("ledger", "ok", f"{spent:.2f} USD spent this month, without a cap")]
    said = f"{spent:.2f} of {monthly_usd:g} USD spent this month"
    if spent >= monthly_usd:
        return [Observation("ledger", "warn", said, "raise budget.monthly_usd, or take a local provider: llm.fallback")]
    return [Observation("ledger", "ok", said)]
