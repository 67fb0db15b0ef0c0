"""Special tokens that are written out in a text, kept from being read as such by servers that fill in a template.

A template puts a message's text between marks such as `<|start|>`, and the whole is then cut into tokens: a mark that
stands in the text of a file begins a message of its own. So it is with the templates of transformers and of vLLM
(huggingface/transformers#29279, vllm-project/vllm#31735), llama.cpp (ggml-org/llama.cpp#17607: for gpt-oss whatever
the caller asks) and Ollama (ollama/ollama#15931). An invisible letter between `<` and `|` makes it plain text; what
the model writes is read without it, so that a file which holds marks can be edited like any other.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from miyabi_cli.messages import ChatRequest, Message, Reply, ToolCall

JOINER = "\u2060"  # WORD JOINER (Unicode 23.2): no tokenizer's normal form drops it

# Also those without a bar at the end (`<|turn>`), and DeepSeek's, with a bar of full width.
_MARK = re.compile(r"<(?=[|\uff5c])")
_GUARDED = re.compile(r"<(?:\u2060|\\u2060)(?=[|\uff5c]|\\uff5c)")  # in a call's JSON it may be an escape


def guarded(request: ChatRequest) -> ChatRequest:
    """Return a request in whose messages no mark is written out; the request itself where there is none."""
    messages = [_guarded_message(message) for message in request.messages]
    if all(new is old for new, old in zip(messages, request.messages, strict=True)):
        return request
    return replace(request, messages=messages)


def plain(text: str) -> str:
    """Return a text in which no mark is written out."""
    return _MARK.sub(f"<{JOINER}", text) if "<|" in text or "<\uff5c" in text else text


def unguarded(reply: Reply) -> Reply:
    """Return a reply with the marks as they were before `guarded`."""
    calls = tuple(replace(call, arguments=_restored(call.arguments)) for call in reply.tool_calls)
    text, thought = _restored(reply.text), _restored(reply.thought)
    if (text, thought, calls) == (reply.text, reply.thought, reply.tool_calls):
        return reply
    return replace(reply, text=text, thought=thought, tool_calls=calls)


def infill_prompt(form: str, prefix: str, suffix: str) -> str:
    """Return a model's prompt for what belongs between two texts; `form` names them `{prefix}` and `{suffix}`."""
    parts = {"{prefix}": plain(prefix), "{suffix}": plain(suffix)}
    return re.sub(r"\{prefix\}|\{suffix\}", lambda found: parts[found.group()], form)


def _guarded_message(message: Message) -> Message:
    texts = (message.content, message.thought, *(call.arguments for call in message.tool_calls))
    return _made_plain(message) if any("<|" in text or "<\uff5c" in text for text in texts) else message


@lru_cache(maxsize=256)
def _made_plain(message: Message) -> Message:
    calls = tuple(ToolCall(call.id, call.name, plain(call.arguments)) for call in message.tool_calls)
    return replace(message, content=plain(message.content), thought=plain(message.thought), tool_calls=calls)


def _restored(text: str) -> str:
    return _GUARDED.sub("<", text) if JOINER in text or "u2060" in text else text
