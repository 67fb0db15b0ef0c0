"""Languages with braces: their functions as definitions, and putting new ones in the place of old ones."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from miyabi_cli.agent.languages.functions import Function, Syntax, beginning, find_functions
from miyabi_cli.agent.languages.language import CodeRefused, Definition, Language
from miyabi_cli.agent.languages.lexing import Code, read_code
from miyabi_cli.workspace.indentation import indent_of

PREAMBLE_LIMIT = 2_000
_CALL = re.compile(r"([A-Za-z_$][\w$]*)\s*(?:::\s*<[^<>\n]{0,100}>)?\(")
_WORD = re.compile(r"[A-Za-z_$][\w$]*")


def brace_language(
    name: str,
    title: str,
    suffixes: tuple[str, ...],
    syntax: Syntax,
    imported: Callable[[str, str, Sequence[str]], Iterable[str]],
) -> Language:
    """Return the record of a language with braces and `//` for comments."""
    return Language(
        name=name,
        title=title,
        suffixes=suffixes,
        comment="//",
        definitions=lambda source: _definitions(source, syntax),
        replaced=lambda source, code, shown: _replaced(source, code, shown, syntax, title),
        meaning=lambda source: _meaning(source, syntax, title),
        preamble=lambda source: _preamble(source, syntax),
        imported=imported,
    )


def _definitions(source: str, syntax: Syntax) -> tuple[Definition, ...]:
    code = read_code(source, syntax.skipped)
    breaks = [match.start() for match in re.finditer("\n", source)]
    return tuple(_definition(one, code, syntax, breaks) for one in find_functions(code, syntax))


def _definition(one: Function, code: Code, syntax: Syntax, breaks: Sequence[int]) -> Definition:
    source = code.source
    first = beginning(one.line, code, syntax)
    last = bisect_right(breaks, one.end - 1)
    end = breaks[last] if last < len(breaks) else len(source)
    text = source[first:end]
    above = source[first : one.line]
    is_test = one.in_tests or bool(syntax.test and syntax.test.search(above))
    indent = indent_of(source[one.line : one.end])
    block = source[one.body : one.body + 1] == "{"
    opening = source[first : one.body + (1 if block else 0)]
    left_out = f"\n{indent}    …\n{indent}}}" if block else "…"
    return Definition(
        name=one.name,
        first=bisect_right(breaks, first - 1) + 1,
        last=last + 1,
        indent=len(indent),
        source=text,
        body=source.count("\n", first, one.body) + (1 if block else 0),
        outline=opening + left_out,
        calls=frozenset(_CALL.findall(code.text, one.body, one.end)),
        owner=one.owner,
        is_test=is_test,
    )


def _replaced(source: str, code: str, shown: Sequence[str], syntax: Syntax, title: str) -> str:
    """See `Language.replaced`. What is new comes before the first function that is replaced, or at the end."""
    reply, new = _functions_of_reply(code, syntax)
    file = read_code(source, syntax.skipped)
    old = {one.name: one for one in find_functions(file, syntax) if not one.in_tests}
    places: dict[str, Function] = {}
    added: list[Function] = []
    for one in new:
        target = one.name if one.name in old else _namesake(one.name, shown, old)
        if target is not None:
            places[target] = one
        elif "." not in one.name and not one.in_tests and not one.name.lower().startswith(("test", "main")):
            added.append(one)
    if not places and not added:
        raise CodeRefused(f"the code holds none of the {title} functions that are to be changed")
    spans = sorted(((old[name], one) for name, one in places.items()), key=lambda pair: -pair[0].core)
    changed = source
    for before, after in spans:
        text = _indented(reply.source[after.core : after.end], _column(reply, after), _column(file, before))
        changed = changed[: before.core] + text + changed[before.end :]
    first = spans[-1][0] if spans else None
    changed = _with_added(changed, [reply.source[one.line : one.end] for one in added], first, file, syntax)
    changed = _with_imports(changed, reply, syntax)
    if file.balanced and not read_code(changed, syntax.skipped).balanced:
        raise CodeRefused(f"with the new code the file is not {title} any more: its brackets do not match")
    return changed


def _functions_of_reply(code: str, syntax: Syntax) -> tuple[Code, list[Function]]:
    reply = read_code(code, syntax.skipped)
    found = list(find_functions(reply, syntax))
    if not found and syntax.wrapper:
        reply = read_code(syntax.wrapper[0] + code + syntax.wrapper[1], syntax.skipped)
        found = list(find_functions(reply, syntax))
    return reply, found


def _namesake(name: str, shown: Sequence[str], old: dict[str, Function]) -> str | None:
    """Return the one function that was shown under the same last name."""
    short = name.split(".")[-1]
    same = [known for known in shown if known in old and known.split(".")[-1] == short]
    return same[0] if len(same) == 1 else None


def _column(code: Code, one: Function) -> str:
    return indent_of(code.source[one.line : one.core] + "x")


def _indented(text: str, old: str, new: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *(new + line.removeprefix(old) if line.strip() else line for line in rest)])


def _with_added(text: str, added: Sequence[str], before: Function | None, file: Code, syntax: Syntax) -> str:
    if not added:
        return text
    if before is None or "." in before.name:
        return "\n\n".join([text.rstrip(), *added]) + "\n"
    place = beginning(before.line, file, syntax)
    return text[:place] + "".join(f"{one}\n\n" for one in added) + text[place:]


def _with_imports(text: str, reply: Code, syntax: Syntax) -> str:
    """Put in the imports of a reply that name something which those of the file do not."""
    present = [match[0] for match in syntax.imports.finditer(text)]
    known = set(_WORD.findall("\n".join(present)))
    wanted = (match[0].strip() for match in syntax.imports.finditer(reply.source))
    missing = [one for one in wanted if not set(_WORD.findall(one)) <= known]
    if not missing:
        return text
    place = max((match.end() for match in syntax.imports.finditer(text)), default=0)
    lead = "\n" if place else ""
    return text[:place] + lead + "\n".join(missing) + ("" if place else "\n\n") + text[place:]


def _meaning(source: str, syntax: Syntax, title: str) -> tuple[str, ...]:
    code = read_code(source, syntax.skipped)
    if not code.balanced:
        raise CodeRefused(f"it is not {title}: its brackets do not match")
    return code.tokens()


def _preamble(source: str, syntax: Syntax) -> str:
    return "\n".join(match[0].strip("\n") for match in syntax.imports.finditer(source))[:PREAMBLE_LIMIT]
