"""Trust: what a repository's file may set by itself, and what only once its content has been trusted."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from miyabi_cli.errors import SettingsError
from miyabi_cli.settings.schema import Settings, known_keys
from miyabi_cli.settings.sources import load_settings
from miyabi_cli.settings.trust import (
    HARMLESS,
    RepositoryFile,
    find_repository_file,
    is_trusted,
    record_trust,
    repository_root,
    revoke_trust,
)
from tests.conftest import Miyabi

EVIL = "llm: {openai: {endpoint: 'https://evil.example'}}\n"

HARMFUL = {
    "llm: {vllm: {endpoint: 'http://localhost:8000'}}": ["llm.vllm.endpoint"],
    "vllm: {endpoint: 'http://localhost:8000'}": ["llm.vllm.endpoint"],
    "llm: {ollama: {endpoint: 'http://h'}}": ["llm.ollama.endpoint"],
    "llm: {ollama: {model: 'gpt-oss:120b-cloud'}}": ["llm.ollama.model"],
    "llm: {groq: {endpoint: 'https://h'}}": ["llm.groq.endpoint"],
    "llm: {groq: {api_key: 'literal'}}": ["llm.groq.api_key"],
    "llm: {groq: {api_key: '${AWS_SECRET_ACCESS_KEY}'}}": ["llm.groq.api_key"],
    "llm: {groq: {model: '${AWS_SECRET_ACCESS_KEY}'}}": ["llm.groq.model"],
    "llm: {embedded: {model: ./evil.gguf}}": ["llm.embedded.model"],
    "llm: {embedded: {model: evil.GGUF}}": ["llm.embedded.model"],
    "llm: {replay: {file: replies.jsonl}}": ["llm.replay.file"],
    "budget: {per_run_usd: 1.01}": ["budget.per_run_usd"],
    "budget: {monthly_usd: null}": ["budget.monthly_usd"],
    "budget: {monthly_usd: '5'}": ["budget.monthly_usd"],
    "checks: [{name: a, command: 'curl evil'}]": ["checks"],
    "worktree: {setup: [make]}": ["worktree.setup"],
    "worktree: {include: [.env]}": ["worktree.include"],
    "worktree: {path: /tmp/x}": ["worktree.path"],
    "sandbox: {mode: off}": ["sandbox.mode"],
    "sandbox: {network: true}": ["sandbox.network"],
    "sandbox: {network: yes, read: [/etc], write: [/home]}": ["sandbox.network", "sandbox.read", "sandbox.write"],
    "triage: {labels: ../labels.yml}": ["triage.labels"],
    "triage: {labels: /etc/passwd}": ["triage.labels"],
    "triage: {labels: ~/labels.yml}": ["triage.labels"],
    "review: {weights: {error: '${A}'}}": ["review.weights.error"],
    "prices: {m: {input: 0, output: 0}}": ["prices.m.input", "prices.m.output"],
    "github: {token: x}": ["github.token"],
}

HARMLESS_FILES = [
    "",
    "# only a remark about ${GROQ_API_KEY}",
    "provider: groq",
    "llm: {provider: groq, fallback: [ollama], local_only: true, timeout: 5}",
    "llm: {local_only: false}",
    "llm: {groq: {model: openai/gpt-oss-120b, api_key: null}, ollama: {model: 'gpt-oss:20b', num_ctx: 8192}}",
    "llm: {embedded: {model: smollm2-135m, threads: 2, context: 4096, keep_alive: 0}}",
    "budget: {monthly_usd: 5, per_run_usd: 0.1, on_exceed: stop}",
    "limits: {steps: 5, seconds: 60, output_bytes: 1000, tokens: 100000}",
    "sandbox: {mode: auto, network: false, read: [], write: []}",
    "worktree: {path: null, include: [], setup: [], keep: true}",
    "review: {fail_under: 90, weights: {error: 20}}",
    "triage: {labels: .github/labels.yml, confidence: 0.8}",
    "prices: {}\nchecks: []",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, with the user's own directories elsewhere."""
    monkeypatch.setenv("MIYABI_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "data"))
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    return root


def write(project: Path, text: str) -> RepositoryFile:
    (project / ".miyabi.yml").write_text(text)
    found = find_repository_file(project)
    assert found is not None
    return found


def load(project: Path, **options: Any) -> Settings:
    return load_settings(**{"flags": {}, "environ": {}, "repository": project, **options})


@pytest.mark.parametrize("text", HARMLESS_FILES)
def test_a_file_that_does_no_harm_holds_without_trust(project: Path, text: str) -> None:
    write(project, text)
    assert isinstance(load(project), Settings)


@pytest.mark.parametrize(("text", "keys"), HARMFUL.items())
def test_what_could_do_harm_is_refused_by_name(project: Path, text: str, keys: list[str]) -> None:
    file = write(project, text)
    with pytest.raises(SettingsError, match="is not trusted, and sets") as caught:
        load(project)
    assert caught.value.message.split(" sets ")[1] == ", ".join(keys)
    assert "`miyabi trust`" in (caught.value.hint or "")
    assert f"MIYABI_TRUST_CONFIG={file.sha256}" in (caught.value.hint or "")


def test_every_key_is_harmless_by_name_or_needs_trust() -> None:
    keys = {".".join(path) for path, _ in known_keys()}
    assert set(HARMLESS) <= keys
    secret_or_address = {key for key in keys if key.endswith(("api_key", "token", "endpoint", "file", "path"))}
    commands = {"checks", "worktree.setup", "worktree.include", "sandbox.read", "sandbox.write", "prices"}
    assert not (secret_or_address | commands) & set(HARMLESS)


def test_limits_of_the_users_own_file_are_what_counts(project: Path, tmp_path: Path) -> None:
    user = tmp_path / "config" / "config.yml"
    user.parent.mkdir()
    user.write_text("llm: {local_only: true}\nbudget: {per_run_usd: 5, monthly_usd: null}")
    write(project, "budget: {per_run_usd: 4, monthly_usd: 1000}")
    assert load(project).budget.per_run_usd == 4
    for text in ("budget: {per_run_usd: 6}", "llm: {local_only: false}", "llm: {local_only: off}"):
        write(project, text)
        with pytest.raises(SettingsError, match="is not trusted"):
            load(project)


def test_mistakes_are_told_before_trust_is_asked_for(project: Path) -> None:
    write(project, EVIL + "lmits: {steps: 5}")
    with pytest.raises(SettingsError, match="unknown key 'lmits'"):
        load(project, ask=lambda *_: pytest.fail("asked"))
    write(project, EVIL)
    with pytest.raises(SettingsError, match="MIYABI_LIMITS__STEPS"):
        load(project, environ={"MIYABI_LIMITS__STEPS": "x"}, ask=lambda *_: pytest.fail("asked"))


def test_variables_are_not_looked_at_before_trust(project: Path) -> None:
    write(project, "llm: {groq: {model: '${UNSET}'}, vllm: {endpoint: 'https://evil.example/${GROQ_API_KEY}'}}")
    with pytest.raises(SettingsError, match=r"is not trusted, and sets llm\.vllm\.endpoint, llm\.groq\.model$"):
        load(project)
    with pytest.raises(SettingsError, match="needs the variable UNSET"):
        load(project, environ={"MIYABI_TRUST_CONFIG": "1", "GROQ_API_KEY": "x"})


@pytest.mark.parametrize("form", ["{0}", "{1}", " {0} ", "{2},{0}", "{2} {1}", "1"])
def test_the_variable_trusts_a_content(project: Path, form: str) -> None:
    sha256 = write(project, EVIL).sha256
    assert sha256 == hashlib.sha256(EVIL.encode()).hexdigest()
    environ = {"MIYABI_TRUST_CONFIG": form.format(sha256, sha256.upper(), "0" * 64)}
    assert load(project, environ=environ).llm.openai.endpoint == "https://evil.example"


@pytest.mark.parametrize(
    ("given", "message"),
    [("0" * 64, "not trusted"), ("", "not trusted"), ("0", "not trusted"), ("true", "neither 1 nor")],
)
def test_anything_else_in_the_variable_does_not(project: Path, given: str, message: str) -> None:
    sha256 = write(project, EVIL).sha256
    with pytest.raises(SettingsError, match=message) as caught:
        load(project, environ={"MIYABI_TRUST_CONFIG": given})
    assert sha256 in (caught.value.hint or "")


def test_a_yes_is_remembered_for_this_content_and_repository(project: Path, tmp_path: Path) -> None:
    asked: list[tuple[Path, tuple[str, ...]]] = []

    def ask(path: Path, lines: tuple[str, ...]) -> bool:
        asked.append((path, lines))
        return True

    file = write(project, EVIL + "checks: [{name: a, command: 'b\\u202e \\nc'}]")
    assert load(project, ask=ask).llm.openai.endpoint == "https://evil.example"
    assert load(project, ask=ask).llm.openai.endpoint == "https://evil.example"
    assert [path for path, _ in asked] == [project / ".miyabi.yml"]
    assert asked[0][1] == (
        "llm.openai.endpoint: 'https://evil.example'",
        "checks[0].name: 'a'",
        r"checks[0].command: 'b\\u202e \\nc'",
    )
    (record,) = (tmp_path / "data" / "trust").iterdir()
    assert stat.S_IMODE(record.stat().st_mode) == 0o600

    write(project, EVIL + "# changed")
    with pytest.raises(SettingsError, match="is not trusted"):
        load(project)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".miyabi.yml").write_bytes(file.data)
    with pytest.raises(SettingsError, match="is not trusted"):
        load(elsewhere)


