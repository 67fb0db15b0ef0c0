"""Settings in environment variables, and errors that name the variable."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.schema import KeyPath, Settings, known_keys
from miyabi_cli.settings.tree import variable_of
from miyabi_cli.settings.variables import NOT_SETTINGS
from tests.support.settings_places import SettingsPlaces


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SettingsPlaces:
    return SettingsPlaces.made(tmp_path, monkeypatch)


ENVIRONMENT: dict[str, tuple[str, Any]] = {
    "MIYABI_LLM__PROVIDER": ("groq", lambda s: s.llm.provider == "groq"),
    "MIYABI_LLM__FALLBACK": ('["ollama", "embedded"]', lambda s: s.llm.fallback == ("ollama", "embedded")),
    "MIYABI_LLM__LOCAL_ONLY": ("yes", lambda s: s.llm.local_only is True),
    "MIYABI_LLM__OLLAMA__KEEP_ALIVE": ("-1", lambda s: s.llm.ollama.keep_alive == -1),
    "MIYABI_LLM__GROQ__API_KEY": (" k\n", lambda s: s.llm.groq.api_key.get_secret_value() == "k"),
    "MIYABI_LLM__VLLM": ('{"model": "m"}', lambda s: s.llm.vllm.model == "m"),
    "MIYABI_LLM__REPLAY__FILE": ("replies.jsonl", lambda s: s.llm.replay.file == Path("replies.jsonl")),
    "MIYABI_LIMITS__STEPS": ("5", lambda s: s.limits.steps == 5),
    "MIYABI_LIMITS__TOKENS": ("null", lambda s: s.limits.tokens is None),
    "MIYABI_BUDGET__MONTHLY_USD": ("null", lambda s: s.budget.monthly_usd is None),
    "MIYABI_CHECKS": ('[{"name": "a", "command": "b"}]', lambda s: s.checks[0].command == "b"),
    "MIYABI_SANDBOX__MODE": ("off", lambda s: s.sandbox.mode == "off"),
    "MIYABI_SANDBOX__READ": ('["~/x"]', lambda s: s.sandbox.read == (Path.home() / "x",)),
    "MIYABI_REVIEW__WEIGHTS": ('{"error": 3}', lambda s: s.review.weights == {"error": 3}),
    "MIYABI_PRICES": ('{"m": {"input": 1, "output": 2}}', lambda s: s.prices["m"].output == 2),
    "GROQ_API_KEY": ("k", lambda s: s.llm.groq.api_key.get_secret_value() == "k"),
    "OPENAI_API_KEY": ("k", lambda s: s.llm.openai.api_key.get_secret_value() == "k"),
    "OPENAI_BASE_URL": ("https://h/v1/", lambda s: s.llm.openai.endpoint == "https://h"),
    "VLLM_ENDPOINT": ("h:1/v1", lambda s: s.llm.vllm.endpoint == "http://h:1"),
    "OLLAMA_HOST": ("0.0.0.0", lambda s: s.llm.ollama.endpoint == "http://127.0.0.1:11434"),  # noqa: S104 - what is tested
    "GITHUB_TOKEN": ("k", lambda s: s.github.token.get_secret_value() == "k"),
    "MIYABI_LLM__TIMEOUT": ("", lambda s: s == Settings()),
    "MIYABI_TEST_ANYTHING": ("x", lambda s: s == Settings()),
    "MIYABI_UNRELATED_TO_ANY": ("x", lambda s: s == Settings()),
    **{name: ("1", lambda s: s == Settings()) for name in sorted(NOT_SETTINGS)},
}


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_variables_set_keys(places: SettingsPlaces, name: str) -> None:
    text, holds = ENVIRONMENT[name]
    assert holds(places.load(**{name: text}))


def test_every_key_has_a_variable(places: SettingsPlaces) -> None:
    """Each variable reaches its key: a nonsense text is refused, or taken, there and nowhere else."""

    def value(settings: Settings, path: KeyPath) -> object:
        return reduce(getattr, path, settings)

    default = places.load()
    for path, _ in known_keys():
        name = variable_of(path)
        outcome = places.outcome(**{name: "a b"})
        if isinstance(outcome, SettingsError):
            assert outcome.message.startswith(name)
        else:
            assert [key for key, _ in known_keys() if value(outcome, key) != value(default, key)] == [path]


@pytest.mark.parametrize(
    ("name", "text", "message", "hint"),
    [
        ("MIYABI_LLM__PROVDER", "x", "MIYABI_LLM__PROVDER: no such setting", "did you mean MIYABI_LLM__PROVIDER?"),
        ("MIYABI_LMITS__STEPS", "5", "MIYABI_LMITS__STEPS: no such setting", "did you mean MIYABI_LIMITS?"),
        ("MIYABI_PROVIDER", "groq", "MIYABI_PROVIDER: no such setting", "did you mean MIYABI_LLM__PROVIDER?"),
        ("MIYABI_LLM__PROVIDER", "grok", "MIYABI_LLM__PROVIDER is 'grok': expected 'auto'", "did you mean 'groq'?"),
        ("MIYABI_LLM__FALLBACK", "ollama", "MIYABI_LLM__FALLBACK is not JSON", "lists and maps"),
        ("MIYABI_LLM__FALLBACK", "[" * 100_000, "MIYABI_LLM__FALLBACK is not JSON", "lists and maps"),
        ("MIYABI_CHECKS", '[{"name": "a"}]', "MIYABI_CHECKS: checks[0] needs the key 'command'", ""),
        ("MIYABI_LLM", '{"vllm": {"wire": "x"}}', "MIYABI_LLM: llm.vllm.wire is 'x': expected", ""),
        ("MIYABI_LIMITS__STEPS__X", "5", "MIYABI_LIMITS__STEPS", ""),
        ("MIYABI_LLM__GROQ__API_KEY", "hunter 2", "MIYABI_LLM__GROQ__API_KEY is not usable: expected a key", ""),
        ("GROQ_API_KEY", "hunter 2", "GROQ_API_KEY is not usable: expected a key", ""),
        ("OPENAI_BASE_URL", "http://u:hunter2@h", "OPENAI_BASE_URL is not usable: expected a URL without user", ""),
        ("OLLAMA_HOST", "h:port", "OLLAMA_HOST is not usable: expected a port", ""),
        ("VLLM_ENDPOINT", "ftp://h", "VLLM_ENDPOINT is 'ftp://h': expected a URL", ""),
    ],
)
def test_errors_in_the_environment_name_the_variable(
    places: SettingsPlaces, name: str, text: str, message: str, hint: str
) -> None:
    found = places.error(**{name: text})
    assert found[0].startswith(message)
    assert found[1].startswith(hint)
    assert "hunter" not in "".join(found)


def test_miyabis_own_variables_beat_the_servers_and_both_beat_files(places: SettingsPlaces) -> None:
    text = "llm: {openai: {api_key: '${MY_KEY}', endpoint: 'https://file'}}"
    llm = places.load(text, MY_KEY="file", OPENAI_API_KEY="shell", OPENAI_BASE_URL="https://shell").llm
    assert llm.openai.api_key is not None
    assert (llm.openai.api_key.get_secret_value(), llm.openai.endpoint) == ("shell", "https://shell")
    llm = places.load(text, MY_KEY="file", OPENAI_API_KEY="shell", MIYABI_LLM__OPENAI__API_KEY="own").llm
    assert llm.openai.api_key is not None
    assert (llm.openai.api_key.get_secret_value(), llm.openai.endpoint) == ("own", "https://file")


def test_a_single_key_beats_its_sections_variable(places: SettingsPlaces) -> None:
    limits = places.load(MIYABI_LIMITS__STEPS="5", MIYABI_LIMITS='{"steps": 3, "seconds": 9}').limits
    assert (limits.steps, limits.seconds) == (5, 9)
