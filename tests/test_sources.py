"""Settings as commands get them: files, environment and flags put together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.schema import Settings
from miyabi_cli.settings.sources import load_settings
from tests.support.settings_places import SettingsPlaces

SAMPLE = """\
llm:
  provider: groq            # auto | vllm | ollama | groq | openai | embedded
  fallback: [ollama]
  local_only: false         # true: nothing leaves this machine, whatever keys exist
  vllm: {endpoint: "http://localhost:8000", model: openai/gpt-oss-20b, wire: auto}   # auto | harmony | chat
  ollama: {endpoint: "http://localhost:11434", model: "gpt-oss:20b", num_ctx: 65536, keep_alive: 5m}
  groq: {api_key: "${GROQ_API_KEY}", model: openai/gpt-oss-20b}
  openai: {endpoint: "https://example.org/v1", api_key: "${OPENAI_API_KEY}", model: "some-model"}
  embedded: {model: qwen2.5-coder-1.5b, threads: null}
  default_temperature: null
  default_max_tokens: 4096
  default_reasoning_effort: null
  timeout: null
budget: {monthly_usd: 50, per_run_usd: 1, on_exceed: fallback}   # fallback | stop
checks:
  - {name: tests, command: "pytest -q", timeout: 600}
limits: {steps: 60, seconds: 1800, output_bytes: 100000}
worktree: {path: null, include: [], setup: [], keep: false}
sandbox: {mode: auto, network: false, read: [], write: []}
review: {fail_under: 80, weights: {}}
triage: {labels: null, confidence: 0.6}
prices: {}
"""

OLDER_KEYS = """\
provider: groq
vllm:
  endpoint: "http://localhost:8000"
ollama:
  model: "gpt-oss:20b"
groq:
  api_key: "${GROQ_API_KEY}"
  model: "openai/gpt-oss-20b"
default_temperature: 0.2
default_max_tokens: 4096
default_reasoning_effort: "medium"
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SettingsPlaces:
    return SettingsPlaces.made(tmp_path, monkeypatch)


def test_no_file_at_all_gives_the_defaults(places: SettingsPlaces) -> None:
    assert places.load() == Settings()
    assert load_settings(flags={}, environ={}, repository=None) == Settings()


def test_the_contracts_sample_holds_the_defaults(places: SettingsPlaces) -> None:
    settings = places.load(SAMPLE, GROQ_API_KEY="gsk")
    default = Settings()
    assert settings.llm.groq.api_key is not None
    assert settings.llm.groq.api_key.get_secret_value() == "gsk"
    assert settings.llm.openai.api_key is None
    assert settings.llm.openai.endpoint == "https://example.org"
    assert [check.command for check in settings.checks] == ["pytest -q"]
    for section in ("vllm", "ollama", "embedded"):
        assert getattr(settings.llm, section) == getattr(default.llm, section)
    for section in ("budget", "limits", "worktree", "sandbox", "review", "triage", "prices"):
        assert getattr(settings, section) == getattr(default, section)
    assert (default.llm.embedded.context, default.llm.embedded.keep_alive, default.limits.tokens) == (16384, 300, None)


@pytest.mark.parametrize("text", [OLDER_KEYS, "llm:\n" + "".join(f"  {line}\n" for line in OLDER_KEYS.splitlines())])
def test_the_first_plans_sample_loads_as_it_is(places: SettingsPlaces, text: str) -> None:
    llm = places.load(text, GROQ_API_KEY="gsk").llm
    assert llm.groq.api_key is not None
    assert (llm.provider, llm.vllm.endpoint, llm.ollama.model) == ("groq", "http://localhost:8000", "gpt-oss:20b")
    assert (llm.groq.api_key.get_secret_value(), llm.groq.model) == ("gsk", "openai/gpt-oss-20b")
    assert (llm.default_temperature, llm.default_max_tokens, llm.default_reasoning_effort) == (0.2, 4096, "medium")


def test_older_keys_keep_their_lines_and_do_not_stand_twice(places: SettingsPlaces) -> None:
    assert places.error("limits: {steps: 1}\nvllm:\n  endpont: x") == (
        ".miyabi.yml:3: unknown key 'endpont' in llm.vllm",
        "did you mean 'endpoint'?",
    )
    message, _ = places.error("llm: {provider: vllm}\nprovider: groq")
    assert message == ".miyabi.yml:2: 'provider' stands here and in llm"
    assert places.error("llm: 5\nprovider: groq")[0].startswith(".miyabi.yml:1: llm is 5: expected a map")


