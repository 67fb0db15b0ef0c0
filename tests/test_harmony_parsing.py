"""What gpt-oss writes over raw Harmony, well formed and not: no call that a person can read is lost, none invented."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from miyabi_cli.agent.tools import TOOLS
from miyabi_cli.errors import BrokenReply
from miyabi_cli.llm.harmony.parsing import HarmonyParser, ParsedReply, parse
from miyabi_cli.llm.harmony.rendering import Head, render
from miyabi_cli.llm.harmony.salvage import salvage
from miyabi_cli.llm.harmony.tokens import CALL, MESSAGE, decode, encode_text, encoding
from miyabi_cli.messages import Delta, Function, Message, ToolCall

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED = json.loads((FIXTURES / "gpt_oss_20b/responses.json").read_text())
WEATHER = Function(
    "get_weather", "W.", {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
)
PLACES = {"container": ("exec",), "repo_browser": ("open_file", "search", "print_tree", "list_dir", "apply_patch")}
TRAINED = tuple(
    replace(tool.function(), namespace=next(space for space, names in PLACES.items() if tool.name in names))
    for tool in TOOLS
    if tool.offered
)
FUNCTIONS = (*TRAINED, WEATHER)

# In the lists below, A is a message of thought, S the start of another message, W and E are arguments.
W = '{"location": "Kobe"}'
E = '{"cmd": ["bash", "-lc", "ls"]}'
S = "<|start|>assistant"
A = f"<|channel|>analysis<|message|>Hm.<|end|>{S}"

CALLS_OF_GET_WEATHER = [
    # As the format has it.
    f"{A}<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{W}<|call|>",
    f"{A}<|channel|>commentary to=functions.get_weather<|constrain|>json<|message|>{W}<|call|>",
    f"{A} to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{W}<|call|>",
    f"{A} to=functions.get_weather<|channel|>commentary json<|message|>{W}<|call|>",
    f"{A}<|channel|>commentary to=functions.get_weather code<|message|>{W}<|call|>",
    f" to=functions.get_weather<|channel|>commentary<|message|>{W}<|call|>",
    # Its end is left out, or is another; space around the arguments.
    f"{A}<|channel|>commentary to=functions.get_weather json<|message|>{W}",
    f"{A}<|channel|>commentary to=functions.get_weather json<|message|>\n{W}\n",
    f"{A}<|channel|>commentary to=functions.get_weather json<|message|>{W}<|end|>",
    f"{A}<|channel|>commentary to=functions.get_weather json<|message|>{W}<|return|>",
    f"{A}<|channel|>commentary to=functions.get_weather json<|message|>{W}<|call|>commentary",
    f"{A}<|channel|>commentary to=functions.get_weather json<|message|>{W}<|call|>\n",
    # A recipient in both places, twice, in upper case, in quotes, with spaces, glued, without its namespace.
    f"{A} to=functions.get_weather<|channel|>commentary to=functions.get_weather<|message|>{W}",
    f"<|channel|>commentary to=functions.get_weather to=functions.get_weather<|message|>{W}",
    f"<|channel|>commentary to=functions.get_weatherfunctions.get_weather<|message|>{W}",
    f"<|channel|>commentary functions.get_weather to=functions.get_weather<|message|>{W}",
    f"<|channel|>COMMENTARY TO=Functions.Get_Weather <|constrain|>JSON<|message|>{W}",
    f'<|channel|>commentary to="functions.get_weather"<|message|>{W}',
    f"<|channel|>commentary to=functions.get_weather,<|message|>{W}",
    f"<|channel|>commentary to= functions.get_weather <|constrain|>json<|message|>{W}",
    f"<|channel|>commentary to = functions.get_weather <|constrain|>json<|message|>{W}",
    f"<|channel|>commentary to:functions.get_weather<|message|>{W}",
    f"<|channel|>commentary to=functions.get weather <|constrain|>json<|message|>{W}",
    f"<|channel|>commentary to=functions. get_weather json<|message|>{W}",
    f"<|channel|>commentary to=functions get_weather json<|message|>{W}",
    f"<|channel|>commentaryto=functions.get_weather json<|message|>{W}",
    f"<|channel|>commentary to=functions.get_weatherjson<|message|>{W}",
    f"<|channel|>commentary to=functions.get_weathercommentary<|message|>{W}",
    f"<|channel|>commentary to=get_weather<|message|>{W}",
    f"<|channel|>commentary get_weather<|message|>{W}",
    f"<|channel|>commentary to=functions.get_weather({W})<|message|>{W}",
    # A tag glued to the name, and no `to=`.
    f"get_weather<|channel|>commentary<|message|>{W}",
    f"functions.get_weather<|channel|>commentary<|message|>{W}",
    f"{A} functions.get_weather<|channel|>commentary json<|message|>{W}",
    # A doubled channel; the channel and the recipient swapped; a tool where the channel belongs.
    f"{A}<|channel|>assistant to=functions.get_weather<|channel|>analysis code<|message|>{W}",
    f"{A}<|channel|>functions.get_weather to=assistant<|channel|>commentary code<|message|>{W}",
    f"{A}<|channel|>functions.get_weather<|channel|>commentary json<|message|>{W}",
    f"{A}<|channel|>get_weather<|channel|>commentary<|message|>{W}",
    f"{A}<|channel|>functions.get_weather<|message|>{W}",
    f"{A}<|channel|>functions.get_weather json<|message|>{W}",
    f"{A}<|channel|>to=functions.get_weather<|message|>{W}",
    f"{A}<|channel|>commentary<|channel|>to=functions.get_weather<|message|>{W}",
    f"{A}<|channel|>analysis<|channel|>commentary to=functions.get_weather<|message|>{W}",
    f"{A}<|channel|>functions<|channel|>commentary to=get_weather<|message|>{W}",
    # Misspelt, unknown and missing channels.
    f"<|channel|>comentary to=functions.get_weather<|message|>{W}",
    f"<|channel|>commentary/functions.get_weather<|message|>{W}",
    f"<|channel|>commentary_to=functions.get_weather<|message|>{W}",
    f" to=functions.get_weather<|message|>{W}",
    f"<|channel|>final to=functions.get_weather<|message|>{W}",
    f"<|channel|> to=functions.get_weather<|message|>{W}",
    f"<|channel|>tools to=functions.get_weather<|message|>{W}",
    # A recipient that is none, and arguments that fit one function alone.
    f"<|channel|>commentary<|message|>{W}",
    f"<|channel|>commentary <|constrain|>json<|message|>{W}",
    f"<|channel|>commentary json<|message|>{W}",
    f"<|channel|>commentary<|message|>```json\n{W}\n```",
    f"<|channel|>analysis code<|message|>{W}",
    f"<|channel|>json<|message|>{W}",
    f"<|channel|>final <|constrain|>json<|message|>{W}",
    f"<|channel|>commentary to=code json<|message|>{W}",
    f"<|channel|>commentary to=functions<|constrain|>json<|message|>{W}",
    f"<|channel|>commentary to=assistant<|constrain|>json<|message|>{W}",
    f"<|channel|>commentary to=container.exec to=functions.get_weather<|message|>{W}",
    f"<|channel|>commentary to=container.execfunctions.get_weather<|message|>{W}",
    f"<|message|>{W}",
    W,
    # `<|constrain|>` and `<|message|>` misplaced, doubled and missing.
    f"<|channel|>commentary <|constrain|>to=functions.get_weather<|message|>{W}",
    f"<|channel|>commentary <|constrain|>json to=functions.get_weather<|message|>{W}",
    f"<|channel|>commentary<|constrain|>functions.get_weather<|message|>{W}",
    f"<|constrain|>json<|channel|>commentary to=functions.get_weather<|message|>{W}",
    f"<|channel|>commentary to=functions.get_weather<|message|><|message|>{W}",
    f"<|channel|>commentary to=functions.get_weather<|message|><|constrain|>json{W}",
    f"<|channel|>commentary to=functions.get_weather<|message|>json\n{W}",
    f"<|channel|>commentary to=functions.get_weather {W}<|call|>",
    f"<|channel|>commentary to=functions.get_weather{W}",
    f"<|channel|>commentary to=functions.get_weather json{W}<|call|>",
    f"<|channel|>commentary to=functions.get_weather <|constrain|>json{W}",
    f"<|channel|>commentary to=functions.get_weather {W}<|message|><|call|>",
    # `<|start|>`, `<|end|>` and the role missing, doubled and unknown.
    f"<|channel|>analysis<|message|>Hm.<|end|>assistant<|channel|>commentary to=functions.get_weather<|message|>{W}",
    f"<|channel|>analysis<|message|>Hm.<|end|><|channel|>commentary to=functions.get_weather<|message|>{W}",
    f"<|channel|>analysis<|message|>Hm.<|end|> to=functions.get_weather<|channel|>commentary<|message|>{W}",
    f"<|channel|>analysis<|message|>Hm.{S}<|channel|>commentary to=functions.get_weather<|message|>{W}",
    f"<|channel|>analysis<|message|>Hm.<|channel|>commentary to=functions.get_weather<|message|>{W}",
    f"<|channel|>analysis<|message|>Hm. assistant to=functions.get_weather<|channel|>commentary<|message|>{W}",
    f"{A}{S}<|channel|>commentary to=functions.get_weather json<|message|>{W}",
    f"{S}<|channel|>commentary to=functions.get_weather json<|message|>{W}",
    f"<|start|>functions.get_weather<|channel|>commentary json<|message|>{W}",
    f"<|start|>functions.get_weather to=assistant<|channel|>commentary json<|message|>{W}",
    f"<|start|>asistant<|channel|>commentary to=functions.get_weather json<|message|>{W}",
    f"<|start|>tool to=functions.get_weather<|channel|>commentary json<|message|>{W}",
    f"<|start|>commentary to=functions.get_weather json<|message|>{W}",
    f"<|channel|>final<|message|>{S}<|channel|>commentary to=functions.get_weather<|message|>{W}",
    # A call in the text, whole.
    f"<|channel|>final<|message|>to=functions.get_weather json\n{W}",
    f"<|channel|>final<|message|>commentary to=functions.get_weather{W}",
    f'<|channel|>final<|message|>{{"name": "get_weather", "arguments": {W}}}',
    f'<|channel|>final<|message|>{{"tool": "get_weather", "args": {W}}}',
    f'<|channel|>final<|message|>{{"type": "function", "function": {{"name": "get_weather", "arguments": {W}}}}}',
    f'<|channel|>final<|message|>{{"tool_calls": [{{"name": "get_weather", "arguments": {W}}}]}}',
    f'<|channel|>final<|message|>{{"name": "get_weather", "arguments": {json.dumps(W)}}}',
    '<|channel|>final<|message|>{"name": "get_weather", "location": "Kobe"}',
    f'<|channel|>final<|message|>```json\n{{"name": "functions.get_weather", "arguments": {W}}}\n```',
    f'<|channel|>final<|message|><tool_call>{{"name": "get_weather", "arguments": {W}}}</tool_call>',
    f'<|channel|>commentary<|message|>{{"name": "get_weather", "arguments": {W}}}',
    f"<|channel|>final<|message|>get_weather({W})",
    f"commentary to=functions.get_weather json{W}",
    f"assistantcommentary to=functions.get_weather json{W}",
    # In the thought, and nothing else.
    f'<|channel|>analysis<|message|>I call it.\n\n{{"name": "get_weather", "arguments": {W}}}',
    f"<|channel|>analysis<|message|>I call it.<|end|>{S}<|channel|>analysis<|message|>{W}",
    f"<|channel|>analysis<|message|>I call it.assistantcommentary to=functions.get_weather json{W}",
]
CALLS_OF_EXEC = [
    f"{A}<|channel|>analysis to=container.exec code<|message|>{E}",
    f"{A} to=container.exec<|channel|>analysis code<|message|>{E}",
    f"{A}<|channel|>container.exec<|channel|>analysis code<|message|>{E}",
    f"{A}<|channel|>container.exec to=assistant<|channel|>analysis code<|message|>{E}",
    f"{A}<|channel|>assistant to=container.exec<|channel|>analysis code<|message|>{E}",
    f"{A}<|channel|>analysis to=container code<|message|>{E}",
    f"{A}<|channel|>container<|channel|>analysis code<|message|>{E}",
    f"{A}<|channel|>functions.json code<|message|>{E}",
    f"{A}<|channel|>analysis to=container exec code<|message|>{E}",
    f"{A}<|channel|>container exec<|channel|>analysis code<|message|>{E}",
    f"{A}<|channel|>analysis code to=container.exec<|message|>{E}",
    f"{A}<|channel|>analysiscode to=container.exec<|message|>{E}",
    f"{A}<|channel|>analysis code<|message|>{E}",
    f"{A}<|channel|>analysis to=functions.exec code<|message|>{E}",
    f"{A}<|channel|>analysis to=code<|message|>{E}",
    f"<|start|>container.exec to=assistant<|channel|>analysis code<|message|>{E}",
]


def one_call(reply: ParsedReply) -> tuple[str, str]:
    assert not reply.cut
    assert len(reply.tool_calls) == 1
    return reply.tool_calls[0].name, reply.tool_calls[0].arguments


@pytest.mark.parametrize("raw", CALLS_OF_GET_WEATHER)
def test_a_call_is_read(raw: str) -> None:
    reply = parse(raw, FUNCTIONS)
    assert (one_call(reply), reply.text) == (("get_weather", W), "")


@pytest.mark.parametrize("raw", CALLS_OF_EXEC)
def test_a_call_of_a_namespace_is_read(raw: str) -> None:
    reply = parse(raw, FUNCTIONS)
    assert (one_call(reply), reply.text) == (("exec", E), "")


@pytest.mark.parametrize(
    ("raw", "name", "arguments"),
    [
        (
            '<|channel|>analysis code<|message|>{"command": ["ls"], "timeout": 9}',
            "exec",
            '{"command": ["ls"], "timeout": 9}',
        ),
        ('<|channel|>analysis to=code<|message|>{"x": 1}', "code", '{"x": 1}'),
        ("<|channel|>analysis to=container.exec<|message|>ls -la", "exec", "ls -la"),
        ("<|channel|>analysis to=python code<|message|>print(1)\n", "python", "print(1)"),
        ("<|channel|>python<|channel|>analysis code<|message|>print(1)", "python", "print(1)"),
        ("<|channel|>analysis to=browser.search code<|message|>{}", "browser.search", "{}"),
        ("<|channel|>commentary to=functions.unheard_of json<|message|>{}", "unheard_of", "{}"),
        ("<|channel|>commentary to=functions.get_location<|message|><|call|>", "get_location", "{}"),
        ("<|channel|>commentary to=functions.get_location <|constrain|>json<|call|>", "get_location", "{}"),
        ('<|channel|>commentary to=functions.get_weather_soon json<|message|>{"x": 1}', "get_weather_soon", '{"x": 1}'),
    ],
)
def test_names_and_arguments_that_are_not_offered_are_left_as_they_are(raw: str, name: str, arguments: str) -> None:
    assert one_call(parse(raw, FUNCTIONS)) == (name, arguments)


def test_a_namespace_is_kept_where_it_is_not_offered() -> None:
    plain = [replace(function, namespace="") for function in FUNCTIONS]
    assert one_call(parse(CALLS_OF_EXEC[0], plain)) == ("container.exec", E)
    assert one_call(parse(CALLS_OF_EXEC[0])) == ("container.exec", E)


NO_CALLS = [
    # raw, text, thought
    ("", "", ""),
    ("Hello", "Hello", ""),
    ("  Hello\nyou ", "  Hello\nyou ", ""),
    ("<|channel|>final<|message|>Hello\n", "Hello\n", ""),
    (f"{A}<|channel|>final<|message|>Hi<|return|>", "Hi", "Hm."),
    (f"{A}<|channel|>analysis<|message|>Well.<|end|>{S}<|channel|>final<|message|>Hi", "Hi", "Hm.\n\nWell."),
    (f"<|channel|>commentary<|message|>Plan.<|end|>{S}<|channel|>final<|message|>Done.", "Plan.\n\nDone.", ""),
    (f"<|channel|>analysis No<|end|>{S}<|channel|>final The end<|return|>", "The end", "No"),
    (f"I refuse<|end|>{S}<|channel|>final<|message|>Sorry.", "I refuse\n\nSorry.", ""),
    ("See os.path<|channel|>final<|message|>Done", "See os.path\n\nDone", ""),
    ("<|channel|>final<|message|>os.path is a module", "os.path is a module", ""),
    ("<|channel|>commentary to=user<|message|>Hello there", "Hello there", ""),
    ("<|channel|>commentary to=all<|message|>Hello there", "Hello there", ""),
    ("<|channel|>analysis to=assistant<|message|>Hm", "", "Hm"),
    (f"{A}<|channel|>final<|message|>Hi<|end|><|start|>user<|message|>More!<|end|>", "Hi", "Hm."),
    ("<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>{}", "", ""),
    ("<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>sunny", "", ""),
    (
        f"<|channel|>final<|message|>Hi<|end|><|start|>user<|message|>More!<|end|>{S}<|channel|>final<|message|>No",
        "Hi",
        "",
    ),
    # Prose, examples and JSON that was not meant as a call.
    (f"<|channel|>final<|message|>{W}", W, ""),
    ('<|channel|>final<|message|>{"name": "Ann", "age": 3}', '{"name": "Ann", "age": 3}', ""),
    ('<|channel|>commentary<|message|>{"path": "x"}', '{"path": "x"}', ""),
    ('<|channel|>commentary<|message|>{"weather": "Kobe"}', '{"weather": "Kobe"}', ""),
    (f"<|channel|>commentary<|message|>It is {W}", f"It is {W}", ""),
    (f"<|channel|>final<|message|>I put to=functions.get_weather {W} in", f"I put to=functions.get_weather {W} in", ""),
    *(
        (f"<|channel|>final<|message|>{text}", text, "")
        for text in (
            f'For example:\n\n{{"name": "get_weather", "arguments": {W}}}',
            f'Use it:\n\n```json\n{{"name": "get_weather", "arguments": {W}}}\n```',
            f'{{"name": "get_weather", "arguments": {W}}}\n\nis how it is called.',
            f'So:\n\n{{"name": "unheard_of", "arguments": {W}}}',
            "```python\nget_weather()\n```",
            "to=get_weather is missing",
            'exec({"cmd": "ls"}) lists files',
        )
    ),
    (f"<|channel|>analysis<|message|>I could say {W}", "", f"I could say {W}"),
]


@pytest.mark.parametrize(("raw", "text", "thought"), NO_CALLS)
def test_no_call_is_invented_and_nothing_lost(raw: str, text: str, thought: str) -> None:
    reply = parse(raw, FUNCTIONS)
    assert (reply.tool_calls, reply.text, reply.thought, reply.cut) == ((), text, thought, False)


@pytest.mark.parametrize(
    "raw", [f"<|channel|>final{kind}<|message|>{W}" for kind in ("", " <|constrain|>json", " json")]
)
def test_an_answer_by_a_schema_is_no_call(raw: str) -> None:
    reply = parse(raw, FUNCTIONS, schema=True)
    assert (reply.tool_calls, reply.text) == ((), W)


def test_beside_an_answer_by_a_schema_everything_else_is_thought() -> None:
    raw = f"Well<|end|>{S}<|channel|>commentary<|message|>Plan.<|end|>{S}<|channel|>final<|message|>{W}"
    reply = parse(raw, schema=True)
    assert (reply.text, reply.thought) == (W, "Well\n\nPlan.")
    for raw in (W, f"{W}<|return|>", f"{W}<|end|>", f"<|message|>{W}"):
        assert parse(raw, schema=True).text == W


def test_a_call_behind_text_leaves_the_text() -> None:
    raw = f"<|channel|>final<|message|>Let me look.\n\ncommentary to=functions.get_weather json{W}"
    reply = parse(raw, FUNCTIONS)
    assert one_call(reply) == ("get_weather", W)
    assert reply.text == "Let me look.\n\n"


PUSH = '{"name": "exec", "arguments": {"cmd": ["git", "push", "--force"]}}'


@pytest.mark.parametrize("channel", ["<|channel|>final<|message|>", "<|channel|>commentary<|message|>", ""])
@pytest.mark.parametrize(
    "quoted",
    [
        PUSH,
        f"[{PUSH}]",
        f'{{"tool_calls": [{PUSH}]}}',
        f"```json\n{PUSH}\n```",
        f"<tool_call>{PUSH}</tool_call>",
        f"        <tool_call>{PUSH}</tool_call>",
        f"<|x|>{PUSH}",
        json.dumps(json.loads(PUSH), indent=2),
    ],
)
def test_json_that_an_answer_quotes_is_no_call(channel: str, quoted: str) -> None:
    """What a file says is a stranger's word."""
    for before in ("The file log.txt holds this line:\n", "It says\n\n", "One.\n\n{}\n"):
        said = f"{before}{quoted}"
        reply = parse(channel + said, FUNCTIONS)
        assert (reply.tool_calls, reply.text) == ((), said)
        assert salvage(said, "", FUNCTIONS) == ()


