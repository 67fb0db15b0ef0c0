"""Conversations as gpt-oss was trained to read them: Harmony's tokens, ready for a completions server.

The format is openai/harmony's docs/format.md. Tools with a namespace stand in the system message and are called in
the channel of the thought, as those of the training were; other functions stand in the developer message.
The head is the same for a whole run and the history only grows, so that a server's prefix cache serves all of it, and
each message is turned into tokens once however often it is sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from miyabi_cli.llm.harmony.schemas import typescript_parameters
from miyabi_cli.llm.harmony.tokens import CALL, CHANNEL, CONSTRAIN, END, MESSAGE, START, decode, encode_text, encoding
from miyabi_cli.llm.pieces import PieceCache
from miyabi_cli.messages import Effort, Function, Message

if TYPE_CHECKING:
    from openai_harmony import ToolNamespaceConfig

DEFAULT_EFFORT: Effort = "medium"
_NAME = re.compile(r"[^\w.-]+")
_NAME_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens: how many, and as the inside of a JSON array."""

    count: int
    json: bytes

    @classmethod
    def of(cls, ids: Sequence[int]) -> Piece:
        return cls(len(ids), ",".join(map(str, ids)).encode())


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: `count` tokens, `json` is the JSON array of their ids."""

    count: int
    json: bytes

    @property
    def ids(self) -> list[int]:
        """Return the token ids."""
        ids: list[int] = json.loads(self.json)
        return ids

    def continued(self, ids: Sequence[int]) -> Prompt:
        """Return the prompt with tokens that follow."""
        return _joined([Piece(self.count, self.json[1:-1]), Piece.of(ids)])


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the conversation: `date` (YYYY-MM-DD) is fixed for a run, `schema` is that of the answer."""

    functions: Sequence[Function] = ()
    effort: Effort | None = None
    date: str = ""
    schema: Mapping[str, Any] | None = None


def render(messages: Sequence[Message], head: Head) -> Prompt:
    """Return the prompt for the assistant's next turn.

    Messages of role system that come first are the developer message. Thought is left out up to the last final answer
    that something follows: gpt-oss reads its thought between the calls of one turn alone.
    """
    pieces = [*_head_pieces(messages, head), *_history(messages, head.functions)]
    return _joined([*pieces, _next_turn()])


def count_tokens(messages: Sequence[Message], functions: Sequence[Function] = ()) -> int:
    """Return the tokens of a prompt; other servers of gpt-oss render almost the same."""
    return render(messages, Head(functions, date="2025-01-01")).count


def recipients_of(functions: Sequence[Function]) -> dict[str, str]:
    """Return the name over Harmony of each function by its name here."""
    return {function.name: f"{function.namespace or 'functions'}.{function.name}" for function in functions}


_pieces: PieceCache[tuple[Message, bool, tuple[str, ...]], Piece] = PieceCache(64 << 20)  # 13 million tokens


def _history(messages: Sequence[Message], functions: Sequence[Function]) -> list[Piece]:
    start = _instructions_end(messages)
    names = recipients_of(functions)
    answered = max((index for index, message in enumerate(messages[:-1]) if _is_final(message)), default=-1)
    called: dict[str, str] = {}
    pieces = []
    for index, message in enumerate(messages[start:], start):
        if message.tool_calls:
            recipients = tuple(_recipient(call.name, names) for call in message.tool_calls)
            called |= {call.id: name for call, name in zip(message.tool_calls, recipients, strict=True)}
        elif message.role == "tool":
            name = message.tool_name
            recipients = (_recipient(name, names) if name else called.get(message.tool_call_id, "functions.tool"),)
        else:
            recipients = ()
        key = (message, index > answered, recipients)
        piece = _pieces.get(key)
        if piece is None:
            piece = Piece.of(_message(*key))
            _pieces.put(key, piece, len(piece.json))
        pieces.append(piece)
    return pieces


def _is_final(message: Message) -> bool:
    """Say whether a message ends a turn. A reply that was cut off goes back as thought alone, and does not."""
    return message.role == "assistant" and not message.tool_calls and bool(message.content.strip())


def _recipient(name: str, names: Mapping[str, str]) -> str:
    """Return a tool's clean name over Harmony, also where a model wrote it badly."""
    name = _NAME.sub("_", name.split("<|", 1)[0].strip())[:_NAME_LIMIT] or "tool"
    return name if "." in name else names.get(name, f"functions.{name}")


