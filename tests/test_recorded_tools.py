"""The first real input of the tools: what gpt-oss-20b called in a whole SWE-bench run."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from miyabi_cli.agent.editing import PatchRequest
from miyabi_cli.agent.execution import ExecRequest
from miyabi_cli.agent.reading import FolderRequest, OpenRequest
from miyabi_cli.agent.searching import SearchRequest
from miyabi_cli.agent.tools import prepare
from miyabi_cli.errors import PatchConflict
from miyabi_cli.workspace.patches import apply_patch
from miyabi_cli.workspace.paths import Root

RECORDING = Path(__file__).parent / "fixtures/gpt_oss_20b"
COMPILER = "django/db/models/sql/compiler.py"
TYPES = {
    "exec": ExecRequest,
    "open_file": OpenRequest,
    "search": SearchRequest,
    "print_tree": FolderRequest,
    "apply_patch": PatchRequest,
}
# Replies whose header holds no usable recipient; what names the tool stands in the channel's place.
MALFORMED = {16, 23, 30, 39, 40}


@dataclass(frozen=True)
class Turn:
    """One message of raw Harmony."""

    header: str
    content: str

    @property
    def recipient(self) -> str:
        named = re.search(r"to=(\S+?)(?=<\||\s|$)", self.header)
        return named[1] if named else ""


def split(raw: str) -> list[Turn]:
    """Split raw Harmony into its messages."""
    messages = re.findall(r"(.*?)<\|message\|>(.*?)(?=<\|start\|>|\Z)", raw, re.DOTALL)
    return [Turn(header.rpartition("<|start|>")[2], content) for header, content in messages]


REPLIES = [split(reply["response"])[-1] for reply in json.loads((RECORDING / "responses.json").read_text())]
CALLS = [(number, turn) for number, turn in enumerate(REPLIES) if "<|channel|>final" not in turn.header]


def test_the_recording() -> None:
    assert len(REPLIES) == 61
    assert len(CALLS) == 60


@pytest.mark.parametrize(("number", "turn"), [call for call in CALLS if call[0] not in MALFORMED])
def test_well_formed_calls_are_accepted(number: int, turn: Turn) -> None:
    request = prepare(turn.recipient, turn.content)
    assert isinstance(request, TYPES[turn.recipient.rpartition(".")[2]])


def test_what_the_calls_ask_for() -> None:
    requests = [prepare(turn.recipient, turn.content) for number, turn in CALLS if number not in MALFORMED]
    assert Counter(type(request).__name__ for request in requests) == {
        "ExecRequest": 18,
        "OpenRequest": 19,
        "SearchRequest": 13,
        "FolderRequest": 3,
        "PatchRequest": 2,
    }
    assert requests[0] == FolderRequest("", 3)
    assert requests[2] == ExecRequest(("bash", "-lc", "ls -R"))
    assert requests[3] == SearchRequest("ordering", "django", 20)
    assert requests[7] == OpenRequest("django/db/models/query.py", 1240, 1300)


@pytest.mark.parametrize(("number", "turn"), [call for call in CALLS if call[0] in MALFORMED])
def test_calls_with_a_malformed_header_are_understood(number: int, turn: Turn) -> None:
    request = prepare(turn.header.removeprefix("assistant"), turn.content)
    expected = next(kind for name, kind in TYPES.items() if name in turn.header)
    assert isinstance(request, expected)


def test_patches_fit_as_they_did() -> None:
    """The first patch joined two lines of a comment, and failed; the second, written after another look, fitted."""
    turns = split((RECORDING / "compiler_conversation.txt").read_text())
    outcomes = []
    shown: dict[int, str] = {}
    for call, result in zip(turns[::2], turns[1::2], strict=True):
        if "open_file" in call.header:
            shown |= {int(n): text for n, text in re.findall(r"^ *(\d+)\t(.*)$", result.content, re.MULTILINE)}
            continue
        outcomes.append((shown, prepare(call.recipient, call.content), "<returncode>0</returncode>" in result.content))
    assert [succeeded for *_, succeeded in outcomes] == [False, True]
    assert len(shown) > 300


@pytest.fixture
def compiler(tmp_path: Path) -> Root:
    """The file as the conversation shows it, with a note in the place of each line that it does not show."""
    text = (RECORDING / "compiler_conversation.txt").read_text()
    shown = {int(number): line for number, line in re.findall(r"^ *(\d+)\t(.*)$", text, re.MULTILINE)}
    lines = [shown.get(number, f"# line {number} was not shown") for number in range(1, max(shown) + 1)]
    root = Root(tmp_path)
    root.write(COMPILER, "".join(f"{line}\n" for line in lines).encode())
    return root


def patch_of(number: int) -> str:
    request = prepare(REPLIES[number].recipient, REPLIES[number].content)
    assert isinstance(request, PatchRequest)
    return request.patch


def test_the_patch_that_failed_fails_and_shows_the_lines(compiler: Root) -> None:
    before = compiler.read(COMPILER)
    with pytest.raises(PatchConflict, match="hunk 1 of 1 does not fit") as caught:
        apply_patch(patch_of(56), compiler)
    hint = caught.value.hint or ""
    assert "line 129 is `            # Skip References to the select clause, as all expressions in the`, not" in hint
    assert "\n  130              # select clause are already part of the group by.\n" in hint
    assert compiler.read(COMPILER) == before


def test_the_patch_that_succeeded_succeeds(compiler: Root) -> None:
    before = compiler.read(COMPILER).decode().splitlines()
    assert apply_patch(patch_of(58), compiler).modified == (COMPILER,)
    after = compiler.read(COMPILER).decode().splitlines()
    added = len(after) - len(before)
    assert added == 25
    assert after[:131] == before[:131]
    assert after[131].strip() == "# If ordering comes from the model's ``Meta.ordering`` and"
    assert after[131 + added :] == before[131:]
