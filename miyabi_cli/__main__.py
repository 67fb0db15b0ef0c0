"""The entry point; `miyabi --version` imports nothing but the standard library."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process, and end it with the exit code."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from miyabi_cli import __version__

        print(f"miyabi {__version__}")
        return
    from miyabi_cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