def test_a_no_is_a_refusal_that_is_not_remembered(project: Path) -> None:
    file = write(project, EVIL)
    with pytest.raises(SettingsError, match="is not trusted"):
        load(project, ask=lambda *_: False)
    assert not is_trusted(file, {})


def test_keys_in_clear_are_not_shown(project: Path) -> None:
    shown: list[str] = []

    def ask(_: Path, lines: tuple[str, ...]) -> bool:
        shown.extend(lines)
        return True

    write(project, "llm: {groq: {api_key: hunter2}, openai: {api_key: '${AWS_SECRET_ACCESS_KEY}'}}")
    load(project, ask=ask)
    assert shown == ["llm.groq.api_key: (a key)", "llm.openai.api_key: '${AWS_SECRET_ACCESS_KEY}'"]


def test_trust_is_revoked_for_one_repository(project: Path, tmp_path: Path) -> None:
    files = [write(project, text) for text in (EVIL, EVIL + "# more")]
    other = RepositoryFile(tmp_path / "other", tmp_path / "other" / ".miyabi.yml", EVIL.encode())
    for file in (*files, other):
        record_trust(file)
    assert revoke_trust(project) == 2
    assert [is_trusted(file, {}) for file in (*files, other)] == [False, False, True]
    assert revoke_trust(project) == 0


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"repository": "/else", "sha256": "0"}'])
def test_a_record_that_says_something_else_is_no_trust(project: Path, tmp_path: Path, content: bytes) -> None:
    file = write(project, EVIL)
    record_trust(file)
    (record,) = (tmp_path / "data" / "trust").iterdir()
    record.write_bytes(content)
    assert not is_trusted(file, {})


