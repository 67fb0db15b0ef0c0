"""What gpt-oss was seen to write elsewhere: in the issues and the tests of other servers and clients."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.llm.harmony.parsing import HarmonyParser, ParsedReply, parse, read_leaked
from miyabi_cli.llm.harmony.salvage import salvage
from miyabi_cli.llm.harmony.tokens import encode_text, encoding
from miyabi_cli.messages import Function

S = "<|start|>assistant"
A = f"<|channel|>analysis<|message|>Hm.<|end|>{S}"
FINAL = f"{S}<|channel|>final<|message|>Done.<|return|>"


def function(name: str, *required: str, namespace: str = "", **kinds: str) -> Function:
    """Return a function whose required arguments are strings."""
    properties = {key: {"type": kind} for key, kind in {**dict.fromkeys(required, "string"), **kinds}.items()}
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return Function(name, f"{name}.", schema, namespace)


WEATHER = function("get_weather", "location")
READ = function("read", "path", offset="integer")
WRITE = function("write", "path", "content")
SEARCH = function("web-browsing", "query")
PATCH = function("apply_patch", "input")
SHELL = function("exec", namespace="container", cmd="array", timeout="integer")
OPEN = function("open_file", "path", namespace="repo_browser", line_start="integer")
ALL = (WEATHER, READ, WRITE, SEARCH, PATCH, SHELL, OPEN)
W = '{"location": "Kobe"}'

CALLS: list[tuple[str, list[tuple[str, Any]]]] = [
    # As seen in issue 38 of openai/harmony: dashes glued to a channel.
    (
        f"{A}\u2013\u2013commentary to=functions.get_weather<|channel|>commentary json<|message|>{W}<|call|>",
        [("get_weather", W)],
    ),
    # As seen in issue 27720 of llama.cpp: question marks in a header.
    (f"<|channel|>?? to=functions.get_weather<|message|>{W}", [("get_weather", W)]),
    (f"<|channel|>commentary 2? to=functions.get_weather <|constrain|>json<|message|>{W}", [("get_weather", W)]),
    (f"<|channel|>commentary to=functions.get_weather?<|message|>{W}", [("get_weather", W)]),
    (f"<|channel|>get_weather?<|channel|>commentary json<|message|>json\n{W}", [("get_weather", W)]),
    # As seen in a study of agents on llama.cpp, and in notes of a client's author.
    (
        '<|channel|>functions.read<|channel|>commentary to=assistant json<|message|>{"path":"a"}',
        [("read", {"path": "a"})],
    ),
    (
        '<|start|>functions.read<|channel|>commentary to=assistant code<|message|>{"path":"a"}',
        [("read", {"path": "a"})],
    ),
    # As seen in a debugging report of a client of vllm-mlx: the next header's words behind the arguments.
    (
        '<|channel|>commentary to=functions.read code<|message|>{"path":"a"}commentary<|message|>Read it.',
        [("read", {"path": "a"})],
    ),
    # As seen in an extractor of another client: the call as a whole, addressed to nobody.
    (
        '<|channel|>analysis to=tool_call code<|message|>{\n "name": "read",\n "arguments": {"path": "a"}\n}\n',
        [("read", {"path": "a"})],
    ),
    (
        "<|channel|>commentary to=multi_tool_use.parallel json<|message|>"
        '{"tool_uses":[{"recipient_name":"functions.read",'
        '"parameters":{"path":"a"}},{"recipient_name":"functions.read","parameters":{"path":"b"}}]}',
        [("read", {"path": "a"}), ("read", {"path": "b"})],
    ),
    # As seen in issues 12884 and 17638 of Ollama: a call within the arguments, and brackets around or behind them.
    (
        '<|channel|>commentary to=functions.read json<|message|>{"name":"read","parameters":{"path":"a"}}',
        [("read", {"path": "a"})],
    ),
    (
        '<|channel|>commentary to=functions.apply_patch json<|message|>{"input":"x"}]<|call|>',
        [("apply_patch", {"input": "x"})],
    ),
    (
        '<|channel|>commentary to=functions.apply_patch json<|message|>[{"input":"x"}]<|call|>',
        [("apply_patch", {"input": "x"})],
    ),
    # As seen in issue 51977 of vLLM, and in Ollama, where a hyphen in a name becomes an underscore.
    ('<|channel|>commentary to=functions.web-browsing<|message|>{"query":"x"}', [("web-browsing", {"query": "x"})]),
    ('<|channel|>commentary to=functions.web_browsing<|message|>{"query":"x"}', [("web-browsing", {"query": "x"})]),
    # As seen in the tests of two proxies: other words where a namespace belongs.
    (f"<|channel|>commentary to=tool.get_weather code<|message|>{W}", [("get_weather", W)]),
    (f"<|channel|>commentary to=tools.get_weather<|constrain|>json<|message|>{W}", [("get_weather", W)]),
    (f"<|channel|>commentary to=assistant.get_weathercode<|message|>{W}", [("get_weather", W)]),
    # As seen in pull request 15158 of llama.cpp, and more of its kind: content types glued on.
    (f"<|channel|>commentary to=functions.get_weatherjsoncode<|message|>{W}", [("get_weather", W)]),
    ('<|channel|>analysis to=containercode<|message|>json{"cmd":["ls"]}', [("exec", {"cmd": ["ls"]})]),
    ('<|channel|>analysis code<|message|>json\n{"cmd":["ls"]}', [("exec", {"cmd": ["ls"]})]),
    # As seen in the test of a research agent: a bracket where `<|message|>` belongs.
    (f"{S}<|channel|>commentary to=functions.get_weather]{W}<|call|>", [("get_weather", W)]),
    # Two objects are two calls, and the same one twice is one.
    (
        '<|channel|>commentary to=functions.read json<|message|>{"path":"a"}\n{"path":"b"}',
        [("read", {"path": "a"}), ("read", {"path": "b"})],
    ),
    (f"<|channel|>commentary to=functions.get_weather json<|message|>{W}{W}", [("get_weather", W)]),
    # With no `<|message|>` at all.
    (f"{A} to:functions.get_weather json {W}", [("get_weather", W)]),
    ('<|channel|>commentary to= repo browser.open file {"path":"a"}', [("open_file", {"path": "a"})]),
    # As seen in issue 743 of a provider, a trace of LangChain and a test of another agent: the marks are cut out.
    (f"analysisWe look.assistantcommentary to=functions.get_weather json{W}", [("get_weather", W)]),
    (
        f"analysisWe look.assistantcommentary to=functions.get_weathercommentary json{W}assistantfinalIt is sunny.",
        [("get_weather", W)],
    ),
]


def read(raw: str, pieces: str = "") -> ParsedReply:
    parser = HarmonyParser(ALL)
    if pieces == "ids":
        for token in encoding().encode(raw, allowed_special="all"):
            parser.feed_ids([token])
    else:
        for piece in list(raw) if pieces else [raw]:
            parser.feed(piece)
    return parser.close("stop")


@pytest.mark.parametrize("pieces", ["", "letters", "ids"])
@pytest.mark.parametrize(("raw", "calls"), CALLS)
def test_a_call_seen_elsewhere_is_read(raw: str, calls: list[tuple[str, Any]], pieces: str) -> None:
    reply = read(raw, pieces)
    wanted = [(name, json.loads(said) if isinstance(said, str) else said) for name, said in calls]
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] == wanted
    assert reply.text == ("It is sunny." if "sunny" in raw else "")
    assert not reply.cut


REPLIES = [
    # raw, text, thought; as seen in issue 27720 of llama.cpp: text where the channel belongs.
    (f"<|channel|>We need the file first.<|end|>{FINAL}", "Done.", "We need the file first."),
    (f"<|channel|>??<|end|>{A}<|channel|>final<|message|>Done.", "Done.", None),
    (f"<|channel|>commentary?commentary?We need the temperature.<|end|>{FINAL}", "Done.", None),
    # As seen in pull request 43408 of vLLM: tokens between two messages.
    (f"<|channel|>analysis<|message|>Hm.<|end|> 364 {FINAL}", "Done.", None),
    # As seen in issue 2032 of oMLX: an answer that is addressed to a function.
    ("<|channel|>final to=functions.get_weather<|message|>It is sunny.<|return|>", "It is sunny.", ""),
    # As seen in issue 743 of a provider and issue 7374 of textgen: the marks are cut out.
    (
        'analysisWe need to answer "What is 2+2?"\nOnly that.assistantfinalfour',
        "four",
        'We need to answer "What is 2+2?"\nOnly that.',
    ),
    ("analysisUser greets." + " We greet." * 40 + "assistantfinalHello!", "Hello!", "User greets." + " We greet." * 40),
    # And answers that only look so.
    ("analysisResult holds the outcome.", "analysisResult holds the outcome.", ""),
    ("analysisResult holds it. " * 30, "analysisResult holds it. " * 30, ""),
    *(
        (f"<|channel|>final<|message|>{answer}<|return|>", answer, "")
        for answer in (
            '[{"type": "function", "function": {"name": "read", "parameters": {"type": "object", "properties": {}}}}]',
            '{"name": "read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}',
            f'The following is how the API is called:\n\n{{"name": "get_weather", "arguments": {W}}}',
            f'The body of the request looks as follows:\n\n{{"name": "get_weather", "arguments": {W}}}',
            "analysisWe show this.assistantfinalto the user.",
        )
    ),
]


@pytest.mark.parametrize("pieces", ["", "letters", "ids"])
@pytest.mark.parametrize(("raw", "text", "thought"), REPLIES)
def test_text_and_thought_seen_elsewhere_are_told_apart(raw: str, text: str, thought: str | None, pieces: str) -> None:
    reply = read(raw, pieces)
    assert (reply.tool_calls, reply.text) == ((), text)
    assert thought is None or reply.thought == thought


def test_marks_that_come_after_all_end_the_guess_that_they_are_missing() -> None:
    raw = "analysisWe look. " * 20 + f"<|end|>{S}<|channel|>final<|message|>Done."
    reply = read(raw)
    assert reply.text == "analysisWe look. " * 20 + "\n\nDone."
    assert replace(read(raw, "letters"), last=None) == replace(reply, last=None)


@pytest.mark.parametrize("answer", ['{"path": "a"}', f'{{"name": "get_weather", "arguments": {W}}}', W])
def test_a_bare_answer_by_a_schema_is_no_call_where_functions_are_offered_too(answer: str) -> None:
    reply = parse(answer, ALL, schema=True)
    assert (reply.tool_calls, reply.text) == ((), answer)


def test_a_call_in_a_text_is_salvaged_with_what_was_written_behind_it() -> None:
    for text in (
        f"analysisWe look.assistantcommentary to=functions.get_weather json{W}assistantfinalIt is sunny.",
        f"We look.assistantcommentary to=functions.get_weather json{W}commentaryanalysisNo results.",
    ):
        (call,) = salvage(text, "", ALL)
        assert (call.name, call.arguments) == ("get_weather", W)
    assert salvage(f"We look.assistantcommentary to=functions.get_weather json{W} is how.", "", ALL) == ()


def test_a_reply_that_a_server_left_in_its_text_is_read_as_a_whole() -> None:
    """As seen in issue 743 of a provider, issue 75 of Sidekick and issue 9256 of TensorRT-LLM."""
    for text in (f"<|channel|>analysis<|message|>Hm.<|end|>{FINAL}", "analysisHm.assistantfinalDone."):
        leaked = read_leaked(text)
        assert leaked is not None
        assert (leaked.thought, leaked.text, leaked.tool_calls) == ("Hm.", "Done.", ())
    raw = "<|channel|>commentary<|message|>" + W + "<|end|>"
    leaked = read_leaked(raw, ALL, prefix="a")
    assert leaked is not None
    assert [(call.id, call.name, call.arguments) for call in leaked.tool_calls] == [("a_0", "get_weather", W)]
    for text in ("", "Done.", f"It begins with `{S}`.", "analysisResult is a name."):
        assert read_leaked(text, ALL) is None


def test_names_that_differ_in_a_hyphen_alone_are_kept_apart() -> None:
    alike = (function("a-b", "x"), function("a_b", "x"))
    for name in ("a-b", "a_b"):
        (call,) = parse(f'<|channel|>commentary to=functions.{name}<|message|>{{"x":"y"}}', alike).tool_calls
        assert call.name == name


NAMES = st.sampled_from(["container.exec", "container exec", "CONTAINER.EXEC", "container/exec", '"container.exec"'])
TAILS = st.sampled_from(["", "?", ",", "code", "json", "commentary", "<|constrain|>json", "<|channel|>commentary"])
KINDS = st.sampled_from(["", " code", " json", " <|constrain|>json", "<|constrain|>code"])
STARTS = st.sampled_from([A, A.removesuffix(S), f"{A}<|start|>assistant", f"{A.removesuffix(S)}assistant", ""])
MIDDLES = st.sampled_from(
    ["<|message|>", "<|message|><|message|>", "<|message|>json\n", "<|message|><|constrain|>json"]
)
ENDS = st.sampled_from(["<|call|>", "", "<|end|>", "<|return|>", "\n", "<|call|>commentary", f"<|call|>{S}"])
HEADERS = st.sampled_from(
    [
        "<|channel|>{channel} to={name}{kind}",
        " to={name}<|channel|>{channel}{kind}",
        " to={name}<|channel|>{channel} to={name}{kind}",
        "<|channel|>assistant to={name}<|channel|>{channel}{kind}",
        "<|channel|>{name} to=assistant<|channel|>{channel}{kind}",
        "<|channel|>commentary to=assistant<|channel|>{channel} to={name}{kind}",
        "<|channel|>{channel}{kind} to={name}",
        "<|channel|>?? to={name}{kind}",
        " to={name}{kind}",
    ]
)


@given(HEADERS, NAMES, TAILS, KINDS, STARTS, MIDDLES, ENDS, st.sampled_from(["analysis", "commentary", "final"]))
@settings(deadline=None, max_examples=300)
def test_faults_of_a_header_may_come_together(
    header: str, name: str, tail: str, kind: str, start: str, middle: str, end: str, channel: str
) -> None:
    arguments = '{"cmd": ["bash", "-lc", "ls"]}'
    raw = start + header.format(channel=channel, name=name + tail, kind=kind) + middle + arguments + end
    for pieces in ("", "ids"):
        reply = read(raw, pieces)
        assert [(call.name, call.arguments) for call in reply.tool_calls] == [("exec", arguments)]
        assert reply.text == ""


def test_written_marks_stay_text_where_ids_are_read() -> None:
    said = f"It is `{S} to=functions.get_weather<|channel|>commentary json<|message|>{W}<|call|>`, as documented."
    parser = HarmonyParser(ALL)
    parser.feed_ids(encoding().encode("<|channel|>final<|message|>", allowed_special="all"))
    parser.feed_ids(encode_text(said))
    reply = parser.close("stop")
    assert (reply.text, reply.tool_calls) == (said, ())
