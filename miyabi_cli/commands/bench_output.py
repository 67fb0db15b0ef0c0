"""Where a benchmark's document goes: the flags for it, their places looked at first, and the writing at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.report.streams import ColorChoice

if TYPE_CHECKING:
    from miyabi_cli.bench.comparing import Comparison
    from miyabi_cli.bench.document import Document
    from miyabi_cli.redaction import Redactor

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the JSON document to a file.", metavar="FILE")
]
Html = Annotated[Path | None, typer.Option("--html", help="Write a page with charts, for a browser.", metavar="FILE")]


@dataclass(frozen=True, slots=True)
class Outlets:
    """`output` takes the JSON document, `html` the page; stdout the tables, or with `as_json` what has no file."""

    output: Path | None
    html: Path | None
    as_json: bool
    color: ColorChoice

    def deliver(self, document: Document, redactor: Redactor) -> None:
        """Write a document as the flags ask, each file whole or not at all. Raises MachineError."""
        from miyabi_cli.bench.document import Document
        from miyabi_cli.report.bench import write_document
        from miyabi_cli.report.streams import open_streams

        data = redactor.redact_data(document.data())
        document = Document(data["kind"], data["environment"], data["settings"], data["results"], data["summary"])
        self.write_data(data)
        self.write_page([("", document)])
        if not self.as_json:
            write_document(document, open_streams(None, color=self.color, quiet=False, verbose=False))

    def write_data(self, data: dict[str, Any]) -> None:
        """Write an object as JSON to its file, or with `as_json` and without a file to stdout. Raises MachineError."""
        text = json.dumps(data, indent=2, allow_nan=False) + "\n"
        self.write_text(text)
        if self.as_json and not self.output:
            typer.echo(text, nl=False)

    def write_text(self, text: str) -> None:
        """Write text to the file of `--output`, where there is one. Raises MachineError."""
        if self.output:
            _write(self.output, text.encode("utf-8", "replace"))

    def write_page(
        self,
        documents: Sequence[tuple[str, Document]],
        comparison: Comparison | None = None,
        fail_on: float | None = None,
    ) -> None:
        """Write the page of a document, or of two that are compared, where one is asked for. Raises MachineError."""
        if self.html:
            from miyabi_cli.report.html.bench import render_documents

            _write(self.html, render_documents(documents, comparison, fail_on))


def open_outlets(
    output: Path | None,
    html: Path | None,
    format: str,
    color: ColorChoice = "auto",
    *,
    inputs: Iterable[str | Path | None] = (),
) -> Outlets:
    """Return the outlets that the flags name; none of them is one of the command's `inputs`.

    Raises UsageError and MachineError before hours of work are lost.
    """
    read = {Path(path).expanduser().resolve() for path in inputs if path}
    for path in (output, html):
        if path and path.resolve() in read:
            raise UsageError(f"{path} would be written over", hint="--output and --html name other files")
    if output and html and output.absolute() == html.absolute():
        raise UsageError(f"--output and --html are both {output}", hint="name two files")
    for flag, path in (("--output", output), ("--html", html)):
        if path is None:
            continue
        if path.is_dir():
            raise UsageError(f"{flag} {path} is a folder", hint=f"{flag} names a file")
        if not path.absolute().parent.is_dir():
            raise MachineError(f"can't write {path}: there is no folder {path.parent}", hint="make it first")
        if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            raise MachineError(f"can't write {path}: it may not be written", hint=f"{flag} names a file of yours")
    return Outlets(output, html, format == "json", color)


def _write(path: Path, content: bytes) -> None:
    from miyabi_cli.places import write_whole

    if not path.exists() or path.is_file():
        write_whole(path.resolve(), content)  # what a link names is written, and the link stays
        return
    try:
        path.write_bytes(content)  # a pipe or a device has no other way
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None