@pytest.mark.parametrize("blanks", ["", "\n", " \n\n  "])
def test_a_call_behind_blanks_alone_is_the_whole_text(blanks: str) -> None:
    for call in (PUSH, "container.exec" + json.dumps(json.loads(PUSH)["arguments"])):
        assert parse(f"<|channel|>final<|message|>{blanks}{call}", FUNCTIONS).tool_calls[0].name == "exec"


def test_what_follows_an_imagined_result_is_left_out() -> None:
    result = '<|start|>functions.get_weather to=assistant<|channel|>commentary<|message|>{"sun": true}<|end|>'
    like_arguments = result.replace("commentary", "commentary json").replace('{"sun": true}', W)
    for imagined in (result, result.replace('{"sun": true}', "sun"), like_arguments):
        reply = parse(f"{CALLS_OF_GET_WEATHER[0]}{imagined}{S}<|channel|>final<|message|>Sun.", FUNCTIONS)
        assert one_call(reply) == ("get_weather", W)
        assert reply.text == ""


def test_all_calls_are_kept_and_their_ids_differ() -> None:
    raw = f"<|channel|>commentary<|message|>Two.<|end|>{CALLS_OF_GET_WEATHER[0]}{S}{CALLS_OF_EXEC[0]}"
    parser = HarmonyParser(FUNCTIONS, prefix="run7")
    parser.feed(raw)
    reply = parser.close("stop")
    assert reply.tool_calls == (ToolCall("run7_0", "get_weather", W), ToolCall("run7_1", "exec", E))


