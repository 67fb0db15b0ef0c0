"""What the model is told before it starts: the task, the repository's own instructions, its checks, a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from miyabi_cli.agent.repository_map import repository_map
from miyabi_cli.fences import fenced
from miyabi_cli.workspace.paths import PathMissing, PathRefused, Root

CONTEXT_FILE = "EXECUTION_CONTEXT.md"
INSTRUCTION_FILES = ("AGENTS.md", "CLAUDE.md")
FILE_LIMIT = 16_000

Refuse = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, as EXECUTION_CONTEXT.md names it; an empty field is left out."""

    description: str
    task_id: str = ""
    title: str = ""
    type: str = ""
    priority: str = ""
    severity: str = ""
    impact: str = ""
    acceptance: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of the first message, each "" where there is none."""

    task: Task
    execution_context: str = ""
    instructions: str = ""
    map: str = ""
    checks: tuple[tuple[str, str, str], ...] = ()
    failures: str = ""


def read_context(
    task: Task,
    root: Root,
    paths: Sequence[str],
    *,
    folder: str,
    map_limit: int,
    checkout: Root | None = None,
    checks: tuple[tuple[str, str, str], ...] = (),
    failures: str = "",
    read_limit: int = FILE_LIMIT,
    refuse: Refuse | None = None,
) -> Context:
    """Gather a context from the worktree at `root`, whose files are `paths`.

    The user's own EXECUTION_CONTEXT.md is read where it exists (in the user's `checkout` when git does not track it),
    and AGENTS.md from the root down to `folder` (CLAUDE.md where a folder has none). `refuse` is told the path of one
    that is there and can't be read, a link that leads out of the worktree say, and why.
    """
    reader = _Reader(root, read_limit, refuse or (lambda _path, _why: None))
    own = reader.read(CONTEXT_FILE)
    if not own and checkout:
        own = replace(reader, root=checkout).read(CONTEXT_FILE)
    return Context(
        task,
        execution_context=own,
        instructions=_instructions(reader, folder),
        map=repository_map(paths, limit=map_limit),
        checks=checks,
        failures=failures,
    )


def render_context(context: Context) -> str:
    """Return the first message: an EXECUTION_CONTEXT of the task, then what the repository says, then the map.

    The task is the user's own word; all that the repository says stands within fences.
    """
    parts = [
        _execution_context(context),
        _section("The repository's own EXECUTION_CONTEXT.md", context.execution_context),
        _section("Instructions of the repository", context.instructions),
        _section("Files", context.map),
        _section("What fails now", context.failures),
    ]
    return "\n\n".join(part for part in parts if part)


def prompt(name: str, values: Mapping[str, str] | None = None) -> str:
    """Return a prompt text of the package, with each `{name}` of `values` filled in."""
    text = resources.files("miyabi_cli.agent").joinpath("prompts", f"{name}.md").read_text("utf-8").strip()
    for key, value in (values or {}).items():
        text = text.replace("{" + key + "}", value)
    return text


def _execution_context(context: Context) -> str:
    task = context.task
    named = {
        "Task": task.task_id,
        "Title": task.title,
        "Type": task.type,
        "Priority": task.priority,
        "Severity": task.severity,
        "Impact": task.impact,
        "Dependencies": ", ".join(task.dependencies),
    }
    lines = ["# EXECUTION_CONTEXT", *(f"{name}: {value}" for name, value in named.items() if value)]
    lines += ["", "## Description", task.description.strip()]
    if task.acceptance:
        lines += ["", "## Acceptance", *(f"- {criterion}" for criterion in task.acceptance)]
    if context.checks:
        lines += ["", "## Checks", *(f"- {name}: `{command}` ({now})" for name, command, now in context.checks)]
    return "\n".join(lines)


def _section(title: str, body: str) -> str:
    return f"## {title}\n{fenced(body.strip())}" if body.strip() else ""


def _instructions(reader: _Reader, folder: str) -> str:
    parts = [part for part in folder.split("/") if part and part != "."]
    folders = ["/".join(parts[:depth]) for depth in range(len(parts) + 1)]
    texts = (_first(reader, [f"{path}/{name}".lstrip("/") for name in INSTRUCTION_FILES]) for path in folders)
    return "\n\n".join(text for text in texts if text)


def _first(reader: _Reader, names: Sequence[str]) -> str:
    return next((text for name in names if (text := reader.read(name))), "")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads texts of the repository, up to `limit` characters; `refuse` hears of one that is there and is not read."""

    root: Root
    limit: int
    refuse: Refuse

    def read(self, name: str) -> str:
        """Return a file's text, "" where there is none."""
        try:
            text = self.root.read(name).decode("utf-8", "replace").strip()
        except PathMissing:
            return ""
        except (PathRefused, OSError) as error:
            self.refuse(name, str(error))
            return ""
        return (
            text
            if len(text) <= self.limit
            else f"{text[: self.limit]}\n[cut: {len(text) - self.limit} characters more]"
        )


def folder_at_hand(repository: Path, working_directory: Path) -> str:
    """Return the working directory relative to the repository's root, "" at the root or outside of it."""
    try:
        relative = working_directory.resolve().relative_to(repository.resolve())
    except ValueError:
        return ""
    return "" if str(relative) == "." else relative.as_posix()
