"""Harmony: what was rendered is read back, and any tokens and texts are a reply, however they come."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as some

from miyabi_cli.llm.harmony.parsing import HarmonyParser, ParsedReply, read_leaked
from miyabi_cli.llm.harmony.rendering import Head, render
from miyabi_cli.llm.harmony.tokens import MARKS, TextLexer, encode_text
from miyabi_cli.messages import Function, Message, ToolCall
from tests.properties.strategies import BYTE_BY_BYTE, CUTS, UNICODE, cut, mixed

EXEC = Function("exec", "Runs.", {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]})
WRITTEN = tuple(f"<|{name}|>" for name in (*MARKS, "endoftext"))
STRUCTURE = (*WRITTEN, "<|", "|>", "analysis", "commentary", "final", " to=functions.exec", "\n", "é")
CONTENT = mixed(*STRUCTURE)
MARKED = mixed(*STRUCTURE, '{"cmd": "ls"}')
IDS = some.lists(
    some.sampled_from(sorted(MARKS.values()))
    | some.integers(0, 201_200)
    | some.sampled_from(encode_text("assistant analysis commentary final to=functions.exec json {}")),
    max_size=40,
)


@settings(deadline=None)
@given(CONTENT | UNICODE, CONTENT | UNICODE, some.dictionaries(UNICODE, MARKED, max_size=2), some.booleans())
def test_content_that_looks_like_structure_comes_back_as_it_was(
    text: str, thought: str, arguments: dict[str, str], calls: bool
) -> None:
    call = ToolCall("call_0", EXEC.name, json.dumps(arguments, ensure_ascii=False))
    message = Message("assistant", text, thought=thought, tool_calls=(call,) if calls else ())
    head = Head((EXEC,))
    begun = render([], head).count
    parser = HarmonyParser((EXEC,))
    parser.feed_ids(render([message], head).ids[begun:-2])
    reply = parser.close("stop")
    assert (reply.thought, reply.text) == (thought, text)
    if calls:
        assert reply.tool_calls == (call,)


def read_ids(pieces: list[list[int]]) -> ParsedReply:
    parser = HarmonyParser((EXEC,))
    shown = [parser.feed_ids(piece) for piece in pieces]
    reply = parser.close("stop")
    assert "".join(delta.text for delta in (*shown, reply.last) if delta) == reply.text
    assert "".join(delta.thought for delta in (*shown, reply.last) if delta) == reply.thought
    return replace(reply, last=None)


@settings(deadline=None)
@given(IDS, CUTS)
def test_however_ids_are_cut_the_reply_is_the_same(ids: list[int], cuts: list[int]) -> None:
    assert read_ids([ids]) == read_ids(cut(ids, cuts)) == read_ids(cut(ids, BYTE_BY_BYTE))


@given(MARKED, CUTS)
def test_however_a_text_is_cut_its_marks_are_the_same(text: str, cuts: list[int]) -> None:
    def lexemes(pieces: list[str]) -> list[int | str]:
        lexer = TextLexer()
        found = [lexeme for piece in pieces for lexeme in lexer.feed(piece)] + lexer.close()
        joined: list[int | str] = []
        for lexeme in found:
            if isinstance(lexeme, str) and joined and isinstance(joined[-1], str):
                joined[-1] += lexeme
            else:
                joined.append(lexeme)
        return joined

    assert lexemes([text]) == lexemes(cut(text, cuts)) == lexemes(list(text))


@settings(deadline=None)
@given(MARKED, some.booleans())
def test_what_a_server_left_in_its_text_is_read_or_let_be(text: str, with_functions: bool) -> None:
    reply = read_leaked(text, (EXEC,) if with_functions else ())
    assert reply is None or all(call.name for call in reply.tool_calls)
