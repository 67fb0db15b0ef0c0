"""The page of a run: its story put into a template."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment

from miyabi_cli.report.display import plain_text
from miyabi_cli.report.html.changes import Changes, patch_rows, read_changes
from miyabi_cli.report.html.entries import FOLDED_LINES, CheckRow, check_rows, texts_of
from miyabi_cli.report.html.excerpts import LONGEST, excerpt, segments, shortened
from miyabi_cli.report.html.story import BASE, MOST_NAMES, Story, read_story
from miyabi_cli.report.html.templating import open_templates, styles

PAGE = "page.html"
STYLE = "style.css"
BUDGET = 3_000_000  # characters of all texts together, but for the patch
LEAST = 400  # of one text, however many there are
HEADLINE = 200  # characters
NOTHING_SPENT = {"requests": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "reasoning_tokens": 0}


@dataclass(frozen=True, slots=True)
class RunPage:
    """What a page is made of: a run's id, status and task, the error that ended it, its result, and its patch.

    `result` is the object of `--format json`, None where the run has not come to one; `patch` is then the one so far.
    """

    run_id: str
    status: str
    task: str
    repository: str
    error: str | None
    result: Mapping[str, Any] | None
    patch: str

    @property
    def headline(self) -> str:
        """The first line of the task, cut."""
        line = self.task.strip().partition("\n")[0]
        return line if len(line) <= HEADLINE else f"{line[:HEADLINE]}…"


def render(page: RunPage, events: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a run's page in UTF-8; `events` are those of its log."""
    story = read_story(events)
    environment = _environment(_limit(story))
    html = environment.get_template(PAGE).render(
        page=page,
        story=story,
        result=page.result or {},
        checks=_checks(page, story),
        changes=read_changes(page.patch) if page.patch.strip() else Changes(),
        usage=_usage(page, story),
        title=plain_text(page.headline),
        **styles(STYLE),
    )
    return html.encode("utf-8", "replace")


def _environment(limit: int) -> Environment:
    environment = open_templates()
    environment.filters |= {
        "excerpt": functools.partial(shortened, limit=limit),
        "cut": excerpt,
        "segments": segments,
        "duration": duration,
        "tick": tick,
        "plain": plain_text,
        "patch_rows": patch_rows,
    }
    environment.globals |= {"FOLDED_LINES": FOLDED_LINES, "BASE": BASE, "MOST_NAMES": MOST_NAMES}
    return environment


def _limit(story: Story) -> int:
    """Return how many characters of each text the page can hold."""
    texts = sum(texts_of(entry) for attempt in story.attempts.values() for entry in attempt.entries)
    return max(LEAST, min(LONGEST, BUDGET // max(1, texts)))


def _checks(page: RunPage, story: Story) -> tuple[CheckRow, ...]:
    if page.result is not None:
        return check_rows(page.result["checks"], MOST_NAMES)
    return tuple(story.checks.values())[:MOST_NAMES]


def _usage(page: RunPage, story: Story) -> dict[str, Any]:
    """Return what was spent: the result's sum, else that of the attempts that have ended."""
    if page.result is not None:
        return dict(page.result["usage"])
    spent: dict[str, Any] = dict(NOTHING_SPENT, cost_usd=None)
    for attempt in story.attempts.values():
        for name in NOTHING_SPENT:
            spent[name] += getattr(attempt.usage, name)
    return spent


def duration(seconds: float | None) -> str:
    """Return seconds in words: `0.93 s`, `12.4 s`, `3 min 05 s`, `1 h 04 min`."""
    if seconds is None:
        return "not known"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def tick(seconds: float) -> str:
    """Return the label of a place on the scale of times: `0.5 s`, `20 s`, `2 min`, `4 h`."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
