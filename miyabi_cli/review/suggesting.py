"""Suggestions: code in the place of a finding's lines, offered only where the checks stay as good as they were."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from miyabi_cli.errors import MiyabiError, SandboxError
from miyabi_cli.fences import fenced
from miyabi_cli.messages import Function
from miyabi_cli.places import cache_dir
from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.checkouts import Checkouts
from miyabi_cli.review.findings import Finding, Skipped, SourceResult
from miyabi_cli.review.hidden_characters import hidden_character
from miyabi_cli.review.means import ReviewMeans
from miyabi_cli.review.model.asking import asker_of
from miyabi_cli.review.model.shown import excerpt, visible
from miyabi_cli.review.model.work import TIME_LIMIT, Work
from miyabi_cli.workspace.check_cache import CheckCache, check_key
from miyabi_cli.workspace.check_records import Check, CheckRun
from miyabi_cli.workspace.checks import compare_runs, plan_checks, run_checks
from miyabi_cli.workspace.linters import new_findings
from miyabi_cli.workspace.sandbox import Sandbox
from miyabi_cli.workspace.trees import Entry, edit_tree, read_blobs
from miyabi_cli.workspace.worktrees import Worktree

MOST = 10  # suggestions of one review
MOST_LINES = 40  # that one takes the place of, or brings
MOST_LETTERS = 4_000
AROUND = 25  # lines of the file that are shown on both sides
HIDDEN = "…"  # what stands for a secret: code that is made of such a line would lose it
_UNVOUCHED = "the repository has no check that could vouch for them"
_SURROGATE = re.compile("[\ud800-\udfff]")  # what no UTF-8 holds: of a model's escape, or a byte (PEP 383)
_CODE = {"type": "string", "maxLength": MOST_LETTERS}
MEND = Function(
    "replace_lines",
    "Give the code that takes the place of the lines.",
    {"type": "object", "properties": {"code": _CODE}, "required": ["code"], "additionalProperties": False},
)


@dataclass(frozen=True, slots=True)
class _Draft:
    """Code that may take the place of a finding's lines, by the finding's place in the list."""

    at: int
    finding: Finding
    code: str


@dataclass(frozen=True, slots=True)
class _Proof:
    """What suggestions are tried on: the tree after the change (an id), and what its checks give."""

    checkouts: Checkouts
    sandbox: Sandbox
    worktree: Worktree
    tree: str
    checks: tuple[Check, ...]
    before: tuple[CheckRun, ...]


async def suggest(change: Change, findings: Sequence[Finding], means: ReviewMeans) -> SourceResult:
    """Return the findings, with `suggestion` as the text in place of their lines where there is one to offer.

    A suggestion is offered where it applies to the tree that is reviewed, and each of the repository's checks, run
    with it in the sandbox, gives no less than without. It raises nothing: why there are none is in `skipped`.
    """
    provider, checkouts, sandbox, tree = means.provider, means.checkouts, means.sandbox, change.head_tree
    if provider is None or checkouts is None or sandbox is None or tree is None:
        reason = "suggestions: they need a model, the repository's files and a sandbox"
        return SourceResult(tuple(findings), skipped=(Skipped("", reason),))
    work = Work(asker_of(provider, means.settings), means.deadline)
    drafts = await _drafts(change, findings, work)
    kept: list[_Draft] = []
    problem = work.stopped
    try:
        async with asyncio.timeout(work.seconds_left()):
            if drafts and not await _prove(drafts, kept, means, checkouts, sandbox, tree):
                problem = _UNVOUCHED
    except TimeoutError:
        problem = TIME_LIMIT
    except MiyabiError as error:
        problem = error.message
    codes = {draft.at: draft.code for draft in kept}
    told = tuple(replace(one, suggestion=codes.get(at, one.suggestion)) for at, one in enumerate(findings))
    return replace(work.result(told), skipped=(Skipped("", f"suggestions: {problem}"),) if problem else ())


async def _drafts(change: Change, findings: Sequence[Finding], work: Work) -> list[_Draft]:
    """Return what the model would write, for the gravest findings that have no suggestion; lines are taken once."""
    wanted = [(at, one) for at, one in enumerate(findings) if _mendable(change.by_path.get(one.path), one)]
    wanted.sort(key=lambda pair: (("error", "warning", "note").index(pair[1].severity), -pair[1].confidence))
    files = change.by_path
    made = await asyncio.gather(*(_draft(at, one, files[one.path], work) for at, one in wanted[:MOST]))
    taken: set[tuple[str, int]] = set()
    drafts: list[_Draft] = []
    for draft in made:
        if draft is not None:
            lines = {(draft.finding.path, number) for number in _numbers(draft.finding)}
            if not lines & taken:
                taken |= lines
                drafts.append(draft)
    return drafts


def _mendable(file: ChangedFile | None, finding: Finding) -> bool:
    if file is None or file.text is None or finding.suggestion or finding.category == "secret":
        return False
    lines = [file.lines.get(number, HIDDEN) for number in _numbers(finding)]
    return (
        finding.line > 0 and finding.end_line - finding.line < MOST_LINES and not any(HIDDEN in line for line in lines)
    )


def _numbers(finding: Finding) -> range:
    return range(finding.line, finding.end_line + 1)


async def _draft(at: int, finding: Finding, file: ChangedFile, work: Work) -> _Draft | None:
    lines = [file.lines[number].removesuffix("\r") for number in _numbers(finding)]
    last = finding.end_line
    text = "\n\n".join(
        [
            f"File {visible(file.path)}:",
            fenced(excerpt(file, finding.line, last, AROUND)),
            f"The defect ({finding.category}):",
            fenced(finding.message),
            f"Replace line {last}:" if last == finding.line else f"Replace the lines {finding.line} to {last}:",
            fenced("\n".join(lines)),
        ]
    )
    answer = await work.ask("suggestion", MEND, text)
    if answer.problem:
        return None
    code = _cleaned(answer.arguments["code"], lines)
    is_new = "".join(code.split()) not in ("", "".join("".join(lines).split()))
    return _Draft(at, finding, code) if is_new and code.count("\n") < MOST_LINES and _fits(code, file) else None


def _fits(code: str, file: ChangedFile) -> bool:
    """Say whether code can be written into a file: of one that is no UTF-8 only ASCII is sure to be the same there."""
    if "\0" in code or hidden_character(code):
        return False
    return code.isascii() or not _SURROGATE.search(f"{code}{file.text}")


def _cleaned(code: str, old: Sequence[str]) -> str:
    """Return code with line feeds alone, without a fence around it, and indented as the first old line where the model
    has left the indentation out."""
    lines = [line.removesuffix("\r") for line in code.strip("\n").split("\n")]
    if lines[0].startswith("```"):
        lines = lines[1 : -1 if lines[-1].strip() == "```" else None]
    indent = old[0][: len(old[0]) - len(old[0].lstrip())]
    if indent and lines and not lines[0].startswith((" ", "\t")):
        lines = [f"{indent}{line}" if line.strip() else line for line in lines]
    return "\n".join(lines)


async def _prove(
    drafts: Sequence[_Draft],
    kept: list[_Draft],
    means: ReviewMeans,
    checkouts: Checkouts,
    sandbox: Sandbox,
    tree: str,
) -> bool:
    """Add those drafts to `kept` that leave the checks as good as they were; False where there is no check to tell.

    They are tried together first, and one by one where that fails.
    """
    means.tell(f"suggestions: checking {len(drafts)}")
    worktree = await checkouts.private(tree, "suggestions")
    for command in means.settings.worktree.setup:
        outcome = await sandbox.run(command, worktree.place())
        if outcome.exit_code:
            raise SandboxError("the set-up command failed", hint="see worktree.setup")
    checks = await asyncio.to_thread(_plan, worktree, checkouts, means)
    before = await _before(checks, worktree, checkouts, sandbox, means, tree)
    if not any(run.status != "skip" and run.conclusive for run in before):
        return False
    proof = _Proof(checkouts, sandbox, worktree, tree, checks, before)
    if len(drafts) > 1 and await _holds(proof, drafts):
        kept += drafts
        return True
    for draft in drafts:
        if await _holds(proof, [draft]):
            kept.append(draft)
    return True


def _plan(worktree: Worktree, checkouts: Checkouts, means: ReviewMeans) -> tuple[Check, ...]:
    configured = [Check(check.name, check.command, check.timeout) for check in means.settings.checks]
    root = checkouts.repository.root
    return plan_checks(worktree.tree, repository=root, environ=means.environ, configured=configured).checks


async def _before(
    checks: Sequence[Check],
    worktree: Worktree,
    checkouts: Checkouts,
    sandbox: Sandbox,
    means: ReviewMeans,
    tree: str,
) -> tuple[CheckRun, ...]:
    """Return what the checks give without suggestions; it is kept by the tree, as the base's checks of codegen are."""
    cache = CheckCache(cache_dir("checks"))
    extra = (*checkouts.include, *means.settings.worktree.setup)
    root = checkouts.repository.root
    key = check_key(
        tree, checks, sandbox_kind=sandbox.kind, repository=root, environ=means.environ, extra=("suggest", *extra)
    )
    known = await asyncio.to_thread(cache.get, key)
    if known is None:
        known = await run_checks(checks, worktree.place(), sandbox)
        await asyncio.to_thread(cache.put, key, known)
    return known


