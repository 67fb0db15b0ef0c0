"""docs/python.md is true: every snippet of it runs, against local servers that play the real ones."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import miyabi_cli.llm
from miyabi_cli.llm import open_openai
from miyabi_cli.llm.provider import Provider
from tests.conftest import PYTHON, ROOT
from tests.support.server import call, chat_server, say, send_error
from tests.support.vllm import final, vllm_server

DOCUMENT = (ROOT / "docs/python.md").read_text()
SNIPPETS: dict[str, str] = dict(re.findall(r"^## ([^\n]+)\n\n```python\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))
TESTS = {"framework": "pytest", "tests": [{"name": "test_add", "code": "def test_add():\n    assert add(1, 1) == 2"}]}

# What the server answers to each snippet, and what the snippet then prints.
PLAYED: dict[str, tuple[list[Any], str]] = {
    "Servers": (
        [],
        r"vllm openai/gpt-oss-20b 131072\nollama gpt-oss:20b 65536\n"
        r"groq openai/gpt-oss-20b 131072\nopenai qwen3-coder \d+\n",
    ),
    "A chat, streamed": (
        [say("Rayleigh scattering.", thought="Hm.")],
        r"Rayleigh scattering.\n20 tokens.* 0.\d{3} s\n",
    ),
    "Tools": ([call("weather", {"city": "Kyoto"}, thought="Ask."), say("Yes: take one.")], "Yes: take one.\n"),
    "A function's arguments": ([say(json.dumps(TESTS))], r"pytest \['test_add'\]\n"),
    "Errors": (
        [send_error(400, {"error": {"message": "This model's maximum context length is 10 tokens", "code": 400}})],
        "does not fit: openai answered 400: This model's maximum context length is 10 tokens\n",
    ),
}


@contextmanager
def opened(*turns: Any) -> Iterator[Provider]:
    with chat_server(*turns or (say("unused"),)) as server:
        yield open_openai(server.url, "gpt-oss-20b")


def test_every_snippet_is_run() -> None:
    assert DOCUMENT.count("```python") == len(SNIPPETS)
    assert {*SNIPPETS} == {"One answer", *PLAYED}


def test_the_whole_script_runs(tmp_path: Any) -> None:
    with vllm_server(final("101", thought="A prime.")) as server:
        script = tmp_path / "script.py"
        script.write_text(SNIPPETS["One answer"].replace("http://localhost:8000", server.url))
        done = subprocess.run(
            [PYTHON, "-W", "error", script], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
        )
    assert done.stderr == ""
    assert re.fullmatch(r"101 \d+ stop\n", done.stdout)


@pytest.mark.parametrize("title", PLAYED)
def test_a_snippet_runs(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    turns, printed = PLAYED[title]
    scope: dict[str, Any] = {}
    exec("async def run(model):\n" + textwrap.indent(SNIPPETS[title], "    "), scope)  # noqa: S102 - our own document

    with opened(*turns) as model:

        async def main() -> None:
            async with model:
                await scope["run"](model)

        asyncio.run(main())
    assert re.fullmatch(printed, capsys.readouterr().out)


def test_what_a_script_imports_is_there_and_comes_when_it_is_asked_for() -> None:
    for name in miyabi_cli.llm.__all__:
        assert getattr(miyabi_cli.llm, name)
        assert name in dir(miyabi_cli.llm)
    with pytest.raises(AttributeError, match="no attribute 'open_nothing'"):
        miyabi_cli.llm.open_nothing  # noqa: B018
    code = "import sys, miyabi_cli.llm; sys.exit('httpx' in sys.modules or 'miyabi_cli.llm.openai' in sys.modules)"
    assert subprocess.run([PYTHON, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_types_ship_with_the_package() -> None:
    """PEP 561: without the marker a type checker takes everything for Any."""
    assert (ROOT / "miyabi_cli/py.typed").is_file()
