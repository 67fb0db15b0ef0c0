"""Python: functions and methods by the standard library's parser, and putting new ones in the place of old ones."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence

from miyabi_cli.agent.languages.language import MAXIMUM_SOURCE, CodeRefused, Definition, Language, ending_in
from miyabi_cli.workspace.indentation import indent_of

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def definitions(source: str) -> tuple[Definition, ...]:
    """Return the functions and methods of a file in their order; nested functions belong to their outer one.

    Raises CodeRefused where the file is not Python, or too large.
    """
    lines = source.split("\n")
    return tuple(_definition(name, node, lines) for name, node in _functions(_parsed(source)))


def replace_definitions(source: str, reply: str, shown: Sequence[str]) -> str:
    """Return `source` with the functions of a reply's code in place of those of the same name.

    `shown` are the qualified names that the model was shown: a bare function whose name only a shown method bears is
    that method. A function or class that is new goes to the end, an import that is new to the other imports. What
    else it says at its top level, a call say, is left out. Raises CodeRefused where nothing is left to put in.
    """
    code = trimmed_code(reply)
    new = _parsed(code)
    old = {definition.name: definition for definition in definitions(source)}
    replaced, added = _matched(new, code, shown, old)
    if not replaced and not added:
        raise CodeRefused("the code holds none of the functions that are to be changed")
    lines = source.split("\n")
    for definition in sorted((old[name] for name in replaced), key=lambda found: -found.first):
        text = _with_docstring_of(definition, _indented(replaced[definition.name], definition.indent))
        lines[definition.first - 1 : definition.last] = text.split("\n")
    changed = _with_imports("\n".join(lines), new)
    for text in added:
        changed = f"{changed.rstrip()}\n\n\n{text.rstrip()}\n"
    _check(changed)
    return changed


def _matched(
    new: ast.Module, code: str, shown: Sequence[str], old: dict[str, Definition]
) -> tuple[dict[str, str], list[str]]:
    """Return the functions of `code` by the old ones whose place they take, and what is new in it."""
    code_lines = code.split("\n")
    replaced: dict[str, str] = {}
    added: list[str] = []
    for name, node in _functions(new):
        target = name if name in old else _method_of(name, shown, old)
        text = _definition(name, node, code_lines).source
        if target is not None:
            replaced[target] = text
        elif "." not in name and not name.startswith("test"):
            added.append(textwrap.dedent(text))
    known_classes = {name.split(".")[0] for name in old if "." in name}
    added += [
        ast.get_source_segment(code, node) or ""
        for node in new.body
        if isinstance(node, ast.ClassDef) and node.name not in known_classes
    ]
    return replaced, added


def trimmed_code(code: str) -> str:
    """Return the longest beginning of `code` that is Python: a model's last lines may be prose or cut.

    Raises CodeRefused where there is none with a definition or a statement in it.
    """
    lines = code.strip("\n").split("\n")
    margin = indent_of(lines[0])
    lines = [line.removeprefix(margin) for line in lines]
    for end in range(len(lines), 0, -1):
        text = "\n".join(lines[:end])
        try:
            if _parsed(text).body:
                return text.rstrip()
        except CodeRefused:
            continue
    raise CodeRefused("the code is not Python")


def _parsed(code: str) -> ast.Module:
    if len(code) > MAXIMUM_SOURCE:
        raise CodeRefused("the file is too large")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes and the like, which are not ours to tell
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise CodeRefused(f"the code is not Python: {error}") from None


def _check(source: str) -> None:
    try:
        _parsed(source)
    except CodeRefused as error:
        raise CodeRefused(f"with the new code the file is not Python any more: {error}") from None


def _functions(module: ast.Module) -> Iterator[tuple[str, FunctionNode]]:
    for node in module.body:
        if isinstance(node, FunctionNode):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, FunctionNode):
                    yield f"{node.name}.{inner.name}", inner


def _definition(name: str, node: FunctionNode, lines: Sequence[str]) -> Definition:
    first = _first_line(node)
    last = node.end_lineno or node.lineno
    calls = frozenset(
        called for inner in ast.walk(node) if isinstance(inner, ast.Call) and (called := _called(inner.func))
    )
    source = lines[first - 1 : last]
    _, docstring_end = _docstring_lines(node)
    body = (docstring_end or _first_line(node.body[0]) - 1) - (first - 1)
    indent = indent_of(source[body]) if 0 < body < len(source) else " " * (node.col_offset + 4)
    outline = "\n".join([*source[:body], f"{indent}..."])
    owner = (f"class {name.split('.')[0]}:", "") if "." in name else ("", "")
    return Definition(name, first, last, node.col_offset, "\n".join(source), body, outline, calls, owner)


def _first_line(node: ast.stmt) -> int:
    decorators: Sequence[ast.expr] = getattr(node, "decorator_list", ())
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _called(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _method_of(name: str, shown: Sequence[str], old: dict[str, Definition]) -> str | None:
    methods = [known for known in shown if known in old and known.endswith(f".{name}")]
    return methods[0] if "." not in name and len(methods) == 1 else None


def _with_docstring_of(old: Definition, text: str) -> str:
    """Keep the old docstring: small models shorten it, or leave it out."""
    first, last = _docstring_lines(_function_of(old.source))
    if not first:
        return text
    kept = old.source.split("\n")[first - 1 : last]
    lines = text.split("\n")
    function = _function_of(text)
    new_first, new_last = _docstring_lines(function)
    if new_first:
        return "\n".join([*lines[: new_first - 1], *kept, *lines[new_last:]])
    start = _first_line(function.body[0])
    if function.lineno == function.body[0].lineno:  # `def f(): return 1` has no line for it
        return text
    return "\n".join([*lines[: start - 1], *kept, *lines[start - 1 :]])


def _docstring_lines(function: FunctionNode) -> tuple[int, int]:
    """Return the first and last line of a function's docstring, (0, 0) without one that has lines of its own."""
    node = function.body[0]
    alone = (
        len(function.body) > 1 and node.lineno > function.lineno and function.body[1].lineno > (node.end_lineno or 0)
    )
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return (node.lineno, node.end_lineno or node.lineno) if alone and is_text else (0, 0)


