"""`miyabi codegen` from end to end with a real vLLM: CLI, git, sandbox, and a model that says what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Miyabi
from tests.support.schemas import validate
from tests.vllm.server import MODEL, VllmServer
from tests.vllm.turns import call, final, thought, turn

FIX = "*** Begin Patch\n*** Update File: calc.py\n@@\n-    return a - b\n+    return a + b\n*** End Patch"

# The names under which each wire offers the tools.
NAMES = {
    "harmony": ("repo_browser.search", "repo_browser.open_file", "repo_browser.apply_patch", "container.exec"),
    "chat": ("functions.search", "functions.open_file", "functions.apply_patch", "functions.exec"),
}


@pytest.mark.parametrize("wire", ["harmony", "chat"])
def test_a_bug_is_fixed_in_several_steps(
    vllm: VllmServer, repository: Path, miyabi: Miyabi, git: Callable[..., str], wire: str
) -> None:
    search, open_file, apply_patch, execute = NAMES[wire]
    marker = vllm.script(
        turn(thought("Where is add?"), call(search, path=".", query="def add")),
        turn(thought("I read it."), call(open_file, path="calc.py", line_start=1)),
        turn(thought("It subtracts."), call(apply_patch, patch=FIX)),
        turn(thought("I test it."), call(execute, cmd=["python", "-m", "pytest", "-q"])),
        turn(thought("All is well."), final("add subtracted; it adds now.")),
    )
    path = "/v1/completions" if wire == "harmony" else "/v1/chat/completions"
    before = vllm.answered(path)
    ran = miyabi(
        *("codegen", f"Fix the failing test. {marker}", "--provider", "vllm", "--endpoint", vllm.url),
        *("--model", MODEL, "--format", "json"),
        cwd=repository,
        env={"MIYABI_LLM__VLLM__WIRE": wire},
    )
    assert ran.code == 0, ran.stderr
    result = json.loads(ran.stdout)
    validate(result, "codegen")
    assert (result["status"], result["summary"]) == ("verified", "add subtracted; it adds now.")
    assert result["files_modified"] == ["calc.py"]
    assert result["usage"]["requests"] == vllm.answered(path) - before == 5
    assert 0 < result["usage"]["cached_tokens"] < result["usage"]["input_tokens"]
    assert result["usage"]["reasoning_tokens"] > 0
    assert "return a + b" in git("show", f"{result['branch']}:calc.py", cwd=repository)
