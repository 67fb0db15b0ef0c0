"""`miyabi runs show RUN --html FILE`: the page of a run, read by a parser and by a real browser."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miyabi_cli.events import (
    TRANSIENT,
    AttemptEnded,
    AttemptStarted,
    CheckEnded,
    CheckStarted,
    ConversationCompacted,
    ConversationOpened,
    Event,
    MessageAdded,
    ReplyReceived,
    RunEnded,
    RunResumed,
    RunStarted,
    ToolEnded,
    ToolStarted,
    WarningRaised,
    event_data,
)
from miyabi_cli.messages import Function, Message, Reply, Timing, ToolCall, Usage
from miyabi_cli.report.display import visible_text
from miyabi_cli.report.html.changes import MOST_LINES, read_changes
from miyabi_cli.report.html.entries import call_of
from miyabi_cli.report.html.excerpts import excerpt, segments, shortened
from miyabi_cli.report.html.page import RunPage, duration, render, tick
from miyabi_cli.report.html.story import HANDLERS
from miyabi_cli.report.html.timeline import Span, draw
from tests.conftest import ROOT, Miyabi
from tests.support.chromium import open_page
from tests.support.server import call, chat_server, say
from tests.test_codegen import FIX, TASK, model

ACTIVE = {"script", "iframe", "object", "embed", "img", "link", "form", "base"}
VOID = {"meta", "br", "img", "hr", "input", "link"}
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
EVIL = f"</pre></details></main>{SCRIPT}<a href='javascript:alert(1)'>x</a>\u202egnp.exe\x1b[31m\x00"


class Page(HTMLParser):
    """What a page holds: its elements with their attributes, its texts by the element that they are in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(page: Path) -> Page:
    return Page(page.read_text("utf-8"))


def page_of(*events: Event, result: dict[str, Any] | None = None, patch: str = "", **more: Any) -> Page:
    """Return the page of a run with these events, a second apart."""
    log = [
        {**event_data(event, run_id="1"), "time": f"2026-11-22T10:{number // 60:02}:{number % 60:02}.000Z"}
        for number, event in enumerate(events)
    ]
    run = {"run_id": "1", "status": "stopped", "task": "a task", "repository": "/r", "error": None, **more}
    return Page(render(RunPage(**run, result=result, patch=patch), log).decode())


def reply(text: str = "", *calls: ToolCall, thought: str = "", finish: str = "stop") -> Reply:
    usage = Usage(1, 1000, 500, 20, 5, None)
    return Reply(text, thought, calls, usage, finish, Timing(0.1, 0.5))


def assert_harmless(page: Page) -> None:
    """Assert that a page can run nothing, fetch nothing and lead nowhere."""
    assert not {"script", "iframe", "object", "embed", "img", "link", "form", "base"} & {
        tag for tag, _ in page.elements
    }
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "srcdoc")], tag
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(one["content"] for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; base-uri 'none'; form-action 'none'", policy
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "".join(page.texts))


def assert_for_every_reader(page: Page) -> None:
    """Assert what a screen reader needs: language, landmarks, headings in order, names for pictures and columns."""
    assert page.named("html")[0]["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.named(landmark)) == 1
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [str(attributes["id"]) for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(one["href"]) for one in page.named("a")} <= {f"#{one}" for one in ids}
    assert {one["aria-labelledby"] for one in page.named("section")} <= set(ids)
    for picture in page.named("svg"):
        assert picture.get("aria-hidden") == "true" or (picture["role"] == "img" and picture["aria-label"])
    assert all(one.get("scope") for one in page.named("th"))


def test_the_page_tells_what_the_run_did(repository: Path, miyabi: Miyabi, tmp_path: Path) -> None:
    turns = (
        call("exec", {"cmd": ["bash", "-lc", "cat calc.py"]}, thought="I look first."),
        call("apply_patch", {"patch": FIX}),
        say("add subtracted; it adds now."),
    )
    with chat_server(*turns) as server:
        assert miyabi("codegen", TASK, *model(server), cwd=repository).code == 0
    ran = miyabi("runs", "show", "last", "--html", "run.html")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "run.html\n", "")
    page = read(tmp_path / "run.html")
    assert_harmless(page)
    assert_for_every_reader(page)
    shown = page.text
    for words in (TASK, "verified", "add subtracted; it adds now.", "gpt-oss-20b (openai", str(repository)):
        assert words in shown
    for words in ("I look first.", "exec cat calc.py", "apply_patch", "1 fixed", "test_calc::test_add", "0 broken"):
        assert words in shown
    for words in (
        "+1 \N{MINUS SIGN}1",
        "5 \N{MINUS SIGN} return a - b",
        "5 + return a + b",
        "def double(a):",
        "Attempt 1",
        "Before the first",
    ):
        assert words in shown
    assert {"model", "tool", "check"} == {one["class"] for one in page.named("rect")}