# -- recordings ----------------------------------------------------------------------------------------------------


def expected_call(raw: str) -> tuple[str, str]:
    """Return the call of a recorded reply by the words of its last header, as a person would read it."""
    header, _, content = raw.rpartition("<|start|>assistant")[2].partition("<|message|>")
    names = [word for word in header.replace("<|channel|>", " ").replace("to=", " ").split() if "." in word]
    return names[0], content.strip()


def test_of_sixty_recorded_calls_none_is_lost() -> None:
    names = {f"{one.namespace}.{one.name}": one.name for one in TRAINED}
    replies = [parse(recorded["response"], TRAINED) for recorded in RECORDED]
    for index, (recorded, reply) in enumerate(zip(RECORDED[:60], replies[:60], strict=True)):
        name, arguments = expected_call(recorded["response"])
        assert one_call(reply) == (names.get(name, name), arguments), index
        assert reply.thought == recorded["response"].partition("<|message|>")[2].partition("<|end|>")[0]
        assert not reply.text
        json.loads(arguments)
    assert replies[60].tool_calls == ()
    assert RECORDED[60]["response"].endswith(f"<|channel|>final<|message|>{replies[60].text}")


def mutations(raw: str) -> list[str]:
    """Return a recorded reply with its last header bent in the ways that were seen, two at a time."""
    before, _, last = raw.rpartition("<|start|>")
    header, _, arguments = last.partition("<|message|>")
    name = expected_call(raw)[0]
    ends = ("", "<|call|>", "<|end|>", "<|return|>", "\n")
    starts = (f"{before}<|start|>assistant", before, f"{before}assistant", f"{before}<|start|>")
    headers = (
        header.removeprefix("assistant"),
        f"<|channel|>assistant to={name}<|channel|>analysis code",
        f"<|channel|>{name}<|channel|>analysis code",
        f"<|channel|>{name} to=assistant<|channel|>analysis code",
        f" to={name}<|channel|>analysis to={name} code",
        f"<|channel|>analysis to={name.upper()} code",
        f"<|channel|>analysis to={name}code",
        f"<|channel|>analysis to={name.replace('_', ' ')} code",
        f"<|channel|>analysis to= {name} code",
        f"<|channel|>commentary to={name} <|constrain|>json",
        f"<|channel|>commentary to={name}<|constrain|>json",
        f"<|channel|>analysis <|constrain|>code to={name}",
        f"<|channel|>anaylsis to={name} code",
        f"<|channel|>to={name} code",
        f" to={name}",
        f"<|channel|>functions.{name}<|channel|>analysis code" if "." not in name else f"<|channel|>{name} code",
    )
    middles = ("<|message|>", "<|message|><|message|>", "<|message|><|constrain|>json")
    return [
        f"{start}{bent}{middle}{arguments}{end}"
        for index, start in enumerate(starts)
        for other, bent in enumerate(headers)
        for middle, end in ((middles[(index + other) % 3], ends[(index + 2 * other) % 5]),)
    ]


