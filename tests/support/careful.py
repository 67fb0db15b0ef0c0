"""A careful model, which looks before it repeats what was interrupted, and what a run of its always comes to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_cli.runs import read_log
from tests.support.schemas import validate
from tests.support.server import ChatServer, chat_server, say, stream

CHECK = "grep -q 'a + b' calc.py"


@dataclass(frozen=True)
class Step:
    """A call of a tool; `again`: what is called in its place after an interruption, by a model that looks first."""

    name: str
    arguments: str
    again: str


def mark(name: str, marks: Path) -> Step:
    """What a step does is counted by the lines of a file outside of the worktree."""
    done = f"echo {name} >> {marks}"
    return Step(
        "exec", json.dumps({"cmd": f"{done}; cat {marks}"}), json.dumps({"cmd": f"grep -qx {name} {marks} || {done}"})
    )


def edit(old: str, new: str) -> Step:
    patch = (
        f"*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a {old} b\n+    return a {new} b\n*** End Patch"
    )
    arguments = json.dumps({"patch": patch})
    return Step("apply_patch", arguments, arguments)


@contextmanager
def careful_model(marks: Path) -> Iterator[ChatServer]:
    """A model that says too early that it is done, errs, and mends it; and looks at what was interrupted."""
    rounds = [
        [[mark("one", marks)]],
        [[mark("two", marks), edit("-", "*")]],
        [[edit("*", "+"), mark("three", marks)]],
    ]

    def play(handler: Any, request: Any) -> None:
        messages = request.json["messages"]
        told = sum(message["role"] == "user" for message in messages) - 1
        results = {message["tool_call_id"]: message["content"] for message in messages if message["role"] == "tool"}
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        seen: dict[str, str] = {}
        for call in calls:
            seen[call["function"]["arguments"]] = results[call["id"]]

        def missing(step: Step) -> tuple[str, str] | None:
            if step.arguments not in seen:
                return step.name, step.arguments
            found = [seen[arguments] for arguments in (step.arguments, step.again) if arguments in seen]
            return (step.name, step.again) if all(one.startswith("interrupted") for one in found) else None

        for turn in rounds[told]:
            if wanted := [call for step in turn if (call := missing(step))]:
                stream(handler, {"calls": wanted, "finish": "tool_calls"})
                return
        stream(handler, say("Done."))

    with chat_server(play) as server:
        yield server


def asking(server: ChatServer) -> list[str]:
    """Return the flags of a run without a sandbox, so that the marks may lie outside of the worktree."""
    return ["--endpoint", server.url, "--model", "m", "--sandbox", "off", "--check", CHECK]


def assert_whole(result: dict[str, Any], log: Path, marks: Path) -> None:
    """Hold a run, whatever it went through, to what the one came to that nobody killed."""
    validate(result, "codegen")
    assert (result["status"], result["summary"]) == ("verified", "Done.")
    assert [line for line in result["patch"].splitlines() if line[:1] in "+-"] == [
        "--- a/calc.py",
        "+++ b/calc.py",
        "-    return a - b",
        "+    return a + b",
    ]
    assert [(check["before"], check["after"]) for check in result["checks"]] == [("fail", "pass")]
    assert [attempt["status"] for attempt in result["attempts"]] == ["verified"]
    assert sorted(marks.read_text().split()) == ["one", "three", "two"]
    events = list(read_log(log.parent))
    for event in events:
        validate(event, "event")
    started = [event["call"]["id"] for event in events if event["type"] == "tool_started"]
    assert len(set(started)) == len(started)
    replies = [event["reply"]["usage"]["requests"] for event in events if event["type"] == "reply"]
    assert result["usage"]["requests"] == sum(replies)
    if sum(event["type"] == "attempt_started" for event in events) == 1:
        assert result["attempts"][0]["steps"] == len(replies)
