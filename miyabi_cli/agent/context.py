"""What the model is told before it starts: the task, the repository's own instructions, its checks, a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from miyabi_cli.agent.repository_map import repository_map
from miyabi_cli.workspace.paths import PathRefused, Root

CONTEXT_FILE = "EXECUTION_CONTEXT.md"
INSTRUCTION_FILES = ("AGENTS.md", "CLAUDE.md")
FILE_LIMIT = 16_000


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
) -> Context:
    """Gather a context from the worktree at `root`, whose files are `paths`.

    The user's own EXECUTION_CONTEXT.md is read where it exists (in the user's `checkout` when git does not track it),
    and AGENTS.md from the root down to `folder` (CLAUDE.md where a folder has none).
    """
    own = _read(root, CONTEXT_FILE, read_limit) or (_read(checkout, CONTEXT_FILE, read_limit) if checkout else "")
    return Context(
        task,
        execution_context=own,
        instructions=_instructions(root, folder, read_limit),
        map=repository_map(paths, limit=map_limit),
        checks=checks,
        failures=failures,
    )


def render_context(context: Context) -> str:
    """Return the first message: an EXECUTION_CONTEXT of the task, then what the repository says, then the map."""
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
    return f"## {title}\n{body.strip()}" if body.strip() else ""


def _instructions(root: Root, folder: str, limit: int) -> str:
    parts = [part for part in folder.split("/") if part and part != "."]
    folders = ["/".join(parts[:depth]) for depth in range(len(parts) + 1)]
    texts = (_first(root, [f"{path}/{name}".lstrip("/") for name in INSTRUCTION_FILES], limit) for path in folders)
    return "\n\n".join(text for text in texts if text)


def _first(root: Root, names: Sequence[str], limit: int) -> str:
    return next((text for name in names if (text := _read(root, name, limit))), "")


def _read(root: Root, name: str, limit: int) -> str:
    try:
        text = root.read(name).decode("utf-8", "replace").strip()
    except (PathRefused, FileNotFoundError, OSError):
        return ""
    return text if len(text) <= limit else f"{text[:limit]}\n[cut: {len(text) - limit} characters more]"


def folder_at_hand(repository: Path, working_directory: Path) -> str:
    """Return the working directory relative to the repository's root, "" at the root or outside of it."""
    try:
        relative = working_directory.resolve().relative_to(repository.resolve())
    except ValueError:
        return ""
    return "" if str(relative) == "." else relative.as_posix()
