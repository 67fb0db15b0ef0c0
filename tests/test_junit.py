"""The reader of JUnit XML: what runners write, and what nobody should."""

from __future__ import annotations

import string
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.workspace.check_records import TestFailure, TestReport
from miyabi_cli.workspace.runners.junit import MAXIMUM_BYTES, merge_reports, read_junit, stable_name, suite_times

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1"
 failures="1" skipped="2" tests="6" time="0.186" timestamp="2026-11-22T14:52:03.863430+00:00" hostname="vm">
<testcase classname="test_a" name="test_p[&#233;]" time="0.001"><failure message="ZeroDivisionError: division by zero"
>test_a.py:6: in test_p
E   ZeroDivisionError: division by zero</failure></testcase>
<testcase classname="test_a" name="test_p[&lt;f at 0x7f12ab34cd56&gt;]" time="0.009" />
<testcase classname="test_a" name="test_xf"><skipped type="pytest.xfail" message="" /></testcase>
<testcase classname="test_a" name="test_s"><skipped type="pytest.skip" message="why">x</skipped></testcase>
<testcase classname="test_a.C" name="test_t"/>
<testcase classname="test_a.C" name="test_t"><error message="failed on teardown">boom</error></testcase>
<testcase classname="" name="tests.test_b"><error message="collection failure">ImportError</error></testcase>
</testsuite></testsuites>"""


def test_reads_what_pytest_writes() -> None:
    report = read_junit(PYTEST)
    assert report.tests == {
        "test_a::test_p[é]": "fail",
        "test_a::test_p[<f at 0x…>]": "pass",
        "test_a::test_xf": "skip",
        "test_a::test_s": "skip",
        "test_a.C::test_t": "fail",
        "tests.test_b": "fail",
    }
    assert report.failures[0] == TestFailure(
        "test_a::test_p[é]",
        "ZeroDivisionError: division by zero",
        "test_a.py:6: in test_p\nE   ZeroDivisionError: division by zero",
    )
    assert [failure.name for failure in report.failures[1:]] == ["test_a.C::test_t", "tests.test_b"]


def test_reads_a_lone_and_a_nested_suite() -> None:
    lone = b'<testsuite><testcase classname="a" name="x"/></testsuite>'
    nested = b"<testsuites><testsuite><testsuite>" + lone + b"</testsuite></testsuite></testsuites>"
    assert read_junit(lone).tests == read_junit(nested).tests == {"a::x": "pass"}


@pytest.mark.parametrize(
    "declared",
    ["utf-8", "utf-16", "latin-1", "no-such-encoding"],
)
def test_the_declared_encoding_is_not_believed(declared: str) -> None:
    text = f'<?xml version="1.0" encoding="{declared}"?>\n<testsuite><testcase name="é"/></testsuite>'
    assert read_junit(text.encode()).tests in ({"é": "pass"}, {})
    assert read_junit(text.encode("utf-16")) == TestReport()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<testsuite><testcase name='a'/>",
        b"<html><testcase name='a'/></html>",
        b"not xml at all",
        b"<testsuite>" * 5_000 + b"</testsuite>" * 5_000,
        b"<testsuite><testcase name='a'/></testsuite>" + b" " * MAXIMUM_BYTES,
    ],
    ids=["empty", "torn", "other", "text", "deep", "large"],
)
def test_what_is_no_report_is_empty(document: bytes) -> None:
    assert read_junit(document) == TestReport()


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE testsuite [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>',
        '<!-- <testsuite> --><!DOCTYPE testsuite SYSTEM "file:///etc/passwd">',
        '<?x <a?><!DOCTYPE testsuite [<!ENTITY b SYSTEM "file:///etc/passwd">]>',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_document_type_is_refused(declaration: str, encoding: str) -> None:
    body = '<testsuite><testcase name="a"><failure message="m">&b;</failure></testcase></testsuite>'
    plain = body.replace("&b;", "")
    assert read_junit(f'<?xml version="1.0"?>{declaration}{plain}'.encode(encoding)) == TestReport()
    assert read_junit(f'<?xml version="1.0"?>{declaration}{body}'.encode(encoding)) == TestReport()
    assert read_junit(f'<?xml version="1.0"?>{plain}'.encode()).tests == {"a": "fail"}


def test_a_document_type_in_a_message_is_a_message() -> None:
    body = "<testsuite><testcase name='a'><failure><![CDATA[<!DOCTYPE html>]]></failure></testcase></testsuite>"
    assert read_junit(body.encode()).failures[0].details == "<!DOCTYPE html>"


def test_details_keep_their_end() -> None:
    body = f"<testsuite><testcase name='a'><failure>{'x' * 50_000}END</failure></testcase></testsuite>"
    details = read_junit(body.encode()).failures[0].details
    assert details.endswith("END")
    assert len(details) < 10_000


def test_merged_reports_keep_the_worse_status() -> None:
    first = TestReport({"a": "pass", "b": "fail", "c": "skip"})
    second = TestReport({"a": "fail", "b": "pass", "c": "pass"}, (TestFailure("a", "m", "d"),))
    assert merge_reports([first, second]) == TestReport({"a": "fail", "b": "fail", "c": "pass"}, second.failures)


def test_suite_times() -> None:
    assert suite_times(PYTEST) == (0.186, 1795359123.86343)
    assert suite_times(b'<testsuite time="x" timestamp="soon">') == (0.0, None)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)


@given(st.dictionaries(names.map(str.strip).filter(bool), st.sampled_from(["pass", "fail", "skip"])))
def test_every_written_test_is_read(tests: dict[str, str]) -> None:
    inner = {"pass": "", "fail": "<failure>f</failure>", "skip": "<skipped/>"}
    cases = "".join(f"<testcase name={quoteattr(name)}>{inner[status]}</testcase>" for name, status in tests.items())
    report = read_junit(f"<testsuite>{cases}</testsuite>".encode())
    assert set(report.tests) == {stable_name(name) for name in tests}
    assert sum(status == "fail" for status in report.tests.values()) <= len(tests)


@given(st.binary(max_size=2_000))
def test_no_bytes_raise(data: bytes) -> None:
    assert isinstance(read_junit(data), TestReport)
    assert isinstance(suite_times(data), tuple)


TAGS = ("<testsuite", "<testsuites>", "</testsuite>", "<testcase ", 'name="a"', "time='x'", ">", "/>", "<failure>")
OTHERS = (
    "</failure>",
    "<error/>",
    "<!DOCTYPE a",
    "<!ENTITY",
    "&a;",
    "]]>",
    "<![CDATA[",
    "<?xml",
    "<!--",
    "-->",
    "\x00",
)
fragments = st.sampled_from([*TAGS, *OTHERS, *string.printable])


@given(st.lists(fragments, max_size=60).map("".join))
def test_no_near_xml_raises(text: str) -> None:
    assert isinstance(read_junit(text.encode()), TestReport)


@given(st.lists(fragments, max_size=30).map("".join))
def test_any_message_is_read_as_it_is(message: str) -> None:
    cleaned = "".join(character for character in message if character in string.printable[:95])
    body = f"<testsuite><testcase name='a'><failure>{escape(cleaned)}</failure></testcase></testsuite>"
    assert read_junit(body.encode()).failures[0].details == cleaned
