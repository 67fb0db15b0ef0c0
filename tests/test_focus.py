"""Where failing tests and tasks point."""

from __future__ import annotations

from miyabi_cli.agent.focus import Evidence, find_focus

FILES = {
    "pkg/__init__.py": "",
    "pkg/money.py": """
import math


def convert(a, rate):
    return rounded(a * rate)


def rounded(x):
    return math.floor(x)
""",
    "pkg/other.py": """
def convert_names(names):
    return names


class Book:
    def add(self, entry):
        return entry
""",
    "tests/test_money.py": "from pkg.money import convert\n\n\ndef test_convert():\n    assert convert(1, 1.5) == 2\n",
    "tests/test_book.py": "from pkg import other\n\n\ndef test_add():\n    assert other.Book().add(1) == 2\n",
    "README.md": "# money",
}


def focus(
    task: str, output: str = "", failing: tuple[str, ...] = (), limit: int = 4_000
) -> list[tuple[str, tuple[str, ...]]]:
    found = find_focus(
        list(FILES),
        lambda path: FILES.get(path, ""),
        Evidence(task, output, failing),
        is_test=lambda path: path.startswith("tests/"),
        limit=limit,
    )
    return [(excerpt.path, excerpt.names) for excerpt in found]


def test_a_failing_test_leads_to_the_function_it_calls_and_on_to_what_that_calls() -> None:
    found = focus(
        "Fix the failing test.", "tests/test_money.py:5: AssertionError", ("tests.test_money::test_convert",), 120
    )
    assert found == [("pkg/money.py", ("convert", "rounded"))]


def test_a_traceback_leads_to_its_frames() -> None:
    assert focus("Fix it.", 'File "pkg/other.py", line 7, in add', limit=60) == [("pkg/other.py", ("Book.add",))]


def test_a_method_that_a_test_calls_is_found_through_the_import_of_its_module() -> None:
    assert focus("Fix it.", "tests/test_book.py:5: assert", ("tests/test_book.py::test_add",), 60) == [
        ("pkg/other.py", ("Book.add",))
    ]


def test_what_a_file_of_the_traceback_calls_is_not_what_the_tests_call() -> None:
    """Here `convert` is where it was raised, and `rounded`, which it calls, is a little likely alone."""
    evidence = Evidence("Fix it.", 'File "pkg/money.py", line 6, in convert')
    (found,) = find_focus(list(FILES), lambda path: FILES[path], evidence, is_test=lambda _: False, limit=4_000)
    assert (found.path, found.likeliest) == ("pkg/money.py", ("convert",))


def test_a_name_or_a_file_in_the_task_is_enough() -> None:
    assert focus("convert_names must sort its names", limit=60)[0][0] == "pkg/other.py"
    assert focus("document pkg/money.py")[0][0] == "pkg/money.py"


def test_a_small_file_is_shown_whole_and_a_large_one_in_part_with_its_imports() -> None:
    def excerpt(limit: int) -> tuple[bool, str]:
        (found,) = find_focus(
            list(FILES),
            lambda path: FILES.get(path, ""),
            Evidence("look at rounded in pkg/money.py"),
            is_test=lambda path: path.startswith("tests/"),
            limit=limit,
        )
        return found.whole, found.text

    whole, text = excerpt(4_000)
    assert whole
    assert text == FILES["pkg/money.py"].strip("\n")
    part, text = excerpt(50)
    assert not part
    assert text == "import math\n\ndef rounded(x):\n    return math.floor(x)"


def test_where_nothing_points_anywhere_a_small_repository_is_all_there_is() -> None:
    assert {path for path, _ in focus("do something nice")} == {"pkg/money.py", "pkg/other.py"}
