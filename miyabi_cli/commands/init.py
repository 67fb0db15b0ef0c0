"""`miyabi init`: a repository's first settings file."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from miyabi_cli.commands import flags

if TYPE_CHECKING:
    from miyabi_cli.init.finding import Found
    from miyabi_cli.settings.trust import RepositoryFile

# The workflows of --github-action: where each is written, and its text in the package. The first is told last.
FOLDER = Path(".github/workflows")
WORKFLOWS = {
    "github_action": ("miyabi.yml", "workflow.yml"),
    "review_action": ("miyabi-review.yml", "review.yml"),
    "triage_action": ("miyabi-triage.yml", "triage.yml"),
}


def init(
    context: typer.Context,
    repo: flags.Repo = None,
    github_action: Annotated[
        bool,
        typer.Option(
            "--github-action",
            help="Write workflows too: new issues are triaged, labelled ones become pull requests, these are reviewed.",
        ),
    ] = False,
    hook: Annotated[
        Literal["pre-commit", "pre-push"] | None,
        typer.Option("--hook", help="Instead, let git review what is committed or pushed; an existing hook runs, too."),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Instead, give the repository's GitHub the labels that triage knows.")
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="With --hook: take that away again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --labels: say what would be written, and write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
    format: flags.Format = "text",
) -> None:
    """Write a commented .miyabi.yml for this repository, with the checks and the model's server that are found.

    It lies at the repository's top, to be read and changed. You trust it then, as it was written.
    """
    from miyabi_cli.settings.trust import REPOSITORY_FILE

    _refuse_together(hook, labels=labels, remove=remove, dry_run=dry_run, github_action=github_action)
    if labels:
        from miyabi_cli.commands.label_scheme import install

        install(repo or Path(), context.obj, dry=dry_run, as_json=format == "json")
        return
    if hook is not None:
        _hook(repo or Path(), hook, remove=remove, as_json=format == "json")
        return
    root = _root(repo or Path())
    workflows = {key: root / FOLDER / name for key, (name, _) in WORKFLOWS.items()} if github_action else {}
    for workflow in workflows.values():
        _refuse_existing(workflow, force=force)
        _refuse_outside(workflow, root)
    if github_action and not force and os.path.lexists(root / REPOSITORY_FILE):
        data: dict[str, Any] = {}
    else:
        data = _settings_file(root, force=force, tell=format == "text")
    for key, workflow in workflows.items():
        _write(workflow, resources.files("miyabi_cli.init").joinpath(WORKFLOWS[key][1]).read_bytes())
    if format == "json":
        typer.echo(json.dumps({**data, **{key: str(path) for key, path in workflows.items()}}, indent=2))
        return
    for workflow in reversed(workflows.values()):
        _say(f"wrote {workflow}: its first lines say what it needs")


def _refuse_together(hook: str | None, *, labels: bool, remove: bool, dry_run: bool, github_action: bool) -> None:
    """Raise UsageError for flags that say nothing together."""
    from miyabi_cli.errors import UsageError

    if remove and hook is None:
        raise UsageError("--remove needs --hook", hint="say which: --hook pre-commit or --hook pre-push")
    if dry_run and not labels:
        raise UsageError("--dry-run needs --labels", hint="git diff shows what init has written to files")
    if labels and (hook or github_action):
        raise UsageError("--labels stands alone", hint="run it once, and init again for the other flags")


def _hook(folder: Path, name: Literal["pre-commit", "pre-push"], *, remove: bool, as_json: bool) -> None:
    """Write a hook, or take it away, and tell what became of one that was there."""
    from miyabi_cli.init.hooks import install_hook, remove_hook
    from miyabi_cli.workspace.repository import open_repository

    done = (remove_hook if remove else install_hook)(open_repository(folder, unborn=True), name)
    if as_json:
        kept = str(done.kept) if done.kept else None
        typer.echo(json.dumps({"hook": str(done.path), "kept": kept, "removed": remove}, indent=2))
        return
    what = "removed" if remove else "wrote" if done.changed else "nothing to change in"
    _say(f"{what} {done.path}")
    if done.kept:
        _say("the hook that was there is back" if remove else f"it runs {done.kept.name} first, which was there")
    if done.shared:
        typer.echo("warning: core.hooksPath is outside of this repository, so others are reviewed, too", err=True)


def _settings_file(root: Path, *, force: bool, tell: bool) -> dict[str, Any]:
    """Write the settings file, and trust it; return what was found."""
    from miyabi_cli.commands.asynchronous import run_async
    from miyabi_cli.init.finding import find
    from miyabi_cli.init.settings_file import settings_text, written_checks
    from miyabi_cli.settings.sources import load_settings, repository_harms
    from miyabi_cli.settings.trust import REPOSITORY_FILE, RepositoryFile, record_trust

    path = root / REPOSITORY_FILE
    for name in (path, path.with_suffix(".yaml")):
        _refuse_existing(name, force=force)
    settings = load_settings(flags={}, environ=os.environ, repository=None)
    found = run_async(find(root, settings, os.environ))
    file = RepositoryFile(root, path, settings_text(found, root).encode())
    _write(path, file.data)
    trusted = bool(repository_harms(file, os.environ))
    if trusted:
        record_trust(file)
    if tell:
        _tell(file, found, trusted=trusted)
    return _data(file, found, active=bool(written_checks(found, root)), trusted=trusted)


def _root(folder: Path) -> Path:
    from miyabi_cli.errors import RepositoryError
    from miyabi_cli.settings.trust import repository_root

    if not folder.is_dir():
        raise RepositoryError(f"{folder} is not a folder", hint="name the repository's folder with --repo")
    root = repository_root(folder)
    if root is None:
        raise RepositoryError("not in a git repository", hint="git init makes one, or name one with --repo DIR")
    return root


def _refuse_existing(path: Path, *, force: bool) -> None:
    from miyabi_cli.errors import UsageError

    if os.path.lexists(path) and not force:
        raise UsageError(f"{path.name} is there already", hint="--force overwrites it")


def _refuse_outside(path: Path, root: Path) -> None:
    """Raise RepositoryError where a link of the repository leads the way to a file out of it."""
    from miyabi_cli.errors import RepositoryError

    if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)):
        raise RepositoryError(f"{path.relative_to(root).parent} is a link that leads out of the repository")


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, readable for all as a repository's files are. Raises MachineError."""
    from miyabi_cli.errors import MachineError
    from miyabi_cli.places import write_whole

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        path.chmod(0o644)
    except OSError as error:
        raise MachineError(f"can't write {path}: {error.strerror}") from None


