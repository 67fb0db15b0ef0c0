"""What others wrote, put into Markdown as GitHub shows it: it pings nobody, links to nothing, and closes no issue."""

from __future__ import annotations

import re
import textwrap

from miyabi_cli.fences import backticks

WIDTH = 100
# A word that makes GitHub close an issue where it stands before one (docs.github.com, "Linking a pull request to an
# issue"), and how issues are named: #1, GH-1, owner/name#1, an address.
_CLOSING = re.compile(
    r"\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)(:?\s{1,9})(?=(?:[\w.-]{1,100}/[\w.-]{1,100})?#\d|gh-\d|https?://)",
    re.IGNORECASE,
)
_CODE = re.compile(r"(`[^`]{1,200}`|(?:https?://|www\.)[^\s`]{1,300})", re.IGNORECASE)
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#!|~]")
_MENTION = re.compile(r"(?<![\w`])@(?=[A-Za-z0-9])")


def unlinked(text: str) -> str:
    """Return plain text, as for a commit's message, that mentions nobody and closes no issue."""
    return _MENTION.sub("@ ", _CLOSING.sub(r"\1\2issue ", text))


def prose(text: str) -> str:
    """Return words on one line that stand as they are: no mark-up, link, picture or mention; code in backticks stays.

    For Markdown as GitHub shows it. An address becomes code, since GitHub makes a link of it wherever it stands.
    """
    parts = _CODE.split(" ".join(text.split()))
    return "".join(inline_code(part.strip("`")) if at % 2 else _escaped(part) for at, part in enumerate(parts))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", unlinked(text)).replace("&", "&amp;")


def inline_code(text: str, limit: int = 200) -> str:
    """Return text on one line of code, which stands in a table's cell too; "" for none."""
    line = shortened(" ".join(text.split()), limit)
    if not line:
        return ""
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if line[0] == "`" or line[-1] == "`" else ""
    # Within a table a bar ends the cell, also in code, unless it is escaped (GFM, 4.10).
    return f"{fence}{space}{line}{space}{fence}".replace("|", "\\|")


def code_block(text: str, limit: int = 4000) -> str:
    """Return text as a block of code with lines of at most 100 letters, where words allow it; "" for none."""
    text = shortened(text.strip(), limit)
    if not text:
        return ""
    lines = (textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    wrapped = "\n".join("\n".join(line) for line in lines)
    fence = backticks(wrapped)
    return f"{fence}text\n{wrapped}\n{fence}"


def shortened(text: str, limit: int) -> str:
    """Return a text of at most `limit` letters, and three dots where that is not all of it."""
    return text if len(text) <= limit else f"{text[: limit - 3].rstrip()}..."