@pytest.mark.parametrize("index", [0, 2, 12, 16, 39, 56])
def test_no_bent_header_loses_a_recorded_call(index: int) -> None:
    raw = RECORDED[index]["response"]
    name, arguments = expected_call(raw)
    for bent in mutations(raw):
        reply = parse(bent, TRAINED)
        assert one_call(reply) == (name.partition(".")[2], arguments), bent


def test_openai_s_own_replies_are_read() -> None:
    folder = FIXTURES / "harmony_render"
    reasoning = HarmonyParser()
    reasoning.feed_ids(map(int, (folder / "test_simple_reasoning_response.txt").read_text().split()))
    reply = reasoning.close("stop")
    assert reply.thought == 'User asks: "What is 2 + 2?" Simple arithmetic. Provide answer.'
    assert reply.text == "2 + 2 = 4."
    calling = HarmonyParser()
    calling.feed_ids(map(int, (folder / "test_simple_tool_call.txt").read_text().split()))
    assert one_call(calling.close("stop")) == ("lookup_weather", '{"location": "Tokyo"}')
    streamed = parse((folder / "test_streamable_parser.txt").read_text().rstrip())
    assert streamed.thought.startswith('User asks "Who is the current US president?"')
    name, arguments = one_call(streamed)
    assert (name, json.loads(arguments)["topn"]) == ("browser.search", 10)