async def _holds(proof: _Proof, drafts: Sequence[_Draft]) -> bool:
    """Say whether the checks give no less with these drafts than without."""
    tree = await asyncio.to_thread(_patched, proof, drafts)
    await asyncio.to_thread(proof.worktree.switch, tree)
    after = await run_checks(proof.checks, proof.worktree.place(), proof.sandbox)
    by_name = {run.name: run for run in after}
    return all(_as_good(run, by_name[run.name]) for run in proof.before)


def _as_good(before: CheckRun, after: CheckRun) -> bool:
    if after.status not in (before.status, "pass") or after.conclusive < before.conclusive:
        return False
    if compare_runs(before, after).broken:
        return False
    return not new_findings(before.findings, after.findings)


def _patched(proof: _Proof, drafts: Sequence[_Draft]) -> str:
    """Return the id of the tree with these drafts in it."""
    git = proof.checkouts.git
    by_path: dict[str, list[_Draft]] = {}
    for draft in drafts:
        by_path.setdefault(draft.finding.path, []).append(draft)
    entries = []
    for path, (mode, old) in _entries(proof, list(by_path)).items():
        # of the tree, since a change that a model is shown may be without its secrets
        data = next(read_blobs(git, [old]))
        text = _with(data.decode("utf-8", "surrogateescape"), by_path[path]).encode("utf-8", "surrogateescape")
        blob = git.run("hash-object", "-w", "--stdin", input=text).decode().strip()
        entries.append(Entry(path, mode, blob))
    return edit_tree(git, proof.tree, entries)


def _with(text: str, drafts: Sequence[_Draft]) -> str:
    """Return a file's text with code in place of lines, from the last to the first, with the line ends that it has."""
    lines = text.split("\n")
    for draft in sorted(drafts, key=lambda draft: -draft.finding.line):
        first, last = draft.finding.line - 1, draft.finding.end_line
        end = "\r" if lines[first].endswith("\r") else ""
        lines[first:last] = [f"{line}{end}" for line in draft.code.split("\n")]
    return "\n".join(lines)


def _entries(proof: _Proof, paths: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Return the modes and ids of files in the tree under review."""
    wanted = set(paths)
    found: dict[str, tuple[str, str]] = {}
    for entry in proof.checkouts.git.run("ls-tree", "-r", "-z", "--full-tree", proof.tree).split(b"\0"):
        header, _, name = entry.partition(b"\t")
        if (path := os.fsdecode(name)) in wanted:
            mode, _, blob = header.decode().split(" ")
            found[path] = (mode, blob)
    return found
