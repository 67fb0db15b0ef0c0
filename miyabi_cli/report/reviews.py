"""The outputs of `review` by name: each takes the result as data, and the change for the code around findings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from miyabi_cli.report.annotations import write_annotations
from miyabi_cli.report.review_markdown import write_markdown
from miyabi_cli.report.review_text import write_text
from miyabi_cli.report.sarif import sarif_log
from miyabi_cli.report.streams import Streams
from miyabi_cli.review.change import Change

Writer = Callable[[Mapping[str, Any], Change, Streams], None]


def write_review(result: Mapping[str, Any], form: str, streams: Streams, change: Change) -> None:
    """Write a result, the object of `--format json`, in a form of `WRITERS`."""
    WRITERS[form](result, change, streams)
    streams.output.flush()


def _json(result: Mapping[str, Any], _change: Change, streams: Streams) -> None:
    print(json.dumps(result, indent=2), file=streams.output)


def _sarif(result: Mapping[str, Any], _change: Change, streams: Streams) -> None:
    print(json.dumps(sarif_log(result), indent=2), file=streams.output)


WRITERS: Mapping[str, Writer] = {
    "text": write_text,
    "json": _json,
    "sarif": _sarif,
    "github": write_annotations,
    "markdown": write_markdown,
}