def test_a_browser_shows_it_runs_nothing_and_asks_nobody(repository: Path, miyabi: Miyabi, tmp_path: Path) -> None:
    with chat_server() as outside:
        fetch = f"{EVIL}<img src='{outside.url}/a'><link rel=stylesheet href='{outside.url}/b'>"
        styles = f"<style>body{{background:url({outside.url}/c)}}</style><div style='background:url({outside.url}/d)'>"
        hostile = f"{fetch}{styles}<iframe src='{outside.url}/e'></iframe>"
        printing = {"cmd": ["bash", "-lc", f"cat <<'END'\n{hostile.replace(chr(0), '')}\nEND"]}
        turns = (call("exec", printing, thought=hostile), call("apply_patch", {"patch": FIX}), say(hostile))
        with chat_server(*turns) as server:
            assert miyabi("codegen", f"{TASK} {SCRIPT}", *model(server), cwd=repository).code == 0
        assert miyabi("runs", "show", "--html", "run.html").code == 0
        log = tmp_path / "network.json"
        seen = Page(open_page(tmp_path / "run.html", tmp_path, f"--log-net-log={log}"))
        assert outside.requests == []
        assert outside.asked == []
    assert_harmless(seen)
    assert seen.text.startswith(f"verified: {TASK} {SCRIPT} · miyabi")
    for words in ("⟨U+202E⟩gnp.exe", "1 fixed", "exec", "Attempt 1", "return a + b"):
        assert words in seen.text
    assert outside.url not in log.read_text()


def test_nothing_that_others_wrote_becomes_markup() -> None:
    changed = f"diff --git a/{EVIL} b/{EVIL}\n--- a/x\n+++ b/{EVIL}\n@@ -1 +1 @@ {EVIL}\n-{EVIL}\n+{EVIL}\n".replace(
        "\0", ""
    )
    evil = ToolCall(EVIL, EVIL, json.dumps({EVIL: EVIL, "cmd": [EVIL], "patch": f"*** Begin Patch\n+{EVIL}", "n": 1}))
    page = page_of(
        RunStarted(EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, {}),
        WarningRaised(EVIL, EVIL, EVIL),
        CheckStarted(0, "before", EVIL, EVIL),
        CheckEnded(0, "before", EVIL, EVIL, 1.0, EVIL),
        AttemptStarted(1, EVIL),
        ConversationOpened(1, (Message("user", EVIL),), (Function(EVIL, EVIL, {}),)),
        ReplyReceived(1, 1, reply(EVIL, evil, ToolCall("2", EVIL, EVIL), thought=EVIL, finish="length" + EVIL)),
        ToolStarted(1, 1, evil),
        ToolEnded(1, 1, EVIL, EVIL, EVIL, True, (EVIL,), 0.5),
        MessageAdded(1, Message("user", EVIL)),
        ConversationCompacted(1, (Message("user", EVIL),), 5, 1000, 100),
        RunResumed(EVIL, EVIL, EVIL, EVIL, EVIL, {}),
        AttemptEnded(1, "interrupted", EVIL, EVIL, 1, 0, 0, Usage(), 3.0),
        patch=changed,
        status=EVIL,
        task=EVIL,
        repository=EVIL,
        error=EVIL,
    )
    assert_harmless(page)
    assert page.text.count("⟨U+202E⟩gnp.exe") > 25


