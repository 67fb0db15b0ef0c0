"""The kinds of values that settings have, each with its check; a check's message begins with "expected"."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints, WithJsonSchema

from miyabi_cli.settings.endpoints import normalize_endpoint

_DURATION = r"-?[0-9]+(\.[0-9]+)?(ms|s|m|h)?|([0-9]+h)?([0-9]+m)?([0-9]+s)?"
# What a review's findings go by: severity, level, category.
WEIGHT_NAMES = (
    *("error", "warning", "note", "critical", "high", "medium", "low"),
    *("secret", "security", "type", "compile", "lint", "correctness", "performance", "reliability", "compatibility"),
    *("maintainability", "tests", "documentation"),
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _not_a_truth_value(value: object) -> object:
    """Refuse true and false where a number is wanted: pydantic would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _weight(value: object) -> object:
    """Return a name of what costs points in small letters; one that no finding goes by would change nothing."""
    if not isinstance(value, str) or value.lower() not in WEIGHT_NAMES:
        raise ValueError(f"expected one of {', '.join(WEIGHT_NAMES)}")
    return value.lower()


def _seconds(value: object) -> float:
    """Return seconds from a number or a duration as Ollama writes it (`5m`, `1h30m`); anything below 0 is for ever."""
    seconds = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    if isinstance(value, str) and value.strip() and re.fullmatch(_DURATION, value.strip()):
        pieces = re.findall(r"(-?[0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?", value.strip())
        seconds = sum(float(number) * _UNITS[unit or "s"] for number, unit in pieces)
    if seconds is None or not math.isfinite(seconds):
        raise ValueError('expected a duration such as "5m", seconds, 0 (at once) or -1 (never)')
    return -1.0 if seconds < 0 else float(seconds)


def _path(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("expected a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # no such user, no home
        raise ValueError("expected a path whose ~ means a home directory of this machine") from None


def _key(value: object) -> object:
    """Read a key as it is pasted: white space around it goes, and an empty one is none."""
    if not isinstance(value, str):
        return value
    value = value.strip()
    if not re.fullmatch(r"[!-~]*", value):
        raise ValueError("expected a key of ASCII characters without spaces")
    return value or None


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Count = Annotated[int, Field(gt=0), BeforeValidator(_not_a_truth_value)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_not_a_truth_value)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_not_a_truth_value)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False), BeforeValidator(_not_a_truth_value)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_not_a_truth_value)]
Score = Annotated[int, Field(ge=0, le=100), BeforeValidator(_not_a_truth_value)]
Secret = Annotated[SecretStr | None, BeforeValidator(_key)]
WeightName = Annotated[str, BeforeValidator(_weight), WithJsonSchema({"enum": list(WEIGHT_NAMES)})]
FilePath = Annotated[Path, BeforeValidator(_path)]
Endpoint = Annotated[Text, AfterValidator(normalize_endpoint)]
Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^({_DURATION})$"}]}),
]
