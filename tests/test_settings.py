"""What settings accept, and errors that name file, line, value and the nearest key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.schema import Settings, known_keys
from tests.support.settings_places import SettingsPlaces


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SettingsPlaces:
    return SettingsPlaces.made(tmp_path, monkeypatch)


WRONG = {
    "llm:\n  provder: groq": ("2: unknown key 'provder' in llm", "did you mean 'provider'?"),
    "lmits: {steps: 5}": ("1: unknown key 'lmits'", "did you mean 'limits'?"),
    "limits: {num_ctx: 5}": ("1: unknown key 'num_ctx' in limits", "did you mean 'llm.ollama.num_ctx'?"),
    "steps: 5": ("1: unknown key 'steps'", "did you mean 'limits.steps'?"),
    "limits: {zzzzzz: 5}": ("1: unknown key 'zzzzzz' in limits", "known here: steps, seconds"),
    "checks:\n- {name: a, command: b,\n   timout: 5}": (
        "3: unknown key 'timout' in checks[0]",
        "did you mean 'timeout'?",
    ),
    "prices: {m: {inptu: 1, input: 1, output: 1}}": ("1: unknown key 'inptu' in prices.m", "did you mean 'input'?"),
    "checks:\n- name: a": ("2: checks[0] needs the key 'command'", ""),
    "checks: pytest": ("1: checks is 'pytest': expected a list", ""),
    "llm: {provider: grok}": ("1: llm.provider is 'grok': expected 'auto', 'vllm'", "did you mean 'groq'?"),
    "llm: {fallback: [groq, auto]}": ("1: llm.fallback[1] is 'auto': expected 'vllm'", ""),
    "llm:\n  vllm:\n    endpoint: ftp://x": ("3: llm.vllm.endpoint is 'ftp://x': expected a URL", ""),
    "llm: {openai: {endpoint: 'http://u:hunter2@h'}}": (
        "1: llm.openai.endpoint is not usable: expected a URL without",
        "",
    ),
    "llm: {groq: {api_key: hunter 2}}": ("1: llm.groq.api_key is not usable: expected a key", ""),
    "llm: {groq: {api_key: 12345}}": ("1: llm.groq.api_key is not usable: expected text, in quotes", ""),
    "llm: {groq: {model: 5}}": ("1: llm.groq.model is 5: expected text, in quotes", ""),
    "llm: {groq: {model: ' '}}": ("1: llm.groq.model is ' ': expected text that is not empty", ""),
    "llm: {ollama: {keep_alive: soon}}": ("1: llm.ollama.keep_alive is 'soon': expected a duration", ""),
    "llm: {ollama: {keep_alive: true}}": ("1: llm.ollama.keep_alive is true: expected a duration", ""),
    "llm: {ollama: {num_ctx: 0}}": ("1: llm.ollama.num_ctx is 0: expected a number greater than 0", ""),
    "llm: {default_temperature: 2.1}": ("1: llm.default_temperature is 2.1: expected a number less than", ""),
    "llm: {default_temperature: .nan}": ("1: llm.default_temperature is nan: expected", ""),
    "llm: {default_reasoning_effort: hihg}": ("1: llm.default_reasoning_effort is 'hihg'", "did you mean 'high'?"),
    "llm: {default_max_tokens: null}": ("1: llm.default_max_tokens is null: expected a valid integer", ""),
    "llm: {vllm: 5}": ("1: llm.vllm is 5: expected a map", ""),
    "limits: {steps: true}": ("1: limits.steps is true: expected a number", ""),
    "limits: {steps: 1.5}": ("1: limits.steps is 1.5: expected a valid integer", ""),
    "limits: {seconds: .inf}": ("1: limits.seconds is inf: expected a finite number", ""),
    "limits: [steps]": ("1: limits is a list: expected a map", ""),
    "budget: {per_run_usd: -1}": ("1: budget.per_run_usd is -1: expected a number greater than or equal to 0", ""),
    "sandbox: {mode: of}": ("1: sandbox.mode is 'of': expected 'auto' or 'off'", "did you mean 'off'?"),
    "sandbox: {read: ['']}": ("1: sandbox.read[0] is '': expected a path", ""),
    "sandbox: {read: ['~nobody-here/x']}": ("1: sandbox.read[0] is '~nobody-here/x': expected a path whose ~", ""),
    "triage: {confidence: 60}": ("1: triage.confidence is 60: expected a number less than or equal to 1", ""),
    "review: {fail_under: 101}": ("1: review.fail_under is 101", ""),
    "prices: {m: {input: 1, output: 1, since: yesterday}}": (
        "1: prices.m.since is 'yesterday': expected a valid date",
        "",
    ),
    "a: 1\nb: 2\nllm: {c: 3}": ("1: unknown key 'a' (and 2 more)", "known here: llm, budget"),
    "llm: {provider: grok, x: 1}\nlimts: 1": ("1: llm.provider is 'grok'", "did you mean 'groq'?"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items())
@pytest.mark.parametrize("where", ["repository", "user", "named"])
def test_errors_in_files_name_the_place_and_what_was_meant(
    places: SettingsPlaces, text: str, expected: tuple[str, str], where: str
) -> None:
    names = {"repository": ".miyabi.yml", "user": str(places.user_file), "named": str(places.named)}
    message, hint = places.error(**{where: text})
    assert message.startswith(f"{names[where]}:{expected[0]}")
    assert hint.startswith(expected[1])
    assert "hunter" not in message + hint
    assert "12345" not in message


def test_a_value_made_from_a_variable_is_shown_as_it_is_written(places: SettingsPlaces) -> None:
    message, _ = places.error("limits:\n  steps: ${COUNT}", COUNT="hunter2")
    assert message == ".miyabi.yml:2: limits.steps is '${COUNT}': expected a valid integer"
    assert places.load("limits: {steps: '${COUNT}'}", COUNT="7").limits.steps == 7


def test_control_characters_of_a_file_are_not_repeated(places: SettingsPlaces) -> None:
    message, hint = places.error('llm: {provider: "\\u202egrok", "\\u202ex": 1}')
    assert (message + hint).isprintable()


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5m", 300),
        ("1h30m", 5400),
        ("90", 90),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("0", 0),
        ("-1", -1),
        ("-5m", -1),
        (7, 7),
    ],
)
def test_keep_alive_is_a_duration(written: str | int, seconds: float) -> None:
    settings = Settings.model_validate({"llm": {"ollama": {"keep_alive": written}}})
    assert settings.llm.ollama.keep_alive == seconds


def test_settings_are_frozen_and_keep_secrets(places: SettingsPlaces) -> None:
    settings = places.load(GROQ_API_KEY="hunter2", GITHUB_TOKEN="hunter2")
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(ValidationError, match="frozen"):
        settings.limits.steps = 5


KEYS = st.sampled_from([step for path, _ in known_keys() for step in path]) | st.text(max_size=4)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["5m", "auto", "${A}", "~x/y"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(value=VALUES | st.dictionaries(KEYS, VALUES, max_size=5), as_json=st.booleans())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_gives_settings_or_a_settings_error(places: SettingsPlaces, value: Any, as_json: bool) -> None:
    text = json.dumps(value) if as_json else yaml.safe_dump(value, allow_unicode=True)
    outcome = places.outcome(text.encode("utf-8", "replace"))
    if isinstance(outcome, SettingsError):
        assert outcome.message.isprintable()
    else:
        assert Settings.model_validate(outcome.model_dump()) == outcome
