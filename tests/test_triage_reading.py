"""Files of issues: tables with any delimiter, rows that are broken, other encodings, and lines that are no issues."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as some

from miyabi_cli.errors import UsageError
from miyabi_cli.triage.issue import TriageIssue, Unreadable
from miyabi_cli.triage.reading import read_issues


def read(data: bytes | str) -> list[tuple[int, str, str] | str]:
    """Return number, title and body of each issue, and place and problem of what is none."""
    entries = read_issues(io.BytesIO(data.encode() if isinstance(data, str) else data))
    return [
        f"{entry.place}: {entry.problem}" if isinstance(entry, Unreadable) else (entry.number, entry.title, entry.body)
        for entry in entries
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("number;title;body\r\n7;a;x, y\r\n;;\r\n8;b;\"p;\nq\"\r\n", [(7, "a", "x, y"), (8, "b", "p;\nq")]),
        ("\ufeffNumber\tTitle\n7\ta, b\n", [(7, "a, b", "")]),
        ("title|body\rx|y\rz|w", [(1, "x", "y"), (2, "z", "w")]),
        ("\n\ntitle\nonly; this\n", [(1, "only; this", "")]),
        ('title,body\nsays "hi",b\n', [(1, 'says "hi"', "b")]),
        ("title,body\n", []),
        ("[]", []),
        ('null\n{"title":"a"}', ["issue 1: not a JSON object", (2, "a", "")]),
        ('{"title":"a","number":"#7"} {"title":"b","number":true}', [
            (7, "a", ""), "issue 2: number is to be a whole number from 1",
        ]),
        ('[{"title":"a"},{"title":]},{"title":"b"}]', [
            (1, "a", ""), "issue 2: not JSON: Expecting value, and what follows it in the array is not read",
        ]),
        ("title,body\na,b,c\nd,e,,\n", ["line 2: it has more cells than the header, which has 2", (2, "d", "e")]),
    ],
)  # fmt: skip
def test_what_a_file_holds(text: str, found: list[tuple[int, str, str] | str]) -> None:
    assert read(text) == found
    assert read(text.removeprefix("\ufeff").encode("utf-16")) == found


def test_a_quotation_mark_that_is_not_closed_is_named_and_takes_no_row_along() -> None:
    closed_by_another = read('number,title,body\n1,"crash,b\n2,ok,"a body"\n3,"fine",c\n')
    assert closed_by_another == ["line 2: not CSV: ',' expected after '\"'", (2, "ok", "a body"), (3, "fine", "c")]
    never_closed = read('number,title,body\n1,a,"b\nc"\n2,"crash,b\n3,ok,c\n')
    assert never_closed == [(1, "a", "b\nc"), "line 4: not CSV: a quotation mark is not closed", (3, "ok", "c")]


def test_many_of_them_are_not_read_over_and_over() -> None:
    found = read("title\n" + 'x","\n' * 9_000)  # each of them opens a quote that lasts to the end
    assert 1 < len(found) < 9_000
    assert str(found[-1]).endswith("what follows it is not read: too many rows are broken")


def test_bytes_that_are_no_utf_8_are_read_as_spreadsheets_write_them() -> None:
    assert read("title\nCrème “brûlée”\n".encode("cp1252")) == [(1, "Crème “brûlée”", "")]
    assert read(b'{"title":"ok \xc3\xa9"}\n{"title":"\xe9"}\n') == [(1, "ok é", ""), (2, "é", "")]


@pytest.mark.parametrize("data", [b"", b"  \n", b"name,text\na,b\n", bytes(range(256)) * 9, b"title;body\n"[:3]])
def test_what_is_no_list_of_issues_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        read(data)


@given(some.lists(some.tuples(*[some.text(max_size=20).filter(str.strip)] * 2), min_size=1), some.sampled_from(",;\t|"))
def test_what_is_written_as_a_table_is_read_back(rows: list[tuple[str, str]], delimiter: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("title", "body"), *rows])
    assert read(text.getvalue()) == [(place, title, body) for place, (title, body) in enumerate(rows, 1)]


@pytest.mark.parametrize("lead", ["", "["])
def test_one_issue_is_in_memory_at_a_time(lead: str) -> None:
    one = json.dumps({"title": "a title", "body": "words " * 500})
    data = (lead + ("," if lead else "\n").join([one] * 4_000) + ("]" if lead else "")).encode()
    tracemalloc.start()
    count = sum(isinstance(entry, TriageIssue) for entry in read_issues(io.BytesIO(data)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4_000
    assert peak < len(data) + 2_000_000  # of which the bytes themselves are a copy of the stream's
