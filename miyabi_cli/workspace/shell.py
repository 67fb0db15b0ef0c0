"""How a command that a model or a settings file gave becomes an argv."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

_SHELLS = ("bash", "sh", "dash", "zsh", "ksh")

# A shell at the start of a command, with its options; quoted text is matched first, so that it is left alone.
_COMMAND_START = r"(?:^|[;&|(\n]|\$\(|`|\b(?:then|do|else|exec|time|env)[ \t])[ \t]*"
# Quoted text is matched first, so that it is left alone.
_SHELL_IN_TEXT = re.compile(
    r"""'[^']*'|"(?:\\.|[^"\\])*"|\\."""
    rf"|(?P<before>{_COMMAND_START}(?:[\w./-]*/)?(?:{'|'.join(_SHELLS)}))"
    r"(?P<options>(?:[ \t]+(?:--login|-[A-Za-z]+))+)(?=[ \t])",
    re.DOTALL,
)


def shell_argv(command: str | Sequence[str], shell: str) -> list[str]:
    """Return the argv of a command: a string goes to `shell -c`; a login shell becomes a plain one in either form.

    A login shell would read the system's profile, which resets PATH on Debian.
    """
    if isinstance(command, str):
        return [shell, "-c", _without_login_in_text(command)]
    return _without_login(command)


def _without_login(argv: Sequence[str]) -> list[str]:
    """Drop `--login` and the `l` of option clusters before a shell's command or script."""
    if not argv or PurePath(argv[0]).name not in _SHELLS:
        return list(argv)
    kept, rest = [argv[0]], list(argv[1:])
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        option = rest.pop(0)
        kept += [plain] if (plain := _plain_option(option)) else []
        if not option.startswith("--") and option[-1] in "oO" and rest:
            kept.append(rest.pop(0))
    return kept + rest


def _plain_option(option: str) -> str:
    if option.startswith("--"):
        return "" if option == "--login" else option
    return "" if option == "-l" else option.replace("l", "")


def _without_login_in_text(text: str) -> str:
    """Do the same where a command line starts a shell; text after a here-document's start is left as it is."""
    line, here, document = text.partition("<<")
    return _SHELL_IN_TEXT.sub(_plain_start, line) + here + document


def _plain_start(match: re.Match[str]) -> str:
    if match["before"] is None:
        return match[0]
    options = [plain for option in match["options"].split() if (plain := _plain_option(option))]
    return " ".join([match["before"], *options])
