"""Every JSON output obeys the schema that ships for it, and every schema is a schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from tests.conftest import Miyabi
from tests.support.schemas import schema, validate
from tests.support.server import chat_server
from tests.test_codegen import FIXING, TASK, model

Git = Callable[..., str]
NAMES = sorted(
    path.name.removesuffix(".json")
    for path in resources.files("miyabi_cli").joinpath("schemas").iterdir()
    if path.name.endswith(".json")
)


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


def test_the_outputs_of_each_command_obey_their_schemas(repository: Path, miyabi: Miyabi) -> None:
    with chat_server(*FIXING) as server:
        run = miyabi("codegen", TASK, *model(server), "--keep-worktree", "--format", "json", cwd=repository)
        (repository.parent / "tasks.jsonl").write_text('{"task": "Fix add"}')
        tasks = miyabi("codegen", "--tasks", "../tasks.jsonl", *model(server), cwd=repository)
        preview = miyabi("codegen", TASK, *model(server), "--dry-run", "--format", "json", cwd=repository)
    outputs = {
        "codegen": run.stdout,
        "dry_run": preview.stdout,
        "tasks": tasks.stdout,
        "runs": miyabi("runs", "list", "--format", "json").stdout,
        "run": miyabi("runs", "show", "--format", "json", "--events").stdout,
        "worktrees": miyabi("worktrees", "list", "--format", "json", cwd=repository).stdout,
        "models": miyabi("model", "list", "--format", "json").stdout,
        "usage": miyabi("usage", "--format", "json").stdout,
        "init": miyabi("init", "--format", "json", cwd=repository).stdout,
        "review": miyabi("review", "--no-llm", "--no-linters", "--format", "json", cwd=repository).stdout,
        "doctor": miyabi("doctor", "--no-probe", "--format", "json", cwd=repository).stdout,
        "error": miyabi("runs", "show", "nothing", "--format", "json").stdout,
    }
    for name, text in outputs.items():
        value = json.loads(text)
        assert value, name
        validate(value, name)
    elsewhere = {"event", "settings", "bench", "bench_compare", "triage"}  # theirs are in tests of their own
    assert set(outputs) | elsewhere == set(NAMES)
