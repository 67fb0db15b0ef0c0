"""docs/guide.md is true: each of its blocks is run, by bash, in a real repository, against players of the servers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import typer.main
import yaml

from miyabi_cli.app import command_line
from miyabi_cli.llm.harmony.tokens import decode
from miyabi_cli.llm.local.models import known_model
from miyabi_cli.settings.files import parse_settings
from miyabi_cli.settings.schema import Settings
from tests.conftest import PYTHON, ROOT
from tests.support import groq, wires
from tests.support.github import TOKEN, FakeGitHub, github_server, issue
from tests.support.ollama import lines
from tests.support.players import PLAYERS
from tests.support.server import chat_server
from tests.support.turns import Line, Turn, call, say, transmit
from tests.test_doctor_snapshots import OBJECT

Git = Callable[..., str]

GUIDE = (ROOT / "docs/guide.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = dict(part.split("\n", 1) for part in GUIDE.split("\n## ")[1:])
NOWHERE = "http://127.0.0.1:9"

DATES = '"""Dates."""\n\n\ndef is_leap(year):\n    return year % 4 == 0\n'
TESTS = """\
from dates import is_leap


def test_every_fourth_year():
    assert is_leap(2024)


def test_no_century():
    assert not is_leap(1900)
"""
# Without the plugins that the tests of miyabi have installed, pytest starts in half the time.
QUICK = "[pytest]\naddopts = -p no:hypothesispytest -p no:xdist -p no:cov -p no:anyio\n"
BUG = "return year % 4 == 0"
RIGHT = "return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)"
WRONG = "return year % 2 == 0"
FEBRUARY = """\
*** Begin Patch
*** Update File: dates.py
@@
 \"""Dates.\"""


+def days_in_february(year):
+    return 29 if is_leap(year) else 28
+
+
 def is_leap(year):
*** Add File: tests/test_february.py
+from dates import days_in_february
+
+
+def test_february():
+    assert days_in_february(2023) == 28
*** End Patch"""
ALIAS = f"""\
*** Begin Patch
*** Update File: dates.py
@@ def is_leap(year):
     {RIGHT}
+
+
+leap_year = is_leap
*** End Patch"""


def replaced(line: str) -> str:
    return f"*** Begin Patch\n*** Update File: dates.py\n@@ def is_leap(year):\n-    {BUG}\n+    {line}\n*** End Patch"


@dataclass
class Model:
    """What all servers' model says: it opens the file, applies the patch of the task that it is given, and ends.

    Of several attempts the first one's patch is wrong. `gives_up`: it has no patch.
    """

    begun: int = 0
    gives_up: bool = False

    def reply(self, text: str, asked: wires.Asked) -> Turn:
        if "report_sum" in asked.functions:
            return call("report_sum", {"sum": 42}, "17 and 25 make 42.")
        if asked.schema:
            return say(OBJECT)
        if self.gives_up:
            return say("I can't.")
        if not asked.results:
            self.begun += 1
            if self.begun == 1 and "make the tests" in text:
                return call("apply_patch", {"patch": replaced(WRONG)})
            return call("open_file", {"path": "dates.py"})
        if len(asked.results) > 1 or WRONG in text:
            return say("A century is a leap year only where 400 divides it.")
        return call("apply_patch", {"patch": self.patch(text)})

    def patch(self, text: str) -> str:
        if "leap_year" in text:
            return ALIAS
        return FEBRUARY if "days_in_february" in text else replaced(RIGHT)


@dataclass
class Place:
    """Where a section's blocks are run."""

    root: Path
    github: FakeGitHub
    model: Model
    environment: dict[str, str]
    addresses: dict[str, str]
    shown: list[str] = field(default_factory=list)

    def bash(self, script: str, more: Mapping[str, str] = MappingProxyType({}), code: int = 0) -> None:
        """Run a block as it stands, but for the servers' addresses, to an exit code; keep what it shows.

        `more` are further variables.
        """
        for written, real in self.addresses.items():
            script = script.replace(written, real)
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=self.root,
            env={**self.environment, **more},
            input=f"{groq.KEY}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, f"{script}\n{done.stdout}"
        self.shown.append(done.stdout)
        for written, real in self.addresses.items():
            self.shown[-1] = self.shown[-1].replace(real, written)