def _function_of(source: str) -> FunctionNode:
    """Parse the source of one function, however deep it is indented; its lines keep their numbers."""
    indent = len(source) - len(source.lstrip())
    # Inside an `if`, indented text needs no change, so that strings over several lines stay as they are.
    module = _parsed(f"if True:\n{source}" if indent else source)
    if indent:
        ast.increment_lineno(module, -1)
        module = ast.Module(body=getattr(module.body[0], "body", []), type_ignores=[])
    return next(node for node in module.body if isinstance(node, FunctionNode))


def _indented(text: str, indent: int) -> str:
    """Move a function to another depth; one that is there already keeps each byte, also in strings of many lines."""
    first = text.split("\n", 1)[0]
    margin = indent_of(first)
    if len(margin) == indent:
        return text
    lines = (line.removeprefix(margin) for line in text.split("\n"))
    return "\n".join(" " * indent + line if line.strip() else line for line in lines)


def _with_imports(source: str, new: ast.Module) -> str:
    """Add the imports of `new` that the file lacks, after its last import at the top, or after its docstring."""
    tree = _parsed(source)
    known = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)}
    names = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    missing = [
        ast.unparse(node)
        for node in new.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and ast.unparse(node) not in known
        and not (isinstance(node, ast.ImportFrom) and {alias.asname or alias.name for alias in node.names} <= names)
    ]
    if not missing:
        return source
    lines = source.split("\n")
    imports = [node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    place = imports[-1] if imports else _after_docstring(tree)
    return "\n".join([*lines[:place], *missing, *([] if imports else [""]), *lines[place:]])


def _after_docstring(tree: ast.Module) -> int:
    first = tree.body[0] if tree.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return first.end_lineno or 0
    return 0


def _meaning(source: str) -> str:
    return ast.dump(_parsed(source))


def _preamble(source: str) -> str:
    """Return the imports at the top level; "" where the file is not Python."""
    try:
        body = _parsed(source).body
    except CodeRefused:
        return ""
    lines = source.split("\n")
    imports = (node for node in body if isinstance(node, ast.Import | ast.ImportFrom))
    return "\n".join("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in imports)


def _imported(source: str, _path: str, sources: Sequence[str]) -> Iterable[str]:
    """Return the files that a file's imports name, whatever folder the packages lie in."""
    try:
        tree = _parsed(source)
    except CodeRefused:
        return ()
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names += [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
    stems = list(dict.fromkeys(name.replace(".", "/") for name in names))
    return [path for stem in stems for path in ending_in([stem], sources, ("__init__",))]


PYTHON = Language(
    name="python",
    title="Python",
    suffixes=(".py",),
    comment="#",
    definitions=definitions,
    replaced=replace_definitions,
    meaning=_meaning,
    preamble=_preamble,
    imported=_imported,
)