@settings(max_examples=15, deadline=None)
@given(st.text(min_size=1), st.text())
def test_any_text_is_shown_as_it_is(text: str, more: str) -> None:
    events = (
        ConversationOpened(1, (Message("user", text),), ()),
        ReplyReceived(1, 1, reply("", ToolCall("1", "exec", json.dumps({"text": more + "\n."})), thought=text)),
        ToolEnded(1, 1, "1", "exec", more, False, (), 0.5),
    )
    page = page_of(*events, patch=more)
    assert_harmless(page)
    shown = "".join(page.texts).encode("utf-8", "replace")
    for one in (text.strip("\n").rstrip(), more.strip("\n").rstrip()):
        if "```" not in one and len(one) < 500:
            assert visible_text(one).encode("utf-8", "replace") in shown


def stopped_run(environment: dict[str, str], *events: Event) -> Path:
    """Leave a run that was killed after these events; return its directory."""
    folder = Path(environment["MIYABI_DATA_DIR"]) / "runs" / "20260101-000000-aaaaaa"
    folder.mkdir(parents=True)
    lines = [json.dumps(event_data(event, run_id=folder.name)) for event in events]
    (folder / "events.jsonl").write_text("\n".join([*lines, '{"type": "tool_st']))
    return folder


BEGUN = RunStarted("0.1.0", "a task", "/r", "b" * 40, "ollama", "gpt-oss:20b", "high", "bubblewrap", {})


def test_a_run_that_was_killed_is_shown_as_far_as_it_came(
    miyabi: Miyabi, environment: dict[str, str], tmp_path: Path
) -> None:
    calls = (ToolCall("1", "exec", '{"cmd": "make"}'),)
    folder = stopped_run(
        environment,
        BEGUN,
        CheckStarted(0, "before", "tests", "make test"),
        CheckEnded(0, "before", "tests", "fail", 2.0, "1 failed"),
        AttemptStarted(1, "/tree"),
        ReplyReceived(1, 1, reply("now I build", *calls)),
        ToolStarted(1, 1, calls[0]),
    )
    (folder / "patch.diff").write_text(
        "diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1,2 +1 @@ main\n int a;\n-int b;\n"
    )
    ran = miyabi("runs", "show", "--html", "run.html", "--format", "json")
    assert (ran.code, json.loads(ran.stdout)["result"], ran.stderr) == (0, None, "run.html\n")
    assert miyabi("runs", "show", "--html", "-").stdout == (tmp_path / "run.html").read_text()
    assert miyabi("runs", "show", "--html", "-", "--format", "json").code == 2
    shown = read(tmp_path / "run.html").text
    for words in (
        "no result yet",
        "exec make did not end",
        "not ended",
        "Changes so far",
        "2 \N{MINUS SIGN} int b;",
        "make test",
    ):
        assert words in shown
    assert "✕ fail \N{EN DASH} not run" in shown  # before, and after


def test_known_secrets_are_taken_out(miyabi: Miyabi, environment: dict[str, str], tmp_path: Path) -> None:
    secret = "hunter2-hunter2-hunter2"
    begun = dataclasses.replace(BEGUN, task=f"log in with {secret}")
    stopped_run(environment, begun, ReplyReceived(1, 1, reply(f"the key is {secret}", thought=secret)))
    assert miyabi("runs", "show", "--html", "run.html", env={"SHOP_API_KEY": secret}).code == 0
    text = (tmp_path / "run.html").read_text()
    assert secret not in text
    assert "the key is [secret: SHOP_API_KEY]" in text


def test_a_run_without_a_log_has_a_page(miyabi: Miyabi, environment: dict[str, str], tmp_path: Path) -> None:
    folder = stopped_run(environment)
    (folder / "error.json").write_text('{"message": "the disk is gone"}')
    assert miyabi("runs", "show", "--html", "run.html").code == 0
    assert "the disk is gone" in read(tmp_path / "run.html").text


def test_every_event_of_a_log_is_told() -> None:
    assert set(get_args(Event)) - {*TRANSIENT, RunEnded} == set(HANDLERS)


