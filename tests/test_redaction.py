"""Known secrets stay out of what is logged, shown and sent to a model; and what is no secret stays as it is."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as some

from miyabi_cli.events import ReplyReceived, ToolEnded
from miyabi_cli.messages import Reply, ToolCall
from miyabi_cli.redaction import NO_SECRETS, redactor_of, secrets_in_environment, secrets_in_header, secrets_in_url
from miyabi_cli.settings.keys import secrets_in_settings
from miyabi_cli.settings.schema import Settings
from miyabi_cli.workspace.repository import open_repository, secrets_in_configuration
from tests.conftest import Miyabi, Ran
from tests.support.server import call, chat_server, chunk, chunks_of, say, send_error, send_events
from tests.test_codegen import FIX, TASK, model
from tests.test_terminal import terminal

KEY = "gsk_4fQ/9+zT0aLx7cVb2NnM8hJk"
LONG = "sk-proj-Zq7Lw2Xe9Rv4Ty8Ui3Op6As1Df5Gh0JkBnMc"
REMOTE = "ghs_16C7e42F292c6912E7710c838347Ae178B4a"
REDACTOR = redactor_of([("GROQ_API_KEY", KEY), ("OPENAI_API_KEY", LONG)])
letters = some.text(some.characters(codec="utf-8"), max_size=30)


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        quote(KEY, safe=""),
        quote(KEY),
        json.dumps(KEY).replace("/", "\\/"),
        json.dumps(json.dumps({"key": KEY})),
        base64.b64encode(KEY.encode()).decode(),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        base64.b64encode(f"a:{KEY}\n".encode()).decode(),
        base64.urlsafe_b64encode(f"abc{KEY}".encode()).decode(),
    ],
)
def test_a_secret_is_taken_out_in_each_form_that_it_is_written_in(written: str) -> None:
    text = REDACTOR.redact(f"the key is {written}, and no more")
    assert text.startswith("the key is ")
    assert text.endswith(", and no more")
    assert "[secret: GROQ_API_KEY]" in text
    kept = text.replace("[secret: GROQ_API_KEY]", "")
    assert not any(written[at : at + 14] in kept for at in range(len(written) - 13))
    assert REDACTOR.names_in(written) == ("GROQ_API_KEY",)


@pytest.mark.parametrize("cut", [LONG[:30], LONG[:-5], LONG[20:], LONG[3:]])
def test_a_half_of_a_long_secret_goes_too(cut: str) -> None:
    assert REDACTOR.redact(f"({cut}[... 99 bytes left out ...]") == (
        "([secret: OPENAI_API_KEY][... 99 bytes left out ...]"
    )


@given(letters, letters, letters)
def test_all_else_of_a_text_stays(before: str, between: str, after: str) -> None:
    text = f"{before}{KEY}{between}{LONG}{after}"
    assert REDACTOR.redact(text) == f"{before}[secret: GROQ_API_KEY]{between}[secret: OPENAI_API_KEY]{after}"
    assert REDACTOR.redact(before) == before
    assert REDACTOR.redact(REDACTOR.redact(text)) == REDACTOR.redact(text)


def test_secrets_that_overlap_leave_nothing() -> None:
    redactor = redactor_of([("A_TOKEN", "abcdefgh1234")], [("B_TOKEN", "gh1234567890")])
    assert redactor.redact("x abcdefgh1234567890 y") == "x [secret: A_TOKEN] y"


@pytest.mark.parametrize(
    "value", ["", "true", "password", "changeme", "postgres", "12345678", "16384", "aaaaaaaaaaaaaaaa"]
)
def test_a_word_is_no_secret(value: str) -> None:
    assert redactor_of([("DB_PASSWORD", value)]) == NO_SECRETS


def test_a_path_that_is_there_is_no_secret(tmp_path: Path) -> None:
    assert redactor_of([("SIGNING_KEY", str(tmp_path))]) == NO_SECRETS
    assert redactor_of([("SIGNING_KEY", f"{tmp_path}/abc+1/2==")]).forms


def test_which_variables_hold_secrets() -> None:
    secret = {
        name: f"{name}-0123456789"
        for name in (
            *("GROQ_API_KEY", "MIYABI_LLM__VLLM__API_KEY", "GITHUB_TOKEN", "aws_secret_access_key", "DB_PASSWORD"),
            *("STRIPE_SECRET", "SMTP_PASS", "MYSQL_PWD", "GITLAB_PAT", "NPM_AUTH", "SECRET_KEY_BASE", "SESSION_COOKIE"),
        )
    }
    urls = {"HTTPS_PROXY": "http://me:p4ssw%3Ard99@proxy:3128", "DATABASE_URL": "postgres://app:hunter2hunter@db/x"}
    harmless = {
        "PATH": "/usr/bin:/bin",
        "AWS_ACCESS_KEY_ID": "AKIA0123456789ABCDEF",
        "TOKEN_LIMIT": "100000000000000000",
    }
    harmless |= {
        "KEYBOARD": "a-keyboard-0123456789",
        "SSH_AUTH_SOCK": "/run/agent-0123456789",
        "API_KEY_FILE": "/k-012345678",
    }
    harmless |= {"TOKEN_URL": "https://auth.example.org/token0123456789", "MONKEY": "not-at-all-012345"}
    found = secrets_in_environment({**secret, **urls, **harmless})
    assert {name: value for name, value in found if name in secret} == secret
    redactor = redactor_of(found)
    for value in ("p4ssw%3Ard99", "p4ssw:rd99", "hunter2hunter"):
        assert "[secret: " in redactor.redact(value)
    for name, value in harmless.items():
        assert redactor.redact(value) == value, name


def test_passwords_and_tokens_in_addresses() -> None:
    assert secrets_in_url(f"https://x-access-token:{REMOTE}@github.com/o/r") == (REMOTE,)
    assert secrets_in_url(f"https://{REMOTE}@github.com/o/r") == (REMOTE,)
    assert secrets_in_url("ssh://git@github.com/o/r git@github.com:o/r https://h:80/a@b") == ()


def test_the_keys_of_settings() -> None:
    settings = Settings.model_validate({"llm": {"groq": {"api_key": KEY}}, "github": {"token": REMOTE}})
    assert secrets_in_settings(settings) == (("llm.groq.api_key", KEY), ("github.token", REMOTE))


def test_what_git_s_configuration_holds(repository: Path, git: Callable[..., str]) -> None:
    basic = base64.b64encode(f"x-access-token:{REMOTE}".encode()).decode()
    git("remote", "add", "origin", f"https://me:{LONG}@example.org/r.git", cwd=repository)
    git("config", "http.https://github.com/.extraheader", f"AUTHORIZATION: basic {basic}", cwd=repository)
    git("config", "url.https://me:another-s3cret@example.org/.insteadOf", "gh:", cwd=repository)
    git("config", "http.proxy", "http://me:a-pr0xy-s3cret@proxy:3128", cwd=repository)
    git("config", "http.https://example.org/.extraHeader", f"Authorization: Bearer {KEY}", cwd=repository)
    found = secrets_in_configuration(open_repository(repository))
    assert set(found) == {
        ("remote.origin.url", LONG),
        ("http.https", basic),
        ("http.https", REMOTE),
        ("http.https", KEY),
        ("url.https", "another-s3cret"),
        ("http.proxy", "a-pr0xy-s3cret"),
    }


@pytest.mark.parametrize("header", ["", "basic", "Authorization: basic !", "Authorization: basic YWI=", "basic \xff"])
def test_any_header_is_read(header: str) -> None:
    assert secrets_in_header(header) == (header.split(" ")[-1],)


def test_each_line_of_a_private_key_is_taken_out() -> None:
    lines = [f"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj{number}" for number in range(3)]
    key = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"])
    redactor = redactor_of([("SSH_PRIVATE_KEY", key)])
    assert redactor.redact(f"it says: {lines[1]}.") == "it says: [secret: SSH_PRIVATE_KEY]."
    assert redactor.redact("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"
    assert redactor.redact(json.dumps(key)) == '"[secret: SSH_PRIVATE_KEY]"'


def test_events_and_results_are_redacted_all_through() -> None:
    reply = Reply(f"text {KEY}", f"thought {KEY}", (ToolCall("1", "exec", json.dumps({"cmd": f"echo {KEY}"})),))
    event = ReplyReceived(1, 1, reply)
    redacted = REDACTOR.redact_data(event)
    assert KEY not in repr(redacted)
    assert json.loads(redacted.reply.tool_calls[0].arguments) == {"cmd": "echo [secret: GROQ_API_KEY]"}
    harmless = ToolEnded(1, 1, "1", "exec", "out", False, ("a",), 0.1)
    assert REDACTOR.redact_data(harmless) is harmless
    assert REDACTOR.redact_data({KEY: [KEY, 1, None, (KEY,)]}) == {
        "[secret: GROQ_API_KEY]": ["[secret: GROQ_API_KEY]", 1, None, ("[secret: GROQ_API_KEY]",)]
    }


def all_files(folder: Path) -> str:
    """Return the contents of every file below a folder but patches."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".diff"]
    return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in files)


