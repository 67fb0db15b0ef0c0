"""The table of docs/safety.md: each case is there, and is shown by tests that are there."""

from __future__ import annotations

import re

from tests.conftest import ROOT
from tests.redteam.rows import BY_CASE

CASES = [f"A{number}" for number in range(1, 26)] + [f"F{number}" for number in range(1, 21)]


def test_each_case_of_the_documentation_is_shown_by_tests_that_are_there() -> None:
    text = (ROOT / "docs/safety.md").read_text()
    rows = [row.strip("|\n ").split(" | ") for row in re.findall(r"^\| [AF]\d+ .*$", text, re.MULTILINE)]
    assert [row[0].split()[0] for row in rows] == CASES
    for case, _, shown in rows:
        assert "::" in shown or ("the table" in shown and BY_CASE[case.split()[0]].calls), case
    for module, name in re.findall(r"([\w/]+)::(test_\w+)", text):
        source = (ROOT / "tests" / f"{module}.py").read_text()
        assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{module}::{name}"