# -- ends ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "reason", "cut"),
    [
        (f"{A}<|channel|>commentary to=functions.get_weather<|message|>{W}", "stop", False),
        (f"{A}<|channel|>commentary to=functions.get_weather<|message|>{W}<|call|>", "", False),
        (f"{A}<|channel|>commentary to=functions.get_weather<|message|>{W}<|call|>", "length", False),
        (f"{A}<|channel|>commentary to=functions.get_weather<|message|>{W}", "length", True),
        (f"{A}<|channel|>commentary to=functions.get_weather<|message|>{W}", "", True),
        (f"{A}<|channel|>commentary to=functions.get_weather<|message|>{W[:9]}", "length", True),
        (f"{A}<|channel|>commentary to=functions.get_weather", "length", True),
        (f"{A}<|channel|>commentary to=functions.get_weather", "stop", True),
        (f"{A}<|channel|>commentary", "length", True),
        (f"{A}<|channel|>commentary<|message|>{W}", "length", True),
        ("<|channel|>analysis<|message|>Hm.", "length", True),
        ("<|channel|>analysis<|message|>Hm.<|end|>", "length", True),
        ("<|channel|>analysis<|message|>Hm.", "stop", False),
        ("<|channel|>final<|message|>Hm.", "abort", True),
        ("", "length", True),
        ("", "stop", False),
    ],
)
def test_a_cut_reply_says_so_and_its_half_call_never_runs(raw: str, reason: str, cut: bool) -> None:
    reply = parse(raw, FUNCTIONS, finish_reason=reason)
    assert reply.cut is cut
    if cut:
        assert reply.tool_calls == ()
        assert (reply.half_call is not None) is ("to=" in raw)


