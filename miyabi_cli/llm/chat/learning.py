"""What a server's refusal says of its dialect: the option that it does not understand, or that it takes no functions.

The texts are those of real servers; where an error names the option in a field of its own (OpenAI's `param`, the `loc`
of FastAPI's servers), only that is believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from miyabi_cli.errors import ProviderError
from miyabi_cli.llm.chat.dialects import HOLDING, CapField, Dialect, SchemaForm, Shape
from miyabi_cli.llm.chat.failed_generation import is_failed_generation

LEARNABLE_STATUS = frozenset({400, 404, 405, 422, 501})
FAILED = 500  # some servers refuse with it; but a fault that passes may speak of a stream or a seed too
MAX_TEXT = 4000
CAPS: tuple[CapField, CapField] = ("max_tokens", "max_completion_tokens")
THOUGHTS = ("reasoning", "reasoning_content")

# A text that refuses an option, and does not just speak of it.
_REFUSING = re.compile(
    r"\bnot\b|n't\b|\bun(?:supported|recogni[sz]ed|known|expected|available)|\bextra\b|\binvalid\b|\bonly\b|\bmust\b"
    r"|\bforbidden\b|\bdeprecated\b|\bcannot\b|\bat most\b|\btoo large\b|\bless than\b|\bexpected\b|\bdisallow|\bNo\b",
    re.IGNORECASE,
)
_OTHER_NAMES = {
    "stream_options": r"stream_options|include_usage",
    "reasoning_effort": r"reasoning[_ ]effort|support (?:thinking|reasoning)\b|\bthink value",
    "response_format": r"response_format|json_schema|json_object|\bjson (?:mode|schema)|structured[_ ]outputs?",
    "tool_choice": r"tool[_ ]choice",
}
# The order in which a text is searched: a name that is also a common word comes last.
_LAST = (*THOUGHTS, "strict", "stop", "seed", "stream")
_CALLED_NAME = re.compile(
    r"(?:tool_calls|messages)\S{0,40}function\.name\b.{0,80}pattern|pattern.{0,80}function\.name\b"
)
_LARGEST = re.compile(
    r"(?:at most|less than or equal to|<=|\bup to|maximum(?: value)?(?: allowed)?(?: of| is|:)?|\[\d+,)"
    r"[\s`'\"]{0,3}(\d[\d,]{0,11})",
    re.IGNORECASE,
)
_STRICT = re.compile(r"\bstrict\b|additionalProperties|invalid[_ ](?:json_)?schema|'required'", re.IGNORECASE)

_FLAGS = re.compile(r"enable-auto-tool-choice|tool-call-parser|--jinja", re.IGNORECASE)
_FUNCTIONS = r"(?:tools?|functions?)(?:[ _-](?:use|calls?|calling))?\b[`'\"]{0,2}"
_NO_TOOLS = re.compile(
    rf"support[^.]{{0,20}} [`'\"]{{0,2}}{_FUNCTIONS}(?! ?choice)|No endpoints found that support tool"
    rf"|\b{_FUNCTIONS} ?(?:param(?:eter)? ?)?(?:is|are)? ?(?:not |un)(?:supported|available|permitted|allowed)"
    r"|(?:unrecogni[sz]ed|unknown|unsupported|unexpected|extra)[^.]{0,60}\btools\b",
    re.IGNORECASE,
)


def learn(dialect: Dialect, fields: frozenset[str], error: ProviderError) -> Dialect | None:
    """Return the dialect without what was refused, None where the refusal names nothing of it.

    `fields` are the names of all that was sent and that a server might not understand: options, `stream`, `strict`,
    the thought's field and `name` of the calls.
    """
    if error.status not in (*LEARNABLE_STATUS, FAILED) or is_failed_generation(error):
        return None
    text = _text(error)
    if not _REFUSING.search(text):
        return None
    for name in _named(fields, error, text):
        lesson = _without(dialect, name, fields, text)
        if lesson != dialect:
            return lesson
    return None


def left_undone(before: Dialect, after: Dialect) -> list[str]:
    """Return a line for each thing that a server was asked for in the one dialect and no more in the other.

    What is asked for all the same, by another name or in another form, is not worth a line.
    """
    gone = after.left_out - before.left_out
    lines = [f"refuses {name}: it is left out" for name in sorted(gone - {*CAPS, *THOUGHTS, "thinking"})]
    if gone >= {*CAPS}:
        lines.append("refuses a cap on the tokens of a reply: it is left out")
    if after.largest_cap is not None and after.largest_cap != before.largest_cap:
        lines.append(f"takes no cap above {after.largest_cap:,} tokens: no reply is longer")
    if before.thought_field and not after.thought_field:
        lines.append("refuses the model's own thought: it is not sent back")
    if before.streamed - after.streamed:
        lines.append("refuses to stream some replies: they come as a whole")
    if _holds(before) and not _holds(after):
        lines.append("refuses to hold a reply to a schema: the model is told the schema instead")
    if before.forcing and not after.forcing:
        lines.append("refuses to force a function: the model is left to choose")
    return lines


def _holds(dialect: Dialect) -> bool:
    return dialect.schema_form in HOLDING


def refuses_tools(error: ProviderError, *, by_flag: bool) -> str | None:
    """Return a hint where the server takes no functions; `by_flag`: only where it names the flag that it lacks."""
    if error.status not in (*LEARNABLE_STATUS, FAILED) or is_failed_generation(error):
        return None
    text = _text(error)
    if flag := _FLAGS.search(text):
        if "jinja" in flag.group().lower():
            return "start llama-server with --jinja"
        return "start vLLM with --enable-auto-tool-choice --tool-call-parser openai (the parser of the model's family)"
    if by_flag or not _REFUSING.search(text) or "parallel" in text:
        return None
    refused = "tools" in set(_structured(error)) or (error.status != FAILED and _NO_TOOLS.search(text))
    return "take a model that calls tools, or ask for actions as JSON: llm.openai.tools: schema" if refused else None


def _text(error: ProviderError) -> str:
    try:
        detail = json.dumps(error.detail, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        detail = ""
    return f"{error.message} {detail}"[:MAX_TEXT]


def _named(fields: frozenset[str], error: ProviderError, text: str) -> Iterator[str]:
    """Yield those of the fields that a refusal names, the most certain first."""
    structured = list(_structured(error))
    yield from (name for name in structured if name in fields and name != "tools")
    if error.status == FAILED:
        return
    if "name" in fields and _CALLED_NAME.search(text):
        yield "name"
    if any(isinstance(loc, list) for loc in _values(error.detail, "loc")):
        return  # the rest of such an error repeats what was sent
    for name in sorted(fields - {"name", "tools"}, key=lambda name: (name in _LAST, -len(name), name)):
        pattern = _OTHER_NAMES.get(name, rf"\b{re.escape(name)}\b")
        if name == "stream":
            pattern = r"\bstream(?:ing|ed)?\b"
        if re.search(pattern, text, re.IGNORECASE):
            yield name


def _structured(error: ProviderError) -> Iterator[str]:
    """Yield the words of `param` and of each `loc`, the last of each first."""
    for value in _values(error.detail, "param"):
        if isinstance(value, str):
            yield from reversed(re.findall(r"\w+", value[:200]))
    for value in _values(error.detail, "loc"):
        if isinstance(value, list):
            yield from reversed([word for word in value[:20] if isinstance(word, str)])


def _values(value: Any, key: str, depth: int = 0) -> Iterator[Any]:
    if depth > 4:
        return
    if isinstance(value, Mapping):
        if key in value:
            yield value[key]
        for name in ("detail", "message", "error", "errors"):
            yield from _values(value.get(name), key, depth + 1)
    elif isinstance(value, list):
        for item in value[:20]:
            yield from _values(item, key, depth + 1)


def _without(dialect: Dialect, name: str, fields: frozenset[str], text: str) -> Dialect:
    """Return the dialect that says `name` no more, or says it in the next way."""
    if name in CAPS:
        return _with_other_cap(dialect, name, text)
    if name == "response_format":
        if re.search(r"\bstream(?:ing)?\b", text) and "schema" in dialect.streamed and "stream" in fields:
            return replace(dialect, streamed=dialect.streamed - {"schema"})
        return replace(dialect, schema_form=_next_form(dialect.schema_form, text))
    if name == "tool_choice":
        return replace(dialect, forcing="required" if dialect.forcing == "named" else "")
    if name == "strict" and dialect.strict_functions:
        return replace(dialect, strict_functions=False)
    if name == "strict":
        return replace(dialect, schema_form=_next_form(dialect.schema_form, text))
    if name == "name":
        return replace(dialect, plain_names=True)
    if name == "stream":
        return replace(dialect, streamed=dialect.streamed - {_shape(fields)})
    if name == dialect.thought_field:
        return replace(dialect, thought_field="", left_out=dialect.left_out | {name})
    return replace(dialect, left_out=dialect.left_out | {name})


def _shape(fields: frozenset[str]) -> Shape:
    if "response_format" in fields:
        return "schema"
    return "tools" if "tools" in fields else "text"


def _with_other_cap(dialect: Dialect, name: str, text: str) -> Dialect:
    if largest := _LARGEST.search(text):
        number = int(largest.group(1).replace(",", ""))
        if 0 < number < (dialect.largest_cap or 10**9):
            return replace(dialect, largest_cap=number)
    left_out = dialect.left_out | {name}
    other = CAPS[0] if name == CAPS[1] else CAPS[1]
    return replace(dialect, left_out=left_out, cap_field=dialect.cap_field if other in left_out else other)


def _next_form(form: SchemaForm, text: str) -> SchemaForm:
    if form == "json_schema" and _STRICT.search(text):
        return "loose_schema"
    return "json_object" if form in ("json_schema", "loose_schema") else ""
