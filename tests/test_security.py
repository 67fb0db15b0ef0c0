"""SECURITY.md is true: what it names is there, and it promises nothing that docs/safety.md takes back."""

from __future__ import annotations

import re

from tests.conftest import ROOT

SECURITY = (ROOT / "SECURITY.md").read_text()
SAFETY = (ROOT / "docs/safety.md").read_text()


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]*)#?([^)]*)\)", SECURITY)
    assert links
    for target, anchor in links:
        assert (ROOT / target).is_file(), target
        assert not anchor or anchor in anchors((ROOT / target).read_text()), anchor


def test_it_is_short_and_says_each_thing() -> None:
    assert len(SECURITY.splitlines()) < 80
    expected = ["What is promised", "Who is held, and who is not", "What is not promised", "Which versions"]
    assert re.findall(r"^## (.+)$", SECURITY, re.MULTILINE) == [*expected, "How to report"]


def test_reports_go_to_private_advisories_and_to_no_address() -> None:
    report = SECURITY.split("## How to report\n")[1]
    assert "private security advisory" in report
    assert "@" not in SECURITY


def test_flags_that_it_names_exist() -> None:
    reference = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    for flag in set(re.findall(r"`(--[\w-]+)", SECURITY)):
        assert flag in reference, flag


def test_what_is_open_is_said_on_both_pages() -> None:
    open_ends = SECURITY.split("## What is not promised\n")[1].split("\n## ")[0]
    for words in ("Landlock", "kernel", "--sandbox off", "patch", "server"):
        assert words in open_ends
        assert words in SAFETY.split("## What is not protected\n")[1].split("\n## ")[0]
