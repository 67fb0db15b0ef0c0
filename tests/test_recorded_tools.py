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
        "ExecRequest": 19,
        "OpenRequest": 19,
        "SearchRequest": 12,
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


@dataclass(frozen=True)
class Attempt:
    """A patch of the conversation: the lines of the file shown before it, and whether the recorded tool took it."""

    shown: dict[int, str]
    patch: str
    succeeded: bool

    def root(self, folder: Path) -> Root:
        """Make the file, with a note in the place of each line that was not shown."""
        numbers = range(1, max(self.shown) + 1)
        lines = [self.shown.get(number, f"# line {number} was not shown") for number in numbers]
        root = Root(folder)
        root.write(COMPILER, "".join(f"{line}\n" for line in lines).encode())
        return root


def attempts() -> list[Attempt]:
    turns = split((RECORDING / "compiler_conversation.txt").read_text())
    shown: dict[int, str] = {}
    found = []
    for call, result in zip(turns[::2], turns[1::2], strict=True):
        request = prepare(call.recipient, call.content)
        if isinstance(request, PatchRequest):
            found.append(Attempt(dict(shown), request.patch, "<returncode>0</returncode>" in result.content))
        else:
            shown |= {int(n): line for n, line in re.findall(r"^ *(\d+)\t(.*)$", result.content, re.MULTILINE)}
    return found


def test_the_patches_are_those_of_the_replies() -> None:
    replies = [prepare(REPLIES[number].recipient, REPLIES[number].content) for number in (56, 58)]
    assert [PatchRequest(attempt.patch) for attempt in attempts()] == replies
    assert [attempt.succeeded for attempt in attempts()] == [False, True]


def test_the_patch_that_failed_fails_and_shows_the_lines(tmp_path: Path) -> None:
    """It joined two lines of a comment into one."""
    attempt = attempts()[0]
    root = attempt.root(tmp_path)
    before = root.read(COMPILER)
    with pytest.raises(PatchConflict, match="hunk 1 of 1 does not fit") as caught:
        apply_patch(attempt.patch, root)
    hint = caught.value.hint or ""
    assert "line 129 is `            # Skip References to the select clause, as all expressions in the`, not" in hint
    assert "\n  130              # select clause are already part of the group by.\n" in hint
    assert root.read(COMPILER) == before


def test_the_patch_that_succeeded_succeeds(tmp_path: Path) -> None:
    attempt = attempts()[1]
    root = attempt.root(tmp_path)
    before = root.read(COMPILER).decode().splitlines()
    assert apply_patch(attempt.patch, root).modified == (COMPILER,)
    after = root.read(COMPILER).decode().splitlines()
    added = attempt.patch.count("\n+") - attempt.patch.count("\n-")
    assert added == len(after) - len(before) > 20
    assert after[:131] == before[:131]
    assert after[131].strip() == "# If ordering comes from the model's ``Meta.ordering`` and"
    assert after[131 + added :] == before[131:]
