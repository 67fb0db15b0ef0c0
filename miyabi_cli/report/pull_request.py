"""A codegen result as a pull request's title and text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miyabi_cli import __version__
from miyabi_cli.markdown import shortened
from miyabi_cli.report.display import plain_text
from miyabi_cli.report.markdown import block, checks_table, code, figures, joined, warnings_list

TITLE_LIMIT = 100  # letters; GitHub takes 256
BODY_LIMIT = 60_000  # letters; GitHub takes 65,536
TOO_LONG = "Checks and warnings are too long to stand here."


def pull_request_text(task: str, issue: int | None, result: Mapping[str, Any]) -> tuple[str, str]:
    """Return title and body. `result` is the object of `--format json`; the issue with the number `issue` is closed.

    Nothing that the task, an issue or the model says in the body pings anybody, shows an image, hides text or closes
    an issue: it stands in code. The title is the task's first line, in which GitHub looks for none of that.
    """
    title = shortened(plain_text(task.strip().partition("\n")[0]), TITLE_LIMIT)
    proof = "Verified: the checks below." if result["status"] == "verified" else "Not verified: no proof was asked for."
    asked = (f"Closes #{issue}" if issue else "", "**Asked for**", block(task))
    done = ("**Done**, in the model's words", block(result["summary"]), proof)
    more = (checks_table(result), warnings_list(result))
    made = f"Made by miyabi {__version__} on {code(result['base'][:12])}: {figures(result)}"
    body = joined(*asked, *done, *more, made)
    return title, body if len(body) <= BODY_LIMIT else joined(*asked, *done, TOO_LONG, made)