def test_calls_before_a_cut_are_whole() -> None:
    first = f"<|channel|>commentary to=functions.get_weather<|message|>{W}<|call|>{S}"
    reply = parse(
        f"{first}<|channel|>analysis to=container.exec code<|message|>{E[:9]}", FUNCTIONS, finish_reason="length"
    )
    assert reply.cut
    assert [call.name for call in reply.tool_calls] == ["get_weather"]
    assert reply.half_call == ToolCall("call_1", "exec", E[:9])


def test_a_reply_without_an_end_is_an_error() -> None:
    parser = HarmonyParser()
    parser.feed("x" * 7_999_999)
    with pytest.raises(BrokenReply, match="does not end"):
        parser.feed("xx")


# -- ids -----------------------------------------------------------------------------------------------------------


def ids_of(raw: str) -> list[int]:
    ids: list[int] = encoding().encode(raw, allowed_special="all")
    return ids


@pytest.mark.parametrize("raw", [*CALLS_OF_GET_WEATHER, *CALLS_OF_EXEC, *(raw for raw, _, _ in NO_CALLS)])
def test_ids_say_the_same_as_text(raw: str) -> None:
    parser = HarmonyParser(FUNCTIONS)
    parser.feed_ids(ids_of(raw))
    assert replace(parser.close("stop"), last=None) == replace(parse(raw, FUNCTIONS), last=None)


def test_a_mark_that_is_written_out_is_text() -> None:
    said = "A message ends in <|end|>, and <|start|>assistant<|channel|>final<|message|> begins one."
    parser = HarmonyParser(FUNCTIONS)
    parser.feed_ids([*ids_of("<|channel|>final<|message|>"), *encode_text(said)])
    assert parser.close("stop").text == said
    patch = json.dumps({"patch": f"+{said}"})
    parser = HarmonyParser(FUNCTIONS)
    parser.feed_ids(
        [*ids_of("<|channel|>analysis to=repo_browser.apply_patch code<|message|>"), *encode_text(patch), CALL]
    )
    assert one_call(parser.close("stop")) == ("apply_patch", patch)


def test_half_a_character_waits_for_its_other_half() -> None:
    said = "漢字 \U0001f9d1\u200d\U0001f680 и ещё"
    deltas = []
    parser = HarmonyParser()
    for token in [*ids_of("<|channel|>final<|message|>"), *encode_text(said)]:
        deltas.append(parser.feed_ids([token]))
    assert parser.close("stop").text == said
    assert "".join(delta.text for delta in deltas if delta) == said
    assert any(delta is None for delta in deltas[4:])


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    parser = HarmonyParser()
    parser.feed_ids([*ids_of("<|channel|>final<|message|>"), *encode_text("\U0001f9d1")[:1], 200007])
    assert parser.close("stop").text.endswith("\ufffd")


