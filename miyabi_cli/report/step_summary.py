"""The summary of a step of GitHub Actions: a Markdown file that GITHUB_STEP_SUMMARY names, and a job's page shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from miyabi_cli.errors import MachineError, MiyabiError
from miyabi_cli.report.markdown import block, checks_table, code, figures, joined, warnings_list

LIMIT = 1024 * 1024  # bytes of a step's summary; past that GitHub shows nothing of it


def append_summary(text: str, environ: Mapping[str, str] = os.environ) -> None:
    """Append text to the step's summary, where there is one and it has room. Raises MachineError."""
    name = environ.get("GITHUB_STEP_SUMMARY", "")
    if not name:
        return
    try:
        with Path(name).open("ab") as file:
            content = f"\n{text}".encode("utf-8", "replace")
            if file.tell() + len(content) <= LIMIT:
                file.write(content)
    except OSError as error:
        raise MachineError(f"can't write the step's summary, {name}: {error.strerror}") from None


def result_summary(task: str, result: Mapping[str, Any]) -> str:
    """Return the summary of a run that has come to its end; `result` is the object of `--format json`."""
    pull = result.get("pull_request")
    where = f"Branch {code(result['branch'])}, commit {code(result['commit'][:12])}" if result["branch"] else ""
    return joined(
        f"### miyabi codegen: {result['status']}",
        block(task, 1000),
        block(result["summary"]),
        checks_table(result),
        warnings_list(result),
        f"Pull request #{pull['number']}: {code(pull['url'])}" if pull else where,
        figures(result),
    )


def error_summary(task: str, error: MiyabiError) -> str:
    """Return the summary of a run that an error has ended."""
    said = f"{error.message}\n{error.hint}" if error.hint else error.message
    return joined(f"### miyabi codegen: {error.kind.replace('_', ' ')} error", block(task, 1000), block(said))
