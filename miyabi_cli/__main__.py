"""The entry point; `miyabi --version` imports nothing but the standard library."""

from __future__ import annotations

import gc
import io
import os
import sys

_COLLECTED_AFTER = 50_000  # objects; imports make many that stay, and to go through them again and again takes a third


def main() -> None:
    """Run the command line of this process, and end it with the exit code."""
    _open_closed_streams()
    _write_any_letter()
    if sys.argv[1:] in (["--version"], ["-V"]):
        from miyabi_cli import __version__

        print(f"miyabi {__version__}")
        return
    gc.set_threshold(_COLLECTED_AFTER)
    from miyabi_cli.app import run

    sys.exit(run(sys.argv[1:]))


def _open_closed_streams() -> None:
    """Put /dev/null where the caller closed a standard stream, so that no other file gets its number."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - open to the end


def _write_any_letter() -> None:
    """Let what the terminal's encoding lacks be written as an escape, not be an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
