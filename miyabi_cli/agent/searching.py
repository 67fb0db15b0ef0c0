"""The tool that looks for text in files: `search`, done in the sandbox by ripgrep, git or grep."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from miyabi_cli.agent.arguments import Arguments, BadArguments, path_of, text_of, whole_of
from miyabi_cli.agent.reading import PATH, cut
from miyabi_cli.agent.results import ToolResult
from miyabi_cli.workspace.patches import near_names
from miyabi_cli.workspace.paths import Kind, PathMissing, PathRefused, Root
from miyabi_cli.workspace.place import Place
from miyabi_cli.workspace.processes import Limits
from miyabi_cli.workspace.sandbox import Sandbox

DEFAULT_RESULTS = 50
MOST_RESULTS = 200
LINE_WIDTH = 200
QUERY_LIMIT = 1_000
_SECONDS = 30.0
_READ_BYTES = 1_000_000

_QUERY = ("query", "pattern", "regex", "regexp", "q", "text", "search", "keyword", "name")
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")
_MATCH = re.compile(r"(?:\./)?(.+?):(\d+):(.*)")
_FAILED = "miyabi: no search"

# The pattern is tried as an expression, with the literal text beside it (`f().x` is meant as it stands); a program
# that is missing or refuses the expression (exit code above 1) leaves it to the next. Nothing that a model wrote
# stands where an option could: patterns follow -e, the path follows --.
_SCRIPT = (
    r"""
mode=$1 kind=$2 path=$3 query=$4 literal=$5
try() { "$@" 2>/dev/null; [ $? -gt 1 ] || exit 0; }
both() {
  [ "$mode" = literal ] || try "$@" -e "$query" -e "$literal" -- "$path"
}
plain() { try "$@" -F -e "$query" -- "$path"; }
(
  if command -v rg >/dev/null 2>&1; then
    set -- rg --no-config --no-heading --with-filename --line-number --color=never --no-messages --hidden \
      --glob '!.git' --max-filesize 2M
    both "$@"
    plain "$@"
  fi
  if [ "$kind" = folder ] && { [ "$path" = . ] || ! git check-ignore -q -- "$path" 2>/dev/null; }; then
    set -- git --literal-pathspecs -c core.quotePath=false -c core.fsmonitor=false -c grep.column=false \
      -c grep.fullName=false grep -I --no-textconv --no-color --line-number --untracked
    both "$@" -P
    both "$@" -E
    plain "$@"
  fi
  set -- grep -rInH --exclude-dir=.git --exclude-dir=__pycache__
  both "$@" -E
  plain "$@"
  echo '"""
    + _FAILED
    + r"""'
) | cut -b 1-1000
"""
)


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Text or an expression to look for in a file or folder."""

    query: str
    path: str
    most: int = DEFAULT_RESULTS


def read_search(arguments: Arguments) -> SearchRequest:
    """Read the arguments of `search`. Raises BadArguments for an empty query, or one of several lines."""
    query = text_of(arguments, _QUERY).strip("\r\n")
    if not query.strip() or len(query) > QUERY_LIMIT or any(character in query for character in "\0\r\n"):
        raise BadArguments(f"`query` has to be one line of 1 to {QUERY_LIMIT} characters")
    most = whole_of(arguments, ("max_results", "limit", "max", "count", "head_limit")) or DEFAULT_RESULTS
    return SearchRequest(query, path_of(arguments, PATH, ""), min(max(most, 1), MOST_RESULTS))


async def search(root: Root, sandbox: Sandbox, place: Place, limits: Limits, request: SearchRequest) -> ToolResult:
    """Return matches as `path:line: text`, from many files rather than many from one. Raises PathRefused."""
    path = str(root.relative(request.path))
    status = root.status(path)
    if status is None:
        names = near_names(root, path)
        raise PathMissing(f"{path} does not exist", hint=f"near it: {', '.join(names)}" if names else None)
    _refuse_unsafe(root, path, status.kind)
    query = request.query.encode("utf-8", "replace").decode()
    command = (
        *("sh", "-c", _SCRIPT, "search", "regex" if _compiles(query) else "literal"),
        *("folder" if status.kind == "directory" else "file", path, query, _SPECIAL.sub(r"\\\g<0>", query)),
    )
    bounds = replace(limits, seconds=min(limits.seconds, _SECONDS), output_bytes=_READ_BYTES)
    outcome = await sandbox.run(command, place, limits=bounds)
    if outcome.timed_out or _FAILED in outcome.output or outcome.exit_code > 1:
        why = f"took longer than {bounds.seconds:.0f} s" if outcome.timed_out else "failed"
        return ToolResult(f"the search {why}; use exec with grep, or a smaller path", failed=True)
    report = _report(_matches(outcome.output), request.most, "at least " if outcome.omitted_bytes else "")
    return ToolResult(report or f"no match for {query!r} in {path}")


def _refuse_unsafe(root: Root, path: str, kind: Kind) -> None:
    """Raise PathRefused for a link that leads out of the tree, and for a device or FIFO, which may never end."""
    if kind == "link":
        with suppress(PathRefused):
            root.list(path)
            return
    if kind in ("link", "other"):
        root.read(path)


def _compiles(query: str) -> bool:
    try:
        re.compile(query)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _matches(output: str) -> Mapping[str, Mapping[int, str]]:
    """Return the lines that matched, by path and number; one found twice is one."""
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for line in output.split("\n"):
        if match := _MATCH.fullmatch(line.removesuffix("\r")):
            found[match[1]][int(match[2])] = match[3].strip()
    return found


def _report(found: Mapping[str, Mapping[int, str]], most: int, least: str) -> str:
    shares = range(most, 1, -1) if len(found) < most else ()
    share = next((share for share in shares if sum(min(len(lines), share) for lines in found.values()) <= most), 1)
    lines = [line for path in sorted(found) for line in _lines(path, found[path], share)]
    total = sum(map(len, found.values()))
    if total > len(lines) or len(lines) > most:
        shown = lines[:most]
        rest = f"[{least}{total - len(shown)} more matches, {len(found)} files in all; narrow the path or the query]"
        return "\n".join([*shown, rest])
    return "\n".join(lines)


def _lines(path: str, matches: Mapping[int, str], share: int) -> Iterator[str]:
    for number in sorted(matches)[:share]:
        yield f"{path}:{number}: {cut(matches[number], LINE_WIDTH)}"