def _tell(file: RepositoryFile, found: Found, *, trusted: bool) -> None:
    from miyabi_cli.report.display import plain_text

    server = found.server
    lines = [f"language {name}" for name in found.languages]
    lines += [f"check {check.name}: {check.command}" for check in found.checks]
    told = f"{server.provider}: {server.model}, {server.reason}" if server else "auto: none yet"
    lines.append(f"provider {told}")
    if trusted:
        lines.append("trusted as it is now, on this machine; once you have changed it: miyabi trust")
    _say(f"wrote {file.path}")
    for line in lines:
        _say(line, "  ")
    for note in found.notes:
        typer.echo(plain_text(note, "warning: "), err=True)
    if server is None:
        typer.echo("hint: start vLLM or Ollama, set GROQ_API_KEY, or run: miyabi model pull", err=True)


def _say(text: str, lead: str = "") -> None:
    from miyabi_cli.report.display import plain_text

    typer.echo(plain_text(text, lead))


def _data(file: RepositoryFile, found: Found, *, active: bool, trusted: bool) -> dict[str, Any]:
    server = found.server
    return {
        "path": str(file.path),
        "sha256": file.sha256,
        "trusted": trusted,
        "languages": list(found.languages),
        "checks": [{"name": check.name, "command": check.command, "active": active} for check in found.checks],
        "notes": list(found.notes),
        "provider": {"name": server.provider, "model": server.model, "reason": server.reason} if server else None,
    }