def test_a_pull_request_and_what_was_spent_are_named() -> None:
    usage = {"requests": 3, "input_tokens": 5000, "cached_tokens": 0, "output_tokens": 70, "reasoning_tokens": 40}
    result: dict[str, Any] = {
        "summary": "done",
        "checks": [],
        "warnings": [{"path": "a.py", "message": "look at it"}],
        "usage": {**usage, "cost_usd": 0.0123},
        "seconds": 75.0,
        **{name: ["x.py"] for name in ("files_created", "files_modified", "files_deleted")},
        **{"lines_added": 1234, "lines_removed": 0, "tests_added": 2, "worktree": None},
        **{"base": "b" * 40, "branch": "miyabi/x", "commit": "c" * 40},
        "pull_request": {"number": 7, "url": "javascript:alert(7)"},
    }
    page = page_of(BEGUN, result=result, status="verified")
    assert_harmless(page)
    for words in ("javascript:alert(7)", "5,070", "5,000 in (0 cached), 70 out (40 thought)", "0.0123", "1 min 15 s"):
        assert words in page.text
    for words in ("+1,234", "3 files, 2 tests added", "1 warning", "a.py look at it"):
        assert words in page.text


def test_a_resumed_run_has_a_mark_and_no_gap() -> None:
    page = page_of(
        BEGUN,
        AttemptStarted(1, "/tree"),
        ReplyReceived(1, 1, reply("one")),
        RunResumed("0.1.0", "ollama", "gpt-oss:20b", None, "bubblewrap", {}),
        ReplyReceived(1, 2, reply("two")),
    )
    assert "The run was stopped, and goes on with gpt-oss:20b" in page.text
    assert "resumed 1 time" in page.text
    assert "in all 3.0 s" in page.text
    assert [one.get("class") for one in page.named("line")].count("stop") == 1


@pytest.mark.parametrize("attempts", [1, 8])
def test_a_page_is_bounded(attempts: int) -> None:
    def work(number: int) -> Iterable[Event]:
        yield ConversationOpened(number, (Message("user", "p" * 100_000),) * 300, ())
        for step in range(60):
            yield ReplyReceived(number, step, reply("t" * 50_000, ToolCall("1", "exec", "{}"), thought="s" * 50_000))
            yield ToolEnded(number, step, "1", "exec", "line\n" * 30_000, False, ("x" * 50,) * 1000, 0.1)

    patch = "diff --git a/x b/x\n--- /dev/null\n+++ b/x\n@@ -0,0 +1,20000 @@\n" + "+x\n" * 20_000
    events = [event for number in range(1, attempts + 1) for event in work(number)]
    page = page_of(BEGUN, *events, patch=patch)
    assert len("".join(page.texts)) < 5_000_000
    assert "characters left out" in page.text
    assert f"{20_001 - MOST_LINES:,} lines left out" in page.text
    assert "100 further messages left out" in page.text


def test_a_page_that_can_not_be_written_is_the_machine_s_error(miyabi: Miyabi, environment: dict[str, str]) -> None:
    stopped_run(environment, BEGUN)
    ran = miyabi("runs", "show", "--html", "none/run.html")
    assert (ran.code, ran.stdout) == (4, "")
    assert "can't write none/run.html: No such file or directory" in ran.stderr


def test_a_patch_that_can_not_be_read_is_shown_as_text() -> None:
    page = page_of(BEGUN, patch="diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n[secret: KEY]\n")
    assert "@@ -1,9 +1,9 @@ [secret: KEY]" in page.text


