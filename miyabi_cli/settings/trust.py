"""Which settings of a repository's file need the user's trust, and the record of the contents that have it.

A file is judged by its bytes: those that are hashed are those that are parsed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_cli.errors import MachineError, SettingsError
from miyabi_cli.places import data_dir, write_whole
from miyabi_cli.settings.files import has_variable, read_settings_file, shown_path
from miyabi_cli.settings.schema import Settings, is_secret, known_keys
from miyabi_cli.settings.tree import dotted, leaves

REPOSITORY_FILE = ".miyabi.yml"
TRUST_VARIABLE = "MIYABI_TRUST_CONFIG"

Ask = Callable[[Path, tuple[str, ...]], bool]
Judge = Callable[[Any, Any], bool]


def _always(_value: Any, _current: Any) -> bool:
    return True


def _exactly(harmless: object) -> Judge:
    return lambda value, _current: bool(value == harmless)


def _no_more(value: Any, current: Any) -> bool:
    """Anybody may lower a cap; to raise or lift it costs the user money."""
    if current is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and value <= current


def _no_weaker(value: Any, current: Any) -> bool:
    return value is True or current is False


def _served_here(value: Any, _current: Any) -> bool:
    """Ollama sends the prompts of a `…-cloud` model to its maker."""
    return not str(value).strip().lower().endswith(("-cloud", ":cloud"))


def _plain_name(value: Any, _current: Any) -> bool:
    """A path would load a model file that the repository brings along."""
    return re.fullmatch(r"[\w.+-]+(?<!\.gguf)", str(value).strip(), re.IGNORECASE) is not None


def _relative(value: Any, _current: Any) -> bool:
    path = Path(str(value))
    return not path.is_absolute() and ".." not in path.parts and not str(value).startswith("~")


# Keys that do no harm whoever wrote them, each with the judge of (value, what holds without the file). Every other key
# needs trust: it names where code or keys go, what runs, what commands reach, or what is paid. A provider and a model
# may be chosen, for their addresses and keys remain the user's own, and `local_only` keeps them all at home.
HARMLESS: Mapping[str, Judge] = {
    "llm.provider": _always,
    "llm.fallback": _always,
    "llm.local_only": _no_weaker,
    "llm.vllm.model": _always,
    "llm.vllm.wire": _always,
    "llm.ollama.model": _served_here,
    "llm.ollama.num_ctx": _always,
    "llm.ollama.keep_alive": _always,
    "llm.groq.model": _always,
    "llm.openai.model": _always,
    "llm.embedded.model": _plain_name,
    "llm.embedded.threads": _always,
    "llm.embedded.context": _always,
    "llm.embedded.keep_alive": _always,
    "llm.default_temperature": _always,
    "llm.default_max_tokens": _always,
    "llm.default_reasoning_effort": _always,
    "llm.timeout": _always,
    "budget.monthly_usd": _no_more,
    "budget.per_run_usd": _no_more,
    "budget.on_exceed": _always,
    "limits.steps": _always,
    "limits.seconds": _always,
    "limits.output_bytes": _always,
    "limits.tokens": _always,
    "worktree.keep": _always,
    "sandbox.mode": _exactly("auto"),
    "sandbox.network": _exactly(False),
    "review.fail_under": _always,
    "review.weights": _always,
    "triage.labels": _relative,
    "triage.confidence": _always,
}


@dataclass(frozen=True, slots=True)
class RepositoryFile:
    """The settings file of a repository, read once."""

    repository: Path
    path: Path
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def repository_root(folder: Path) -> Path | None:
    """Return the nearest folder at or above one that has a `.git`; None outside of repositories."""
    folder = folder.absolute()
    return next((parent for parent in (folder, *folder.parents) if os.path.lexists(parent / ".git")), None)


def find_repository_file(repository: Path) -> RepositoryFile | None:
    """Return the repository's `.miyabi.yml`, or None where there is none.

    Raises SettingsError for one that can't be read, is no regular file, or is a link that leads out of the repository.
    """
    path = repository / REPOSITORY_FILE
    if not os.path.lexists(path):
        if os.path.lexists(path.with_suffix(".yaml")):
            raise SettingsError(
                f"{shown_path(path.with_suffix('.yaml'))} is not read: settings are in {path.name}", hint="rename it"
            )
        return None
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(repository)):
        raise SettingsError(f"{shown_path(path)} is a link that leads out of the repository", hint="use --config FILE")
    return RepositoryFile(repository, path, read_settings_file(target, path))


def harmful_settings(values: Mapping[str, Any], without: Settings) -> tuple[tuple[str, str], ...]:
    """Return (key, value as text) of all that needs trust in a file's values, which are as they are written.

    `without`: the settings that hold without the file. A value that takes something from the environment always needs
    trust: it could carry a secret to a place that shows it.
    """
    return tuple(_harms(values, without))


def _harms(values: Mapping[str, Any], without: Settings) -> Iterator[tuple[str, str]]:
    for path, _ in known_keys():
        key = ".".join(path)
        value, current = _value_at(values, path), _attribute(without, path)
        if value is _ABSENT or _is_harmless(key, value, current):
            continue
        for place, leaf in leaves(value, path):
            yield dotted(place), _shown(place, leaf)


_ABSENT = object()


def _value_at(values: Any, path: Sequence[str]) -> Any:
    for name in path:
        values = values.get(name, _ABSENT) if isinstance(values, Mapping) else _ABSENT
    return values


def _attribute(settings: Any, path: Sequence[str]) -> Any:
    for name in path:
        settings = getattr(settings, name)
    return settings


def _is_harmless(key: str, value: Any, current: Any) -> bool:
    if any(has_variable(leaf) for _, leaf in leaves(value)):
        return False
    if judge := HARMLESS.get(key):
        return judge(value, current)
    return value is None or value in ([], {})


def _shown(place: tuple[str | int, ...], value: Any) -> str:
    """Return a value on one line, control and bidi characters written out, and no key in clear."""
    if is_secret(place) and not has_variable(value):
        return "(a key)"
    return repr(value)


def is_trusted(file: RepositoryFile, environ: Mapping[str, str]) -> bool:
    """Say whether the user has trusted this content, here before or by `MIYABI_TRUST_CONFIG`.

    Raises SettingsError where that variable is neither 1 nor sha256 sums.
    """
    given = [word.lower() for word in re.split(r"[\s,]+", environ.get(TRUST_VARIABLE, "")) if word not in ("", "0")]
    if any(word != "1" and not re.fullmatch("[0-9a-f]{64}", word) for word in given):
        raise SettingsError(f"{TRUST_VARIABLE} is neither 1 nor a sha256", hint=f"this file's sha256 is {file.sha256}")
    return "1" in given or file.sha256 in given or _is_recorded(file)


def require_trust(
    file: RepositoryFile, harms: Sequence[tuple[str, str]], environ: Mapping[str, str], ask: Ask | None
) -> None:
    """Let a file pass that does no harm or is trusted; else ask, and record a yes. Raises SettingsError otherwise."""
    if not harms or is_trusted(file, environ):
        return
    if ask is not None and ask(file.path, tuple(f"{key}: {value}" for key, value in harms)):
        record_trust(file)
        return
    keys = list(dict.fromkeys(key.split("[")[0] for key, _ in harms))
    more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
    raise SettingsError(
        f"{shown_path(file.path)} is not trusted, and sets {', '.join(keys[:6])}{more}",
        hint=f"read it, then run `miyabi trust`, or set {TRUST_VARIABLE}={file.sha256}",
    )


def record_trust(file: RepositoryFile) -> None:
    """Remember that the user trusts this content in this repository. Raises MachineError."""
    record = _record_path(file)
    text = json.dumps({"repository": _identity(file.repository), "sha256": file.sha256, "time": int(time.time())})
    write_whole(record, f"{text}\n".encode())


def revoke_trust(repository: Path) -> int:
    """Forget each content of this repository's file that was trusted; return how many. Raises MachineError."""
    folder = data_dir("trust")
    records = list(folder.glob(f"{_digest(_identity(repository))}-*.json"))
    for record in records:
        try:
            record.unlink(missing_ok=True)
        except OSError as error:
            raise MachineError(f"can't remove {record}: {error.strerror}") from None
    return len(records)


def _is_recorded(file: RepositoryFile) -> bool:
    try:
        record = json.loads(_record_path(file).read_bytes())
    except (OSError, ValueError, MachineError):  # no data directory: nothing was recorded
        return False
    return isinstance(record, dict) and (record.get("repository"), record.get("sha256")) == (
        _identity(file.repository),
        file.sha256,
    )


def _record_path(file: RepositoryFile) -> Path:
    return data_dir("trust") / f"{_digest(_identity(file.repository))}-{file.sha256}.json"


def _identity(repository: Path) -> str:
    return os.path.realpath(repository)


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]
