"""The table of known models, and finding them on the machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from miyabi_cli.errors import MachineError, UsageError
from miyabi_cli.llm.local.models import (
    KNOWN_MODELS,
    FileSource,
    KnownModel,
    WheelSource,
    find_model,
    known_model,
    model_path,
    needed_memory,
)
from miyabi_cli.settings.schema import Embedded

DEFAULT_MODEL = Embedded().model


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_names_and_files_are_unique() -> None:
    assert len({model.name for model in KNOWN_MODELS}) == len(KNOWN_MODELS)
    assert len({model.file for model in KNOWN_MODELS}) == len(KNOWN_MODELS)
    assert known_model(DEFAULT_MODEL).name == DEFAULT_MODEL


@pytest.mark.parametrize("model", KNOWN_MODELS, ids=lambda model: model.name)
def test_each_model_can_be_fetched_and_verified(model: KnownModel) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", model.sha256)
    assert model.file.endswith(".gguf")
    assert model.memory_bytes > model.size
    assert model.sources
    for source in model.sources:
        if isinstance(source, FileSource):
            assert source.url.startswith("https://")
        else:
            assert isinstance(source, WheelSource)
            assert 0 < model.size - source.part_bytes * (len(source.packages) - 1) <= source.part_bytes


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError) as raised:
        find_model("gpt-7")
    assert DEFAULT_MODEL in str(raised.value.hint)


def test_a_model_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(MachineError) as raised:
        find_model(DEFAULT_MODEL)
    assert raised.value.hint == f"miyabi model pull {DEFAULT_MODEL}"


def test_a_model_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = model_path(known_model(DEFAULT_MODEL))
    path.write_bytes(b"GGUF")
    assert find_model(DEFAULT_MODEL) == path
    own = tmp_path / "own.gguf"
    own.write_bytes(b"GGUF")
    assert find_model(str(own)) == own
    with pytest.raises(MachineError, match="no such file"):
        find_model(str(tmp_path / "other.gguf"))


def test_a_path_from_here_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert find_model("own.gguf") == tmp_path / "own.gguf"


def test_another_models_memory_grows_with_its_context(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF" * 1000)
    assert needed_memory(path, 2000) - needed_memory(path, 1000) == 1000 * 32 * 1024
    known = known_model(DEFAULT_MODEL)
    assert needed_memory(tmp_path / known.file, 16384) == known.memory_bytes
