"""What a model did when `doctor` asked it, kept for a day per endpoint and model: asking costs time, and often money.

Only what was asked of the model is kept; whether a server is there, and what it has, is looked at each time. A run
asks nothing of this kind: it goes by what is kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, get_args

from miyabi_cli import __version__
from miyabi_cli.errors import MachineError
from miyabi_cli.observations import Level, Observation
from miyabi_cli.places import cache_dir, write_whole
from miyabi_cli.settings.schema import Settings

MOST_SECONDS = 86_400.0
MOST_BYTES = 64 * 1024
MOST_FINDINGS = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Abilities:
    """What a model did when it was asked; None: that is not known.

    `tools`: a function that it had to call came back as a call; `thought`: some of it was returned; `schema`: its
    answer obeyed. `window`: tokens, as the server has it loaded. `first_token` in seconds. `spent_usd`: what finding
    it out has cost; None: nobody knows.
    """

    tools: bool | None = None
    thought: bool | None = None
    schema: bool | None = None
    window: int | None = None
    tokens_per_second: float | None = None
    first_token: float | None = None
    spent_usd: float | None = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Remembered:
    """What was found at the Unix time `at`."""

    abilities: Abilities
    findings: tuple[Observation, ...]
    at: float

    @property
    def works(self) -> bool:
        """Whether nothing of it failed: what is broken will have been mended before the next look."""
        return not any(finding.level == "fail" for finding in self.findings)


def recall(settings: Settings, name: str, now: float, version: str | None = None) -> Remembered | None:
    """Return what was found of a provider in the last day, by these settings; None where nothing is.

    `version`: that of the server, where it is known: another one may do other things. What can't be read, or was not
    written by this version of miyabi, is not there. Raises nothing.
    """
    try:
        with _file(settings, name).open("rb") as file:
            data = json.loads(file.read(MOST_BYTES))
        at = float(data["at"])
        if data["miyabi"] != __version__ or version not in (None, data["version"]) or not 0 <= now - at < MOST_SECONDS:
            return None
        return Remembered(_abilities(data["abilities"]), _findings(data["findings"]), at)
    except (OSError, MachineError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def remember(settings: Settings, name: str, version: str, found: Remembered) -> None:
    """Keep what was found; where the disk does not take it, the next look asks again."""
    data = {"miyabi": __version__, "version": version, **dataclasses.asdict(found)}
    with contextlib.suppress(MachineError, OSError):
        write_whole(_file(settings, name), json.dumps(data).encode())


def forget(settings: Settings, name: str) -> None:
    """Keep nothing of a provider, such as one that does not answer."""
    with contextlib.suppress(MachineError, OSError):
        _file(settings, name).unlink(missing_ok=True)


def _file(settings: Settings, name: str) -> Path:
    """Return the file for all that decides what a model does: its address, its name and how it is asked."""
    section = getattr(settings.llm, name).model_dump(mode="json", exclude={"api_key"})
    text = json.dumps([name, section], sort_keys=True)
    return cache_dir("doctor") / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def _abilities(data: Any) -> Abilities:
    """Return abilities whose values are of their kinds. Raises ValueError, TypeError, KeyError."""
    truths = {name: data[name] for name in ("tools", "thought", "schema")}
    numbers = {name: data[name] for name in ("tokens_per_second", "first_token", "spent_usd")}
    window = data["window"]
    if not all(value is None or isinstance(value, bool) for value in truths.values()):
        raise ValueError("not a truth")
    if not all(value is None or isinstance(value, int | float) for value in (*numbers.values(), window)):
        raise ValueError("not a number")
    return Abilities(**truths, **numbers, window=None if window is None else int(window))


def _findings(data: Any) -> tuple[Observation, ...]:
    """Return findings whose values are of their kinds. Raises ValueError, TypeError, KeyError."""
    found = [Observation(one["subject"], one["level"], one["message"], one["hint"]) for one in data[:MOST_FINDINGS]]
    for finding in found:
        texts = (finding.subject, finding.message, finding.hint or "")
        if finding.level not in get_args(Level) or not all(isinstance(text, str) for text in texts):
            raise ValueError("not a finding")
    return tuple(found)