def player(name: str, model: Model) -> tuple[AbstractContextManager[Any], list[Any]]:
    """Return a server of a kind, whose model that is, and the list that is to hold it once it serves."""
    kind = PLAYERS[name]
    served: list[Any] = []

    def play(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        data = json.loads(body)
        text = decode(data["prompt"]) if name == "vllm-harmony" else body.decode()
        turn = model.reply(text, kind.read(body))
        transmit(handler, turn, kind.speak(served[0], data, turn), Line())

    return kind.serve(play, kind.model), served


ENGINE = """\
from types import SimpleNamespace
from unittest.mock import MagicMock as CommonParams

common_speculative_type = CommonParams()


def Server(parameters):
    return SimpleNamespace(listening_address={url!r})
"""


def small_model(handler: BaseHTTPRequestHandler, request: Any) -> None:
    """Fill in what is left out, as the model of the embedded engine does."""
    body = request.json
    transmit(handler, say(RIGHT), wires.speak_openai(None, body, say(RIGHT)), Line())


@pytest.fixture
def place(tmp_path: Path, environment: dict[str, str], git: Git) -> Iterator[Place]:
    """A clone of a repository with a bug, servers of each kind, and a shell in which `miyabi` is this one."""
    start = tmp_path / "start"
    (start / "tests").mkdir(parents=True)
    (start / "dates.py").write_text(DATES)
    (start / "tests/test_dates.py").write_text(TESTS)
    (start / "pytest.ini").write_text(QUICK)
    git("init", "-q", cwd=start)
    git("add", ".", cwd=start)
    git("commit", "-qm", "Start", cwd=start)
    git("clone", "-q", "--bare", str(start), str(tmp_path / "calc.git"), cwd=tmp_path)
    urls: dict[str, str] = {}
    model = Model()
    with ExitStack() as servers:
        for name in ("vllm-harmony", "ollama", "groq", "openai"):
            served, states = player(name, model)
            states.append(servers.enter_context(served))
            states[0].pulls = [lines({"status": "success"})]  # which Ollama alone is asked for
            urls[name] = states[0].url
        weights = servers.enter_context(chat_server(small_model))
        weights.models = ("qwen2.5-coder-1.5b",)
        about = [issue(12, "is_leap() takes 1900 for a leap year")]
        github = servers.enter_context(github_server(FakeGitHub(tmp_path / "calc.git", issues=about)))
        root = tmp_path / "project"
        git("clone", "-q", f"{github.url}/acme/calc.git", str(root), cwd=tmp_path)
        yield Place(
            root,
            github,
            model,
            {
                **{name: value for name, value in environment.items() if name != "PYTHONWARNINGS"},
                "PATH": f"{commands(tmp_path / 'bin', weights.url)}:{environment['PATH']}",
                "VLLM_ENDPOINT": urls["vllm-harmony"],
                "OLLAMA_HOST": urls["ollama"],
                "MIYABI_LLM__GROQ__ENDPOINT": urls["groq"],
                "GITHUB_API_URL": github.url,
                "GITHUB_TOKEN": TOKEN,
            },
            {
                "http://localhost:8000": urls["vllm-harmony"],
                "http://localhost:8080": urls["openai"],
                "http://gpu-box:8000": NOWHERE,
            },
        )


def commands(folder: Path, weights: str) -> Path:
    """Make a folder with the command `miyabi` of this working tree, whose engine is a server at an address."""
    folder.mkdir()
    (folder / "xllamacpp.py").write_text(ENGINE.format(url=weights))
    variables = f"PYTHONPATH={folder}:{ROOT} PYTHONWARNINGS=error"
    (folder / "miyabi").write_text(f'#!/bin/sh\n{variables} exec {PYTHON} -m miyabi_cli "$@"\n')
    (folder / "miyabi").chmod(0o755)
    return folder


def blocks(section: str) -> list[tuple[str, str]]:
    return BLOCK.findall(SECTIONS[section])


FIRST = 'miyabi codegen "fix the failing test in tests/test_dates.py" --quiet'


def before(section: str, place: Place, git: Git) -> None:
    """Do what a section takes for given."""
    data = Path(place.environment["MIYABI_DATA_DIR"])
    if section == "Choose a model":
        (data / "models").mkdir(parents=True)
        (data / "models" / known_model("qwen2.5-coder-1.5b").file).write_bytes(b"GGUF")
    elif section == "Look at what it did":
        place.bash(FIRST)
    elif section.startswith("Add a feature"):
        (place.root / "dates.py").write_text(DATES.replace(BUG, RIGHT))
        git("commit", "-qam", "Mend is_leap", cwd=place.root)
    elif section == "A git hook":
        other = place.root.with_name("other")
        git("clone", "-q", str(place.github.bare), str(other), cwd=place.root)
        (other / "NEWS").write_text("A leap year.\n")
        git("add", ".", cwd=other)
        git("commit", "-qm", "News", cwd=other)
        git("push", "-q", cwd=other)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_is_true(section: str, place: Place, git: Git) -> None:
    if "jq -r" in SECTIONS[section] and not shutil.which("jq"):
        pytest.skip("jq is not installed")
    before(section, place, git)
    try:
        for kind, text in blocks(section):
            RUN[kind](place, text)
    finally:
        if section == "Choose a model":
            place.bash("miyabi model stop")
    check_promises(section, place, git)


def shell(place: Place, text: str) -> None:
    place.bash(text)


def output(place: Place, text: str) -> None:
    """Compare what is shown with what the last block has shown."""
    warned = re.compile(r"^ *warning:? .*\n", re.MULTILINE)  # of the sandbox, where it is a weaker one
    wanted, found = masked(text), masked(warned.sub("", place.shown[-1]))
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", wanted, flags=re.MULTILINE)]
    assert re.fullmatch(r"(?:.*\n)*?".join(parts), found), f"{wanted}\n--- is not what is shown:\n{found}"


def masked(text: str) -> str:
    """Put stand-ins for what differs with each run and machine."""
    for pattern, name in (
        (r"\b\d{8}-\d{6}-[0-9a-f]{6}\b", "RUN"),
        (r"\b[0-9a-f]{7,64}\b", "HASH"),
        (r"\d[\d,]*(?:\.\d+)?(?= (?:s|tokens|bytes|USD)\b)", "N"),
        (r"(?<=, sandbox ).*", "SANDBOX"),
    ):
        text = re.sub(pattern, name, text)
    return text


def settings_or_workflow(place: Place, text: str) -> None:
    name = text.partition("\n")[0].removeprefix("# ")
    file = place.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    if name == ".miyabi.yml":
        Settings.model_validate(parse_settings(text.encode(), name).values)
    else:
        run_workflow(place, yaml.load(text, yaml.BaseLoader))  # noqa: S506 - in which `on` is text


def run_workflow(place: Place, workflow: Mapping[str, Any]) -> None:
    """Run the steps of a workflow's only job as GitHub does, with its settings in place of the expressions."""
    assert {*workflow} == {"name", "on", "permissions", "jobs"}
    ((_, job),) = workflow["jobs"].items()
    given = {
        "vars.MIYABI_PACKAGE": str(wheel(place.root.parent)),
        "github.event.issue.number": "12",
        "github.token": TOKEN,
        "secrets.GROQ_API_KEY": groq.KEY,
    }
    # pip looks, and installs nothing; vLLM and Ollama are not there.
    runner = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "VLLM_ENDPOINT": NOWHERE, "OLLAMA_HOST": NOWHERE}
    runner |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(place.root.with_name("summary.md"))}
    for step in job["steps"]:
        if "run" not in step:
            assert re.fullmatch(r"actions/(checkout|setup-python)@v\d", step["uses"])
            continue
        own = {
            name: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: given[found[1]], value)
            for name, value in step["env"].items()
        }
        place.bash(step["run"], {**runner, **own})


