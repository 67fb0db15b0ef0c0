"""Posts a review to a pull request: one review with comments on lines, in the place of miyabi's own earlier ones.

Each comment carries the fingerprint of its finding in an HTML comment, by which it is known again: what is still true
stays where it is, with the answers that people gave, and what is not goes away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from miyabi_cli.errors import GitHubError, UsageError
from miyabi_cli.fences import backticks
from miyabi_cli.github.client import GitHub
from miyabi_cli.github.pulls import LineComment, create_review
from miyabi_cli.github.reviews import (
    LONGEST_BODY,
    PostedComment,
    PostedReview,
    Writer,
    delete_comment,
    find_login,
    list_posted_comments,
    list_posted_reviews,
    update_comment,
    update_review,
)
from miyabi_cli.markdown import inline_code, prose, shortened
from miyabi_cli.review.change import Change, ChangedFile
from miyabi_cli.review.findings import Finding

MARK = "<!-- miyabi-review -->"
_MARKED = re.compile(r"<!-- miyabi-review(?::([0-9A-Za-z_-]{1,100}))? -->\s*\Z")
SUPERSEDED = "A later review stands in the place of this one."
GONE = "This is not found any more."
MOST_COMMENTS = 50  # on lines, of one review: a person reads no more, and GitHub refuses very many
BODY_ROOM = 2_000  # characters that are kept free in a body
UNPROCESSABLE = 422


@dataclass(frozen=True, slots=True)
class Posted:
    """What was done: comments that were written, left as they were, and taken away; `in_body`: findings without a
    comment of their own. `review` is the review's id.
    """

    review: int
    written: int = 0
    kept: int = 0
    removed: int = 0
    in_body: int = 0


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What miyabi has said on the pull request: reviews, and comments by fingerprint; `answered` are ids of comments
    that somebody replied to.
    """

    reviews: tuple[PostedReview, ...]
    comments: tuple[PostedComment, ...]
    answered: frozenset[int]


@dataclass(slots=True)
class _Plan:
    """What is to be done about each finding and each earlier comment."""

    fresh: list[tuple[Finding, LineComment]] = field(default_factory=list)
    changed: list[tuple[PostedComment, str]] = field(default_factory=list)
    kept: int = 0
    stale: list[PostedComment] = field(default_factory=list)
    outside: list[Finding] = field(default_factory=list)


async def post_review(
    github: GitHub,
    change: Change,
    findings: Sequence[Finding],
    body: str,
    warn: Callable[[str, str], None],
    *,
    complete: bool = True,
) -> Posted:
    """Post findings on the change of a pull request; `body` is the review's text in Markdown, safe as it is.

    A finding outside of the diff goes into the body, and all do where GitHub takes no comments on lines. Where no
    comment is new the review that stands is rewritten, so that nobody is notified. Of a review that is not `complete`
    earlier comments stay. Raises GitHubError where the review itself can't be posted.
    """
    number, commit = change.pull_request, change.head_commit
    if number is None or commit is None:
        raise UsageError("there is no pull request to post to", hint="name it with --pr")
    earlier = await _read_earlier(github, number)
    plan = _planned(change, findings, earlier)
    if not complete:  # what is not found again may only not have been looked for
        plan.stale.clear()
    if plan.fresh or not earlier.reviews:
        review, in_body = await _create(github, number, commit, body, plan, earlier.reviews[-1:])
    else:
        review, in_body = earlier.reviews[-1].id, len(plan.outside)
        await update_review(github, number, review, _body(body, plan.outside))
    superseded = [one for one in earlier.reviews if one.id != review]
    removed = await _clear(github, number, plan, superseded, earlier.answered, warn)
    written = len(plan.fresh) - (in_body - len(plan.outside)) + len(plan.changed)
    return Posted(review, written, plan.kept, removed, in_body)


async def _read_earlier(github: GitHub, number: int) -> _Earlier:
    """Read what is miyabi's own: it bears its mark, and is by the same account, or by a bot where that can't be told.

    A mark alone proves nothing: with somebody else's comment a finding could be hidden.
    """
    login = await find_login(github)

    def is_own(writer: Writer, body: str) -> bool:
        by_us = writer.is_bot if login is None else writer.login == login
        return by_us and _MARKED.search(body) is not None

    reviews = [one async for one in list_posted_reviews(github, number) if is_own(one.writer, one.body)]
    comments = [one async for one in list_posted_comments(github, number)]
    return _Earlier(
        tuple(one for one in reviews if not one.body.startswith(SUPERSEDED)),  # a finding may quote it
        tuple(one for one in comments if is_own(one.writer, one.body) and fingerprint_of(one.body)),
        frozenset(one.answers for one in comments if one.answers),
    )


def fingerprint_of(body: str) -> str:
    """Return the fingerprint that a comment's text ends with, "" where it has none."""
    found = _MARKED.search(body)
    return (found[1] or "") if found else ""