def test_renamed_created_deleted_and_binary_files_are_told_apart() -> None:
    patch = (
        "diff --git a/old.py b/new.py\nsimilarity index 100%\nrename from old.py\nrename to new.py\n"
        "diff --git a/x.png b/x.png\nnew file mode 100644\nBinary files /dev/null and b/x.png differ\n"
        "diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )
    shown = page_of(BEGUN, patch=patch).text
    for words in (
        "new.py from old.py renamed",
        "x.png created +0 \N{MINUS SIGN}0 a binary file",
        "gone deleted +0 \N{MINUS SIGN}1",
    ):
        assert words in shown


def test_many_changed_files_are_counted() -> None:
    patch = "".join(f"diff --git a/{n} b/{n}\nnew file mode 100644\n" for n in range(600))
    changes = read_changes(patch)
    assert (len(changes.files), changes.omitted) == (500, 100)


@given(st.text(max_size=300), st.integers(1, 200), st.integers(1, 100))
def test_an_excerpt_keeps_head_and_tail_and_counts_the_rest(text: str, limit: int, less: int) -> None:
    whole = text.strip("\n").rstrip()
    for one, most in ((excerpt(text, limit), limit), (shortened(excerpt(text, limit), less), min(limit, less))):
        assert len(one.head) + len(one.tail) <= most
        assert one.size == len(whole)
        assert whole.startswith(one.head)
        assert whole.endswith(one.tail)


def test_code_between_fences_is_told_from_words() -> None:
    text = "Two bugs:\n\n```python\nreturn 1\n```\nand more\n```\nopen"
    assert list(segments(text)) == [(False, "Two bugs:"), (True, "return 1"), (False, "and more"), (True, "open")]


@pytest.mark.parametrize(
    ("arguments", "about", "kinds"),
    [
        ('{"cmd": ["bash", "-lc", "ls -l"]}', "ls -l", []),
        ('{"cmd": ["bash", "-lc", "ls\\nrm x"]}', "ls…", ["command"]),
        ('{"cmd": ["git", "add", "a b"]}', "git add 'a b'", []),
        ('{"path": "a.py", "line": 3}', "a.py 3", []),
        ('{"patch": "*** Begin Patch\\n+x"}', "", ["patch"]),
        ('{"code": "a\\nb"}', "a b", ["text"]),
        ("not json", "not json", ["text"]),
        ("[" * 100_000, "[" * 99 + "…", ["text"]),
    ],
)
def test_a_call_is_told_in_a_few_words(arguments: str, about: str, kinds: list[str]) -> None:
    told = call_of(ToolCall("1", "exec", arguments))
    assert (told.about, [argument.kind for argument in told.arguments]) == (about, kinds)


def test_a_timeline_shares_out_the_time() -> None:
    line = draw([Span(1, "model", 0, 5, "a"), Span(1, "tool", 5, 6, "b"), Span(2, "model", 0, 10, "c")], 20, [10])
    assert [(lane.attempt, [(bar.left, bar.width) for bar in lane.bars]) for lane in line.lanes] == [
        (1, [(0, 25), (25, 5)]),
        (2, [(0, 50)]),
    ]
    assert (line.totals, line.stops) == ({"model": 15, "tool": 1}, (50,))
    assert line.ticks == ((0, 0), (25, 5), (50, 10), (75, 15), (100, 20))


@given(st.floats(0, 1e7))
def test_a_scale_has_few_marks(seconds: float) -> None:
    ticks = draw([], seconds).ticks
    assert 1 <= len(ticks) <= 8 or seconds > 86_400 * 7
    assert all(0 <= percent <= 100.001 for percent, _ in ticks)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "not known"), (0.931, "0.93 s"), (12.34, "12.3 s"), (185, "3 min 05 s"), (3840, "1 h 04 min")],
)
def test_a_duration_is_said_in_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (0.5, "0.5 s"), (120, "2 min"), (7200, "2 h"), (90, "90 s")]
)
def test_a_mark_has_a_short_label(seconds: float, words: str) -> None:
    assert tick(seconds) == words


def luminance(color: str) -> float:
    """Return the relative luminance of `#rrggbb` (WCAG 2.2)."""
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_the_colours_have_contrast(mode: int) -> None:
    style = (ROOT / "miyabi_cli/report/html/templates/style.css").read_text()
    both = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", both[mode]))
    grounds = ("ground", "panel", "sunken")
    pairs = [(text, ground) for text in ("text", "muted", "accent", "good", "bad") for ground in grounds]
    pairs += [(tone, f"{tone}-ground") for tone in ("good", "bad", "fair")]
    pairs += [
        ("text", ground) for ground in ("plain-ground", "fair-ground", "added", "removed", "added-line", "removed-line")
    ]
    pairs += [("muted", "hunk")]
    for text, ground in pairs:
        lighter, darker = sorted((luminance(colors[text]), luminance(colors[ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)
