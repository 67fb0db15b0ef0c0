"""A server's own metrics in Prometheus's text (vLLM's, SGLang's and llama.cpp's `/metrics`), before a load and after.

The format is Prometheus' exposition format 0.0.4; the names are those of vLLM's docs/usage/metrics.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from miyabi_cli.bench.load.percentiles import percentile
from miyabi_cli.bench.load.samples import Sample

MAX_METRICS_BYTES = 8 << 20
MOST_NAMES = 400
_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]{0,150})(?:\{[^}]{0,2000}\})? (\S{1,40})(?: \d{1,20})?")
_SERVERS = ("vllm:", "sglang:", "llamacpp:", "tgi_")
_LEFT_OUT = ("_bucket", "_created", "_info")


def read_metrics(text: str) -> dict[str, float]:
    """Return the model server's metrics by name, summed over their labels; what is none of them is passed over."""
    found: dict[str, float] = {}
    for line in text[:MAX_METRICS_BYTES].splitlines():
        if not line.startswith(_SERVERS) or not (match := _LINE.fullmatch(line)) or match[1].endswith(_LEFT_OUT):
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        if value == value and abs(value) < 1e18 and (match[1] in found or len(found) < MOST_NAMES):
            found[match[1]] = found.get(match[1], 0.0) + value
    return found


def growth(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
    """Return what a load has changed: each counter's growth, and the mean of what each histogram took in, in ms.

    Nothing where either is not known, for what a server has counted in all its life is no growth; and where a counter
    fell, for then the server was started anew between the two.
    """
    if not before or not after or any(_counts(name) and after.get(name, 0.0) < before[name] for name in before):
        return {}
    counters = {}
    means = {}
    for name, value in after.items():
        more = value - before.get(name, 0.0)
        if name.endswith("_total") and more > 0:
            counters[name] = round(more, 6)
        base = name.removesuffix("_sum")
        count = after.get(f"{base}_count", 0.0) - before.get(f"{base}_count", 0.0)
        if name.endswith("_seconds_sum") and count > 0:
            means[base.removesuffix("_seconds") + "_ms"] = round(1000 * more / count, 3)
    found = {"counters": counters, "means": means}
    hits, asked = (_grown(counters, kind) for kind in ("prefix_cache_hits_total", "prefix_cache_queries_total"))
    return found | ({"prefix_cache_hit_rate": round(hits / asked, 4)} if 0 <= hits <= asked > 0 else {})


def _counts(name: str) -> bool:
    """Say whether a metric only ever grows."""
    return name.endswith(("_total", "_sum", "_count"))


def told_times(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the times that the server told within its replies, in ms by name: mean, median and the 99th percentile."""
    names = sorted({name for sample in samples for name in sample.server_times})
    times: dict[str, Any] = {}
    for name in names[:20]:
        values = sorted(1000 * one.server_times[name] for one in samples if name in one.server_times)
        mean = sum(values) / len(values)
        figures = {"mean": mean, "p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}
        times[f"{name}_ms"] = {key: round(value, 3) for key, value in figures.items()}
    return times


def _grown(counters: Mapping[str, float], ending: str) -> float:
    return sum(value for name, value in counters.items() if name.endswith(ending))