def test_flags_beat_environment_beats_repository_beats_user_beats_default(places: SettingsPlaces) -> None:
    layers: list[dict[str, Any]] = [
        {"user": "limits: {steps: 2, seconds: 2, output_bytes: 2}\nllm: {timeout: 2}"},
        {"repository": "limits: {steps: 3, seconds: 3, output_bytes: 3}"},
        {"MIYABI_LIMITS__STEPS": "4", "MIYABI_LIMITS__SECONDS": "4"},
        {"flags": {"limits": {"steps": 5, "seconds": None}, "llm": {"provider": None}}},
    ]
    given: dict[str, Any] = {}
    steps = [places.load().limits.steps]
    for layer in layers:
        given |= layer
        steps.append(places.load(**given).limits.steps)
    assert steps == [60, 2, 3, 4, 5]
    settings = places.load(**given)
    assert (settings.limits.seconds, settings.limits.output_bytes, settings.llm.timeout) == (4, 3, 2)
    assert settings.llm.provider == "auto"


def test_a_named_file_replaces_the_repositorys_and_needs_no_trust(places: SettingsPlaces) -> None:
    (places.repository / ".miyabi.yml").write_text("not: valid")
    settings = places.load(
        "not: valid", named="checks: [{name: a, command: b}]", user="limits: {steps: 7}", MIYABI_TRUST_CONFIG=""
    )
    assert (settings.checks[0].command, settings.limits.steps) == ("b", 7)
    with pytest.raises(SettingsError, match=r"missing\.yml: can't be read: No such file"):
        load_settings(flags={}, environ={}, repository=None, config=Path("missing.yml"))


def test_sections_merge_and_lists_and_entries_are_replaced(places: SettingsPlaces) -> None:
    user = "checks: [{name: a, command: a}, {name: b, command: b}]\nreview: {weights: {error: 9, note: 1}}\n"
    user += "prices: {m: {input: 1, output: 2, cached_input: 1}}\nllm: {groq: {model: a}, fallback: [groq]}"
    repository = "checks: [{name: c, command: c}]\nreview: {weights: {error: 5}}\nprices: {m: {input: 3, output: 4}}\n"
    repository += "llm: {groq: {endpoint: 'https://example.org'}, fallback: []}\nbudget:\n"
    settings = places.load(repository, user=user, MIYABI_REVIEW__WEIGHTS__NOTE="2")
    assert [check.name for check in settings.checks] == ["c"]
    assert settings.review.weights == {"error": 5, "note": 2}
    assert (settings.prices["m"].input, settings.prices["m"].cached_input) == (3, None)
    assert (settings.llm.groq.model, settings.llm.groq.endpoint) == ("a", "https://example.org")
    assert settings.llm.fallback == ()
    assert settings.budget == Settings().budget


def test_a_section_left_empty_takes_nothing_away(places: SettingsPlaces) -> None:
    assert places.load("llm:\n  # provider: groq\n", user="llm: {provider: vllm}").llm.provider == "vllm"
    assert places.load("limits: {tokens: null}", user="limits: {tokens: 5}").limits.tokens is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"limits": {"steps": 0}}, "--max-steps is 0: expected a number greater than 0"),
        ({"llm": {"vllm": {"endpoint": "ftp://h"}}}, "--endpoint is 'ftp://h': expected a URL"),
        ({"llm": {"provider": "grok"}}, "--provider is 'grok': expected 'auto'"),
        ({"checks": [{"name": "a", "command": ""}]}, "--check: checks[0].command is '': expected text"),
        ({"worktree": {"setup": "x"}}, "command line: worktree.setup is 'x': expected a list"),
        ({"limits": {"x": 1}}, "command line: unknown key 'x' in limits"),
    ],
)
def test_errors_in_flags_name_the_flag(places: SettingsPlaces, flags: Mapping[str, Any], message: str) -> None:
    assert places.error(flags=flags)[0].startswith(message)


def test_settings_import_what_they_use_alone() -> None:
    script = (
        "import sys, pathlib; from miyabi_cli.settings.sources import load_settings;"
        "load_settings(flags={}, environ={'GROQ_API_KEY': 'k'}, repository=pathlib.Path());"
        "print([name for name in ('pydantic_settings', 'httpx', 'git', 'yaml', 'asyncio') if name in sys.modules])"
    )
    environment = {**os.environ, "MIYABI_CONFIG_DIR": os.devnull}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