def wheel(folder: Path) -> Path:
    """Return a package that pip takes for one."""
    path = folder / "stand_in-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("stand_in-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: stand-in\nVersion: 1\n")
        archive.writestr("stand_in-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("stand_in-1.dist-info/RECORD", "")
    return path


RUN: dict[str, Callable[[Place, str], None]] = {"sh": shell, "text": output, "yaml": settings_or_workflow}


@dataclass(frozen=True)
class Promise:
    """What has come true after a section: patterns of what was shown, texts in files, draft pull requests."""

    shown: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    pulls: int = 0
    status: str = ""


PROMISES = {
    "Fix a failing test": Promise(files={"dates.py": RIGHT}),
    "Add a feature, with your own checks": Promise(
        (r"^ dates.py \| 4 \+{4}$",),
        {"dates.py": "days_in_february", "tests/test_february.py": "2023", "february.patch": "2023"},
        status="M dates.py",
    ),
    "Choose a model": Promise(
        (r"(?s)(^verified: .*){5}", *(rf"works here with {x}" for x in ("vllm", "ollama", "groq")))
    ),
    "Look before you leap": Promise(),
    "Look at what it did": Promise(
        (rf"^\+    {re.escape(RIGHT)}\n\+\n\+\n\+leap_year = is_leap$",), {"run.html": RIGHT, "again.patch": RIGHT}
    ),
    "Go on where it stopped": Promise(),
    "Try several times": Promise((r"^attempt 1: ", r"^attempt 2: ", r"^verified: ")),
    "A backlog, an issue, a pull request": Promise(
        (r"^leap\tverified\tmiyabi/\S+$", r"^february\tverified\tmiyabi/\S+$"), pulls=1
    ),
    "A CI step": Promise((r"^verified: miyabi/\S+, 0 USD$",), {"../summary.md": "verified"}, pulls=1),
    "A git hook": Promise((r"^post-merge: the tests fail", r"^  miyabi/the-tests-fail-\S+$"), {"NEWS": "leap"}),
    "Review before a commit, and in CI": Promise(
        (r"^::notice title=miyabi review::score 100",), {"miyabi.sarif": '"2.1.0"'}, status="A  keys.py"
    ),
    "Triage issues in CI": Promise((r"^12\tbug\tSev\.3\trules$", r"^#12: ")),
    "Settings, and trust": Promise(),
    "What it costs": Promise(files={"usage.csv": "run,"}),
    "When something goes wrong": Promise((r"works here with vllm",)),
}


def check_promises(section: str, place: Place, git: Git) -> None:
    promise, shown = PROMISES[section], "\n".join(place.shown)
    for pattern in promise.shown:
        assert re.search(pattern, shown, re.MULTILINE), f"{pattern} is not in:\n{shown}"
    for name, text in promise.files.items():
        assert text in (place.root / name).read_text(), name
    assert [one["draft"] for one in place.github.pulls] == [True] * promise.pulls
    assert git("status", "--porcelain", "--untracked-files=no", cwd=place.root) == promise.status


def test_the_step_of_a_pipeline_tells_what_went_wrong(place: Place) -> None:
    (_, step), *_ = blocks("A CI step")
    place.bash(step, {"VLLM_ENDPOINT": NOWHERE, "MIYABI_LLM__PROVIDER": "vllm"}, code=3)
    assert place.shown[-1].splitlines()[-1].startswith("vllm at http://gpu-box:8000 can't be")
    place.model.gives_up = True
    place.bash(step)
    assert place.shown[-1].splitlines()[-2:] == ["failed", "pytest"]


def test_every_block_is_run() -> None:
    found = BLOCK.findall(GUIDE)
    assert GUIDE.count("```") == 2 * len(found)
    assert [*found] == [block for section in SECTIONS for block in blocks(section)]
    assert {kind for kind, _ in found} == {*RUN}


def test_the_flags_and_commands_of_its_text_are_there() -> None:
    command = typer.main.get_command(command_line())
    known: set[str] = set()
    names: set[str] = set()
    waiting: list[tuple[str, Any]] = [("miyabi", command)]
    while waiting:
        name, one = waiting.pop()
        names.add(name)
        known |= {flag for parameter in one.params for flag in parameter.opts + parameter.secondary_opts}
        waiting += [(f"{name} {inner}", found) for inner, found in getattr(one, "commands", {}).items()]
    text = BLOCK.sub("", GUIDE)
    for span in re.findall(r"`([^`]+)`", text):
        assert {*re.findall(r"(?<!\S)--[a-z-]+", span)} <= known, span
        if found := re.match(r"miyabi [a-z]+( (?:list|show|clean|replay|pull|stop)\b)?", span):
            assert found[0] in names, span


def test_its_links_lead_to_headings() -> None:
    for file, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", GUIDE):
        document = ROOT / "docs" / (file or "guide.md")
        titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert anchor in slugs, f"{file}#{anchor}"