def _message(message: Message, with_thought: bool, recipients: tuple[str, ...]) -> list[int]:
    if message.role == "system":
        return _plain("developer", f"# Instructions\n\n{message.content}")
    if message.role == "user":
        return _plain("user", message.content)
    if message.role == "tool":
        return _plain(f"{recipients[0]} to=assistant", message.content, _channel_of(recipients[0]))
    ids: list[int] = []
    if message.thought and with_thought:
        ids += _plain("assistant", message.thought, "analysis")
    if message.content:
        ids += _plain("assistant", message.content, "commentary" if message.tool_calls else "final")
    for call, recipient in zip(message.tool_calls, recipients, strict=True):
        ids += _call(recipient, call.arguments.strip())
    return ids


def _plain(role: str, content: str, channel: str = "") -> list[int]:
    header = [START, *encode_text(role), *([CHANNEL, *encode_text(channel)] if channel else ())]
    return [*header, MESSAGE, *encode_text(content), END]


def _call(recipient: str, arguments: str) -> list[int]:
    channel = _channel_of(recipient)
    header = [START, *encode_text(f"assistant to={recipient}"), CHANNEL, *encode_text(channel)]
    kind = [*encode_text(" code")] if channel == "analysis" else [*encode_text(" "), CONSTRAIN, *encode_text("json")]
    return [*header, *kind, MESSAGE, *encode_text(arguments), CALL]


def _channel_of(recipient: str) -> str:
    """Return the channel of a call: the tools of the training are part of the thought, functions are not."""
    return "commentary" if recipient.startswith("functions.") else "analysis"


def _next_turn_ids() -> list[int]:
    return [START, *encode_text("assistant")]


@lru_cache(maxsize=1)
def _next_turn() -> Piece:
    return Piece.of(_next_turn_ids())


def _joined(pieces: Sequence[Piece]) -> Prompt:
    inside = b",".join(piece.json for piece in pieces if piece.count)
    return Prompt(sum(piece.count for piece in pieces), b"[" + inside + b"]")


def _instructions_end(messages: Sequence[Message]) -> int:
    return next((index for index, message in enumerate(messages) if message.role != "system"), len(messages))


def _head_pieces(messages: Sequence[Message], head: Head) -> list[Piece]:
    instructions = "\n\n".join(message.content for message in messages[: _instructions_end(messages)])
    functions = [(one.namespace, one.name, one.description, dict(one.parameters)) for one in head.functions]
    schema = "" if head.schema is None else json.dumps(dict(head.schema), ensure_ascii=False, separators=(",", ":"))
    offered = _whole_characters(json.dumps(functions, ensure_ascii=False))
    return [_system(offered, head.effort or DEFAULT_EFFORT, head.date), _developer(instructions, offered, schema)]


def _whole_characters(text: str) -> str:
    """Return text without lone surrogates, which the library refuses."""
    return text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=64)
def _system(offered: str, effort: str, date: str) -> Piece:
    from openai_harmony import Message as Turn
    from openai_harmony import ReasoningEffort, RenderOptions, Role, SystemContent

    content = SystemContent.new().with_reasoning_effort(ReasoningEffort(effort.capitalize()))
    if date:
        content = content.with_conversation_start_date(date)
    families = _families(offered)
    has_functions = families.pop("functions", None) is not None
    for family in families.values():
        content = content.with_tools(family)
    options = RenderOptions(conversation_has_function_tools=has_functions)
    return Piece.of(encoding().render(Turn.from_role_and_content(Role.SYSTEM, content), options))


@lru_cache(maxsize=256)
def _developer(instructions: str, offered: str, schema: str) -> Piece:
    sections = [f"# Instructions\n\n{instructions}"] if instructions else []
    if functions := _families(offered).get("functions"):
        sections.append(_tools_section(functions))
    if schema:
        sections.append(f"# Response Formats\n\n## answer\n\n{schema}")
    return Piece.of(_plain("developer", "\n\n".join(sections))) if sections else Piece(0, b"")


def _tools_section(functions: ToolNamespaceConfig) -> str:
    """Return the section of tools as the library writes it, without the message around it."""
    from openai_harmony import DeveloperContent, Role
    from openai_harmony import Message as Turn

    content = DeveloperContent.new().with_tools(functions)
    ids = encoding().render(Turn.from_role_and_content(Role.DEVELOPER, content))
    return decode(ids[ids.index(MESSAGE) + 1 : -1])


def _families(offered: str) -> dict[str, ToolNamespaceConfig]:
    from openai_harmony import ToolDescription, ToolNamespaceConfig

    families: dict[str, ToolNamespaceConfig] = {}
    for namespace, name, description, parameters in json.loads(offered):
        space = namespace or "functions"
        family = families.setdefault(space, ToolNamespaceConfig(name=space, description=None, tools=[]))
        family.tools.append(ToolDescription.new(name, description, typescript_parameters(parameters)))
    return families