ENVIRONMENT = {"GROQ_API_KEY": KEY, "HTTPS_PROXY": "http://me:pr0xypassw0rd@127.0.0.1:9"}
SECRETS = (KEY, REMOTE, "pr0xypassw0rd", base64.b64encode(KEY.encode()).decode()[:30])


@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
def test_a_run_gives_no_known_secret_away(
    repository: Path, home: Path, miyabi: Miyabi, git: Callable[..., str], form: str
) -> None:
    git("remote", "add", "origin", f"https://me:{REMOTE}@example.org/r.git", cwd=repository)
    held = f"{KEY}\n{REMOTE}\npr0xypassw0rd\n{base64.b64encode(KEY.encode()).decode()}"
    (repository / "AGENTS.md").write_text(f"Use {held} to deploy.\n")
    (repository / "notes.txt").write_text(held)
    (repository / "test_key.py").write_text(f"def test_key():\n    assert '{KEY}' == '{REMOTE}'\n")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "keys", cwd=repository)
    turns = [
        call("open_file", {"path": "notes.txt"}, thought=f"I know {KEY}"),
        call("exec", {"cmd": f"cat notes.txt; echo {KEY} | base64"}),
        call(f"tool {KEY}", {"what": KEY}),
        call("apply_patch", {"patch": FIX}),
        say(f"add adds now; the key is {KEY}."),
    ]
    arguments = ["--format", form, "--verbose", "--check", "python -m pytest -q"]
    with chat_server(*turns) as server:
        ran = miyabi("codegen", f"{TASK}, with {KEY}", *model(server), *arguments, cwd=repository, env=ENVIRONMENT)
        sent = "".join(request.body.decode() for request in server.requests)
    assert ran.code == 1, ran.stderr  # test_key fails
    shown = miyabi("runs", "show", "--events", cwd=repository)
    told = git("log", "--all", "--format=%B %D", "-1", "--branches=miyabi/*", cwd=repository)
    for secret in SECRETS:
        for what in (sent, ran.stdout, ran.stderr, shown.stdout, told, all_files(home / "data")):
            assert secret not in what
    assert "[secret: GROQ_API_KEY]" in sent
    assert "[secret: GROQ_API_KEY]" in told
    assert "[secret: HTTPS_PROXY]" in sent
    assert "[secret: remote.origin.url]" in sent