@given(st.lists(st.integers(-5, 201_200) | st.sampled_from([200002, 200003, 200005, 200006, 200007, MESSAGE, CALL])))
@settings(deadline=None)
@example([99_999_999_999])
def test_any_ids_are_read(ids: list[int]) -> None:
    parser = HarmonyParser(FUNCTIONS)
    parser.feed_ids(ids)
    parser.close("stop")


def test_text_and_ids_may_alternate() -> None:
    """A header that was written for the model comes as ids, and so does the mark that a server leaves out."""
    parser = HarmonyParser(FUNCTIONS)
    parser.feed_ids(ids_of(" to=functions.get_weather<|channel|>commentary json<|message|>"))
    parser.feed(W)
    parser.feed(" <")
    parser.feed_ids([CALL])
    assert one_call(parser.close("length")) == ("get_weather", f"{W} <")


# -- streams -------------------------------------------------------------------------------------------------------

BITS = [
    *(
        "<|start|>",
        "<|end|>",
        "<|message|>",
        "<|channel|>",
        "<|constrain|>",
        "<|call|>",
        "<|return|>",
        "<|start|>assistant",
    ),
    *(
        "assistant",
        "analysis",
        "commentary",
        "final",
        "json",
        "code",
        " to=",
        "container.exec",
        "functions.get_weather",
    ),
    *(W, E, "{", "}", "\n", "\n\n", " ", "Hello. ", "```", "```json\n", "\n{", '{"name": "get_weather", "arguments": '),
    *("container", "functions.json", "functions.", "repo_browser", " to=code", "<|channel|>analysis code<|message|>"),
    *("<", "<|", "<|sta", "x" * 300, "to", "漢", "\ud800", "user", "<|channel|>final<|message|>", "a\nto", "[1]"),
]
RAW = st.lists(st.sampled_from(BITS) | st.text(max_size=4), max_size=14).map("".join)


def streamed(pieces: list[str], functions: tuple[Function, ...] = FUNCTIONS) -> tuple[ParsedReply, list[Delta | None]]:
    parser = HarmonyParser(functions)
    deltas = [parser.feed(piece) for piece in pieces]
    reply = parser.close("stop")
    return replace(reply, last=None), [*deltas, reply.last]


@given(RAW, st.data())
@settings(deadline=None, max_examples=500)
@example("<|start|>assistant to=" + "x" * 300 + "json", None)
def test_however_it_is_split_the_reply_is_the_same(raw: str, data: st.DataObject | None) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8))) if data else [9, 9]
    pieces = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    whole, _ = streamed([raw])
    split, deltas = streamed(pieces)
    letters, single = streamed(list(raw))
    assert whole == split == letters
    for shown in (deltas, single):
        assert "".join(delta.text for delta in shown if delta) == whole.text
        assert "".join(delta.thought for delta in shown if delta) == whole.thought


@given(RAW)
@settings(deadline=None)
def test_a_cut_never_gives_a_call_that_was_not_whole(raw: str) -> None:
    for end in range(len(raw)):
        reply = parse(raw[:end], FUNCTIONS, finish_reason="length")
        assert all(call.name for call in reply.tool_calls)
        assert reply.cut or raw[:end].rstrip().endswith(("<|call|>", "<|return|>"))


def test_deltas_come_as_the_model_writes() -> None:
    pieces = [
        "<|chan",
        "nel|>analysis<|mess",
        "age|>Hm",
        ".<|e",
        "nd|><|start|>assistant<|channel|>final",
        "<|message|>",
        "Hi",
    ]
    _, deltas = streamed([*pieces, " you, ", "x" * 200, "<|return|>"])
    assert deltas[:4] == [None, None, Delta(thought="Hm"), Delta(thought=".")]
    assert deltas[6:9] == [None, Delta(text="Hi you, "), Delta(text="x" * 200)]
    _, deltas = streamed(["<|channel|>commentary to=functions.get_weather<|message|>", W[:5], W[5:]])
    assert deltas == [None, Delta(tool_text=W[:5]), Delta(tool_text=W[5:]), None]
    _, deltas = streamed(["<|channel|>final<|message|>", "Hi", " you"], ())
    assert deltas == [None, Delta(text="Hi"), Delta(text=" you"), None]


def test_a_line_is_shown_as_soon_as_it_can_open_no_call() -> None:
    final = "<|channel|>final<|message|>"
    for pieces, shown in (
        (["The", " answer", " is", " four", "."], ["", "The answer", " is", " four", "."]),
        (["I", "'m done"], ["", "I'm done"]),
        (["Done", " (", "all"], ["", "", "Done (all"]),
        (["It is.", "\n", "to", "day", "\n", "t", "o=", "x"], ["It is.", "\n", "", "today", "\n", "", "", ""]),
        (["A b\n", "com", "ment", "s", " {", "a"], ["A b\n", "", "", "comments", " {", "a"]),
        (["A b\n<", "tool", "s>"], ["A b\n", "", "<tools>"]),
        (["A b\n``", "x"], ["A b\n", "``x"]),
        (["A b\n" + " " * 8, " ", "{"], ["A b\n", " " * 9, "{"]),
    ):
        _, deltas = streamed([final, *pieces])
        assert [delta.text if delta else "" for delta in deltas[1:-1]] == shown, pieces


