"""A dry run, shown to a person or as JSON."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from miyabi_cli.report.display import plain_text, safe_text

if TYPE_CHECKING:
    from miyabi_cli.codegen.dry_run import Preview
    from miyabi_cli.report.streams import Streams


def write_preview(preview: Preview, form: str, streams: Streams) -> None:
    """Write a preview to the result's stream; `form` is text, json or jsonl."""
    if form != "text":
        data = {"version": 1, "dry_run": True, **dataclasses.asdict(preview)}
        print(json.dumps(data, indent=2 if form == "json" else None), file=streams.output, flush=True)
        return
    print(safe_text("\n".join(_lines(preview))), file=streams.output, flush=True)


def _lines(preview: Preview) -> list[str]:
    cost = "no cap" if preview.cost_bound_usd is None else f"{preview.cost_bound_usd:g} USD at the most"
    lines = [
        plain_text(f"{preview.model} ({preview.provider})", "model    "),
        f"base     {preview.base}",
        *(plain_text(f"{name}: {now} now ({command})", "check    ") for name, command, now in preview.checks),
        f"prompt   {preview.request_bytes:,} bytes, about {preview.prompt_tokens:,} tokens; {cost}",
        *(plain_text(warning, "warning  ") for warning in preview.warnings),
    ]
    for message in preview.messages:
        lines += ["", f"── {message.role}", message.content]
    return lines