def test_a_patch_that_holds_a_secret_is_given_as_it_is_and_warned_of(
    repository: Path, home: Path, miyabi: Miyabi, git: Callable[..., str]
) -> None:
    turns = [call("exec", {"cmd": f"echo 'KEY = \"{KEY}\"' >>calc.py"}), say("done")]

    def run(*arguments: str) -> Ran:
        with chat_server(*turns) as server:
            return miyabi("codegen", TASK, *model(server), "--no-checks", *arguments, cwd=repository, env=ENVIRONMENT)

    as_json = json.loads(run("--format", "json").stdout)
    assert f'+KEY = "{KEY}"' in as_json["patch"]
    (warning,) = [one for one in as_json["warnings"] if one["kind"] == "secret"]
    assert warning["message"].startswith("the patch holds the value of GROQ_API_KEY")
    assert KEY not in json.dumps({**as_json, "patch": ""})
    *events, last = run("--format", "jsonl").stdout.splitlines()
    assert KEY not in "".join(events)
    assert KEY in json.loads(last)["result"]["patch"]
    shown = json.loads(miyabi("runs", "show", "--events", "--format", "json", cwd=repository, env=ENVIRONMENT).stdout)
    assert KEY in shown["result"].pop("patch")
    assert KEY not in json.dumps(shown)
    as_text = run()
    assert KEY not in as_text.stdout + as_text.stderr
    assert "the patch holds the value of GROQ_API_KEY" in as_text.stderr
    patch = run("--patch", "-").stdout
    assert KEY in patch
    for log in home.glob("data/runs/*/events.jsonl"):
        assert KEY not in log.read_text()