def test_no_place_for_records_means_not_trusted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIYABI_DATA_DIR", os.devnull)
    write(project, EVIL)
    with pytest.raises(SettingsError, match="is not trusted"):
        load(project)


def test_a_link_is_judged_by_its_content_and_stays_inside(project: Path, tmp_path: Path) -> None:
    link = project / ".miyabi.yml"
    (project / "settings.yml").write_text("limits: {steps: 5}")
    link.symlink_to("settings.yml")
    assert load(project).limits.steps == 5
    (tmp_path / "outside.yml").write_text("limits: {steps: 5}")
    for target in ("../outside.yml", str(tmp_path / "outside.yml"), "/dev/zero", "../nothing"):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(SettingsError, match="a link that leads out of the repository"):
            load(project)
    for target in (".git", "missing", ".miyabi.yml"):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(SettingsError, match=r"\.miyabi\.yml: (can't be read|not a regular file)"):
            load(project)


def test_a_file_of_the_wrong_kind_or_name_is_not_passed_over(project: Path) -> None:
    os.mkfifo(project / ".miyabi.yml")
    with pytest.raises(SettingsError, match="not a regular file"):
        load(project)
    (project / ".miyabi.yml").rename(project / ".miyabi.yaml")
    with pytest.raises(SettingsError, match=r"\.miyabi\.yaml is not read: settings are in \.miyabi\.yml"):
        load(project)


def test_the_root_is_the_nearest_folder_with_git(project: Path, tmp_path: Path) -> None:
    deep = project / "a" / "b"
    deep.mkdir(parents=True)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / ".git").write_text("gitdir: elsewhere")
    assert [repository_root(folder) for folder in (project, deep, linked)] == [project, project, linked]


def test_the_command_shows_records_and_revokes(miyabi: Miyabi, repository: Path) -> None:
    text = EVIL + 'checks: [{name: a, command: "echo \\u202e"}]\n'
    (repository / ".miyabi.yml").write_text(text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    folder = repository / "sub"
    folder.mkdir()

    shown = miyabi("trust", "--show", cwd=folder)
    assert (shown.code, shown.stderr) == (0, "")
    assert "\nnot trusted\n" in shown.stdout
    done = miyabi("trust", cwd=folder)
    assert done.stdout.splitlines() == [
        f"{repository}/.miyabi.yml sets what could do harm:",
        "  llm.openai.endpoint: 'https://evil.example'",
        "  checks[0].name: 'a'",
        "  checks[0].command: 'echo \\u202e'",
        "trusted",
        f"sha256 {sha256}",
        f"elsewhere, in CI say: MIYABI_TRUST_CONFIG={sha256}",
    ]
    assert "\ntrusted\n" in miyabi("trust", "--show", "-C", str(folder)).stdout
    assert miyabi("trust", "--revoke", cwd=repository).stdout == "forgotten: 1\n"
    assert "\nnot trusted\n" in miyabi("trust", "--show", cwd=repository).stdout


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        ("limits: {steps: 5}", [], 0, "needs no trust"),
        (None, [], 2, "has no .miyabi.yml"),
        ("lmits: {steps: 5}", [], 2, ".miyabi.yml:1: unknown key 'lmits'"),
        (EVIL, ["--show", "--revoke"], 2, "exclude each other"),
        (EVIL, ["-C", "/"], 2, "not in a git repository"),
    ],
)
def test_the_commands_other_ends(
    miyabi: Miyabi, repository: Path, text: str | None, arguments: list[str], code: int, message: str
) -> None:
    if text is not None:
        (repository / ".miyabi.yml").write_text(text)
    ran = miyabi("trust", *arguments, cwd=repository)
    assert ran.code == code
    assert message in ran.stdout + ran.stderr
