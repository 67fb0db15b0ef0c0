"""What a server is to keep to: presets, and files; and whether a level of load kept to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miyabi_cli.bench.load.samples import Sample
from miyabi_cli.errors import MachineError, UsageError

TIMES = ("ttft_ms", "itl_ms", "e2e_ms")
STATISTICS = ("mean", "p50", "p90", "p99", "max")
AT_LEAST = ("requests_per_min", "output_tokens_per_s", "goodput")
MOST = {"goodput": 1.0, "error_share": 1.0}  # they are shares
LARGEST = 1e12
MAX_BYTES = 1 << 20
KEYS = (*TIMES, *AT_LEAST, "error_share", "concurrency", "request")


@dataclass(frozen=True, slots=True)
class Objectives:
    """`most`: what a time may be at most, by its name and statistic, in ms; `least`: what a rate has to reach.

    `request`: what one request may take, in ms by the time's name, to count as good. `concurrency`: the level that is
    judged (None: every one). `error_share`: how many requests may fail.
    """

    name: str
    most: Mapping[tuple[str, str], float] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    request: Mapping[str, float] = field(default_factory=dict)
    concurrency: int | None = None
    error_share: float = 0.0

    def is_good(self, sample: Sample, *, scheduled: bool) -> bool:
        """Say whether an answered request kept to what holds for each."""
        gaps = sum(sample.gaps) / len(sample.gaps) if sample.gaps else 0.0
        times = {"ttft_ms": sample.first_token, "itl_ms": gaps, "e2e_ms": sample.whole(scheduled=scheduled)}
        return all(1000 * times[name] <= most for name, most in self.request.items())

    def data(self) -> dict[str, Any]:
        """Return the objectives as a file has them."""
        times: dict[str, Any] = {}
        for (name, statistic), most in self.most.items():
            times.setdefault(name, {})[statistic] = most
        level = {} if self.concurrency is None else {"concurrency": self.concurrency}
        share = {"error_share": self.error_share}
        return {"name": self.name, **times, **self.least, **share, **level, "request": dict(self.request)}


def mean_under(name: str, seconds: float, **more: Any) -> Objectives:
    """Return the objective that a mean request ends within so many seconds."""
    most = 1000 * seconds
    return Objectives(name, {("e2e_ms", "mean"): most}, request={"e2e_ms": most}, **more)


PRESETS = {
    "groq": mean_under("groq", 5),
    "vllm": mean_under("vllm", 3, least={"requests_per_min": 100.0}, concurrency=10),
    "ollama": mean_under("ollama", 15),
    "codegen": mean_under("codegen", 30),
    "review": mean_under("review", 10),
    "triage": mean_under("triage", 5),
}


def find_objectives(name: str) -> Objectives:
    """Return a preset, or what a file says. Raises UsageError."""
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"there is no objective {name}", hint=f"name one of {', '.join(PRESETS)}, or a YAML file")
    import yaml

    try:
        with path.open("rb") as file:
            return read_objectives(path.name, yaml.safe_load(file.read(MAX_BYTES)))
    except OSError as error:
        raise MachineError(f"can't read {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path.name} holds no objectives: {reason}", hint=f"keys: {', '.join(KEYS)}") from None


def read_objectives(name: str, value: Any) -> Objectives:
    """Read the objectives of a file. Raises ValueError."""
    if not isinstance(value, dict) or not value:
        raise ValueError("a mapping is expected")
    if unknown := [str(key) for key in value if key not in KEYS]:
        raise ValueError(f"unknown: {', '.join(unknown[:5])}")
    most = {
        (time, statistic): _number(limit, f"{time}.{statistic}")
        for time in TIMES
        for statistic, limit in _mapping(value.get(time), time, STATISTICS).items()
    }
    least = {key: _number(value[key], key, MOST.get(key)) for key in AT_LEAST if key in value}
    request = {
        key: _number(limit, f"request.{key}") for key, limit in _mapping(value.get("request"), "request", TIMES).items()
    }
    if not request:  # what holds for a mean or a percentile is what a single request is held to
        for (time, _), limit in most.items():
            request[time] = max(limit, request.get(time, 0.0))
    concurrency = value.get("concurrency")
    if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
        raise ValueError("concurrency is a whole number of 1 or more")
    share = _number(value.get("error_share", 0.0), "error_share", MOST["error_share"])
    return Objectives(name, most, least, request, concurrency, share)


def judged(objectives: Objectives, results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the levels that the objectives are about: all of them where the one that they name was not measured."""
    named = [one for one in results if objectives.concurrency == one.get("concurrency")]
    return named if objectives.concurrency is not None and named else list(results)


def misses(objectives: Objectives, result: Mapping[str, Any]) -> list[str]:
    """Return what a level did not keep to, each in a few words; nothing measured keeps to nothing."""
    found = []
    for (name, statistic), most in objectives.most.items():
        value = result[name][statistic]
        if value is None or value >= most:
            found.append(f"{name} {statistic} is {_shown(value)}, and has to be under {most:g}")
    for name, least in objectives.least.items():
        if result[name] < least:
            found.append(f"{name} is {_shown(result[name])}, and has to be at least {least:g}")
    failed = sum(result["errors"].values())
    if failed > objectives.error_share * result["requests"]:
        found.append(f"{failed} of {result['requests']} requests failed")
    return found


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def _mapping(value: Any, key: str, names: Sequence[str]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or (unknown := [str(name) for name in value if name not in names]):
        raise ValueError(
            f"{key} holds {', '.join(names)}" + (f", and not {unknown[0]}" if isinstance(value, dict) else "")
        )
    return value


def _number(value: Any, key: str, most: float | None = None) -> float:
    bound = LARGEST if most is None else most
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= bound:
        raise ValueError(f"{key} is no number " + ("of 0 or more" if most is None else f"from 0 to {most:g}"))
    return float(value)