def test_an_error_of_a_server_gives_no_key_back(repository: Path, home: Path, miyabi: Miyabi) -> None:
    refusal = send_error(401, {"error": {"message": f"the key {KEY} is wrong", "key": KEY}})
    with chat_server(refusal) as server:
        ran = miyabi("codegen", TASK, *model(server), "--format", "json", cwd=repository, env=ENVIRONMENT)
    assert ran.code == 3
    assert KEY not in ran.stdout + ran.stderr + all_files(home / "data")
    assert "[secret: GROQ_API_KEY]" in json.loads(ran.stdout)["error"]["message"]
    assert "the key [secret: GROQ_API_KEY] is wrong" in miyabi("runs", "show", cwd=repository).stdout


def test_a_wrong_argument_and_a_dry_run_give_no_key_away(repository: Path, miyabi: Miyabi) -> None:
    wrong = miyabi("codegen", TASK, "--effort", KEY, cwd=repository, env=ENVIRONMENT)
    assert (wrong.code, KEY in wrong.stderr, "[secret: GROQ_API_KEY]" in wrong.stderr) == (2, False, True)
    with chat_server(say("hi")) as server:
        dry = miyabi("codegen", f"Use {KEY}", *model(server), "--dry-run", cwd=repository, env=ENVIRONMENT)
    assert (dry.code, KEY in dry.stdout, "Use [secret: GROQ_API_KEY]" in dry.stdout) == (0, False, True)


def test_a_traceback_is_kept_without_secrets(tmp_path: Path, environment: dict[str, str]) -> None:
    import subprocess

    from tests.conftest import PYTHON, ROOT

    code = (
        "import sys, types, miyabi_cli.app as app\n"
        "def broken(): raise RuntimeError('it was ' + __import__('os').environ['GROQ_API_KEY'])\n"
        "sys.modules['miyabi_cli.commands.broken'] = types.SimpleNamespace(broken=broken)\n"
        "app.COMMANDS = ('broken',)\n"
        "sys.exit(app.run(['broken']))"
    )
    env = {**environment, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([PYTHON, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, KEY in done.stderr) == (70, False), done.stderr
    (kept,) = Path(env["MIYABI_DATA_DIR"]).glob("crashes/*.txt")
    assert "it was [secret: GROQ_API_KEY]" in kept.read_text()
    assert KEY not in kept.read_text()
    assert os.fspath(kept) in done.stderr


def test_a_terminal_shows_no_part_of_a_secret_that_streams_in_pieces(
    repository: Path, environment: dict[str, str]
) -> None:
    def in_pieces(handler: BaseHTTPRequestHandler, _body: Any) -> None:
        turn = {"text": "", "finish": "stop"}
        *head, finish, usage = chunks_of(turn)
        deltas = [{"content": letter} for letter in f"The key is {KEY}."] + [{"reasoning": letter} for letter in KEY]
        parts = [chunk({"delta": delta, "finish_reason": None, "index": 0}) for delta in deltas]
        send_events(handler, [*head, *parts, finish, usage, "[DONE]"])

    with chat_server(in_pieces) as server:
        arguments = ["codegen", TASK, *model(server), "--no-checks", "--verbose", "--max-steps", "2"]
        with terminal(arguments, repository, {**environment, **ENVIRONMENT}) as shown:
            assert shown.end() == 1
    assert "The key is [secret: GROQ_API_KEY]." in shown.shown
    assert not any(KEY[at : at + 6] in shown.shown for at in range(len(KEY) - 5))