# -- there and back ------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(WORDS, WORDS, st.sampled_from([*TRAINED, WEATHER]), st.dictionaries(WORDS, WORDS, max_size=3), st.booleans())
@settings(deadline=None)
def test_what_is_rendered_is_read_back(
    text: str, thought: str, function: Function, arguments: dict[str, str], calls: bool
) -> None:
    written = json.dumps(arguments, ensure_ascii=False)
    call = ToolCall("call_0", function.name, written)
    message = Message("assistant", text, thought=thought, tool_calls=(call,) if calls else ())
    head = Head(FUNCTIONS)
    begun = render([], head).count
    parser = HarmonyParser(FUNCTIONS if calls else ())
    parser.feed_ids(render([message], head).ids[begun:-2])
    reply = parser.close("stop")
    assert reply.thought == thought
    if calls:
        assert reply.tool_calls == (call,)
    assert reply.text == text


# -- hostile length ------------------------------------------------------------------------------------------------

LONG = 5_000_000


@pytest.mark.parametrize(
    "raw",
    [
        *(
            "<" * LONG,
            "<|" * (LONG // 2),
            "\n" * LONG,
            " " * LONG,
            "{" * LONG,
            "\n{" * (LONG // 2),
            "```\n" * (LONG // 4),
        ),
        "<|channel|>" * (LONG // 11),
        "<|channel|>junk " * (LONG // 16),
        "<|channel|>final<|message|>" + "to=" * (LONG // 3),
        "<|channel|>final<|message|>```" + " " * LONG,
        "<|channel|>final<|message|>" + "commentary to=a\n" * (LONG // 16),
        "<|channel|>final<|message|>a" + "\n" * LONG + "{",
        "<|channel|>final<|message|><tool_call>" + "\n " * (LONG // 2),
        "<|channel|>analysis<|message|>" + "commentary to=exec json{" * (LONG // 24),
        "<|channel|>analysis<|message|>" + "assistant" * (LONG // 9),
        "<|channel|>commentary to=" + "a." * (LONG // 2),
        "<|channel|>commentary to=functions.get_weather<|message|>" + '{"a":' * (LONG // 5),
        "<|channel|>commentary<|message|>" + "[" * LONG,
        "<|start|>a to=b<|message|>{}" * (LONG // 200),
        '\n{"name": "exec", "arguments": ' * (LONG // 30),
    ],
    ids=lambda raw: f"{raw[-12:]!r}",
)
def test_hostile_length_costs_no_more_than_its_length(raw: str) -> None:
    """A parser of quadratic time would not come to an end here."""
    parser = HarmonyParser(FUNCTIONS)
    for start in range(0, len(raw), 50_000):
        parser.feed(raw[start : start + 50_000])
    parser.close("stop")


@pytest.mark.parametrize("before", ["<|channel|>commentary<|message|>", "<|channel|>final<|message|>", ""])
@pytest.mark.parametrize("unit", [" ", "\n", "a\n", "json ", "to", "assistant "])
def test_hostile_length_in_small_pieces_costs_no_more_than_its_length(before: str, unit: str) -> None:
    parser = HarmonyParser(FUNCTIONS)
    parser.feed(before)
    for _ in range(200_000 // len(unit)):
        parser.feed(unit)
    parser.close("stop")


# -- salvage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f'{{"name": "get_weather", "arguments": {W}}}',
        f'{{"name": "functions.get_weather", "arguments": {W}}}',
        f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{W}<|call|>",
        f"<|start|>assistant<|channel|>commentary to=functions.get_weather json<|message|>{W}",
        f"Let me see.<|start|>assistant<|channel|>commentary to=functions.get_weather json<|message|>{W}",
        f"analysisHm.assistantcommentary to=functions.get_weather json{W}",
        f"commentary to=functions.get_weather json{W}",
        f"functions.get_weather {W}",
        f'```json\n{{"name": "get_weather", "arguments": {W}}}\n```',
    ],
)
def test_a_call_that_leaked_into_the_text_is_salvaged(text: str) -> None:
    assert salvage(text, "", [WEATHER], prefix="a") == (ToolCall("a_0", "get_weather", W),)
    assert salvage("", text, [WEATHER], prefix="a") == (ToolCall("a_0", "get_weather", W),)
    assert salvage("Hello.", text, [WEATHER]) == ()
    assert salvage(text, "", []) == ()


@pytest.mark.parametrize(
    "text", ["", "Hello.", W, f"An example: {W}", f"get_weather takes {W}", "to=get_weather", "{", "[]"]
)
def test_nothing_is_salvaged_from_prose(text: str) -> None:
    assert salvage(text, text, [WEATHER]) == ()


def test_several_calls_are_salvaged() -> None:
    text = json.dumps([{"name": "get_weather", "arguments": {"location": place}} for place in ("Kobe", "Nara")])
    calls = salvage(text, "", [WEATHER])
    assert [json.loads(call.arguments)["location"] for call in calls] == ["Kobe", "Nara"]
    assert len({call.id for call in calls}) == 2


def test_an_unknown_function_is_salvaged_where_nothing_else_is_there() -> None:
    assert salvage('{"name": "bash", "arguments": {"cmd": "ls"}}', "", [WEATHER]) == (
        ToolCall("call_0", "bash", '{"cmd": "ls"}'),
    )


def test_marks_have_the_ids_of_the_vocabulary() -> None:
    assert decode([MESSAGE, CALL]) == "<|message|><|call|>"