def _planned(change: Change, findings: Sequence[Finding], earlier: _Earlier) -> _Plan:
    plan = _Plan()
    standing: dict[str, PostedComment] = {}
    for said in earlier.comments:
        if standing.setdefault(fingerprint_of(said.body), said) is not said:
            plan.stale.append(said)
    for finding in findings:
        comment = _line_comment(change.by_path.get(finding.path), finding)
        if comment is None or len(plan.fresh) + len(plan.changed) + plan.kept >= MOST_COMMENTS:
            plan.outside.append(finding)
            continue
        known = standing.get(finding.fingerprint)
        if known is None or (known.path, known.line) != (comment.path, comment.line):
            plan.fresh.append((finding, comment))
            continue
        del standing[finding.fingerprint]
        if known.body.strip() == comment.body.strip():
            plan.kept += 1
        else:
            plan.changed.append((known, comment.body))
    plan.stale += standing.values()
    return plan


async def _create(
    github: GitHub, number: int, commit: str, body: str, plan: _Plan, last: Sequence[PostedReview]
) -> tuple[int, int]:
    """Post the review; return its id, and how many findings stand in its body.

    Where GitHub takes no comments, and the last review that stands, if any, tells all of it already, that is rewritten.
    """
    comments = [comment for _, comment in plan.fresh]
    try:
        text = _body(body, plan.outside)
        return await create_review(github, number, commit=commit, body=text, comments=comments), len(plan.outside)
    except GitHubError as error:
        if error.status != UNPROCESSABLE or not comments:
            raise
    # GitHub takes all comments or none, and does not say which one it can't place: its diff is another one than ours.
    everything = [*(finding for finding, _ in plan.fresh), *plan.outside]
    text = _body(body, everything)
    for review in last:
        if all(_listed(finding) in review.body for finding in everything):
            await update_review(github, number, review.id, text)
            return review.id, len(everything)
    return await create_review(github, number, commit=commit, body=text), len(everything)


async def _clear(
    github: GitHub,
    number: int,
    plan: _Plan,
    superseded: Sequence[PostedReview],
    answered: frozenset[int],
    warn: Callable[[str, str], None],
) -> int:
    """Bring earlier words up to date; return how many comments went away. What GitHub refuses is a warning."""
    removed = 0
    try:
        for comment, body in plan.changed:
            await update_comment(github, comment.id, body)
        for comment in plan.stale:
            if comment.id in answered:  # people talk there
                await update_comment(github, comment.id, f"{GONE}\n\n{MARK}")
            else:
                await delete_comment(github, comment.id)
            removed += 1
        for review in superseded:
            await update_review(github, number, review.id, f"{SUPERSEDED}\n\n{MARK}")
    except GitHubError as error:
        warn("github", f"an earlier review could not be brought up to date: {error.message}")
    return removed


def _line_comment(file: ChangedFile | None, finding: Finding) -> LineComment | None:
    """Return the comment of a finding, None where its line is not in the diff: GitHub would refuse it."""
    if file is None or finding.line not in file.shown:
        return None
    hunk = next(held for hunk in file.hunks if finding.line in (held := {line.new for line in hunk.lines}))
    last = finding.end_line if finding.end_line in hunk else finding.line
    is_whole = last == finding.end_line
    body = comment_text(finding, with_suggestion=is_whole)
    return LineComment(finding.path, last, body, finding.line if last > finding.line else None)


def comment_text(finding: Finding, *, with_suggestion: bool = True) -> str:
    """Return a finding as the text of a comment, with a suggestion that GitHub can apply where there is one."""
    said = f"**{finding.severity}** · {prose(finding.category)} · {_source(finding)}\n\n{prose(finding.message)}"
    if finding.suggestion and with_suggestion:
        said += f"\n\n{_suggestion(finding)}"
    mark = re.sub(r"[^0-9A-Za-z_-]", "-", finding.fingerprint)[:100]
    return f"{shortened(said, LONGEST_BODY - 200)}\n\n<!-- miyabi-review:{mark} -->"


def _suggestion(finding: Finding) -> str:
    """Return code that takes the lines' place as GitHub's block for it."""
    fence = backticks(finding.suggestion)
    return f"{fence}suggestion\n{finding.suggestion.rstrip(chr(10))}\n{fence}"


def _source(finding: Finding) -> str:
    rule = f" {inline_code(finding.rule)}" if finding.rule and finding.rule != finding.category else ""
    sure = f", confidence {finding.confidence:.2f}" if finding.confidence < 1 else ""
    return f"{prose(finding.source)}{rule}{sure}"


def _body(body: str, outside: Sequence[Finding]) -> str:
    """Return the review's text, with the findings that have no comment of their own."""
    text = shortened(body.strip(), LONGEST_BODY - BODY_ROOM)
    lines = [_listed(finding) for finding in outside]
    if lines:
        text += "\n\n**Not on lines of the diff:**\n"
    for number, line in enumerate(lines):
        if len(text) + len(line) > LONGEST_BODY - BODY_ROOM // 2:
            text += f"\n- and {len(lines) - number} more"
            break
        text += f"\n{line}"
    return f"{text}\n\n{MARK}"


def _listed(finding: Finding) -> str:
    place = inline_code(f"{finding.path}:{finding.line}" if finding.line else finding.path)
    return f"- {place} **{finding.severity}** · {_source(finding)}: {prose(shortened(finding.message, 500))}"
