"""Functions of a model's reply, put in the place of the old ones."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miyabi_cli.agent.languages.language import CodeRefused
from miyabi_cli.agent.languages.python import definitions, replace_definitions, trimmed_code

SOURCE = '''"""Doc."""
import os
from a import b


@cached
def one(x):
    """Doc of one."""
    return x - 1  # why


class Box:
    size = 3

    def grow(self, by):
        return self.size - by

    async def wait(self):
        return helper(self)


def two():
    return 2
'''


def test_definitions_have_names_lines_and_calls() -> None:
    found = {one.name: one for one in definitions(SOURCE)}
    assert list(found) == ["one", "Box.grow", "Box.wait", "two"]
    assert found["one"].source.startswith("@cached\ndef one(x):")
    assert (found["Box.grow"].indent, found["one"].indent) == (4, 0)
    assert found["Box.wait"].calls == {"helper"}
    lines = SOURCE.split("\n")
    for one in found.values():
        assert "\n".join(lines[one.first - 1 : one.last]) == one.source


def test_a_function_takes_the_place_of_its_namesake_and_nothing_else_moves() -> None:
    new = replace_definitions(SOURCE, "@cached\ndef one(x):\n    return x + 1\n", ["one"])
    assert new == SOURCE.replace("x - 1  # why", "x + 1")


def test_the_old_docstring_stays_whatever_the_model_made_of_it() -> None:
    expected = SOURCE.replace("x - 1  # why", "x + 1")
    for docstring in ("", '    """Short."""\n', '    """\n    Much\n    longer.\n    """\n'):
        code = f"@cached\ndef one(x):\n{docstring}    return x + 1\n"
        assert replace_definitions(SOURCE, code, ["one"]) == expected
    method = 'class A:\n    def f(self):\n        """Doc\n        of f."""\n        return 1\n'
    bare = 'def f(self):\n    """No."""\n    return 2\n'
    assert replace_definitions(method, bare, ["A.f"]) == method.replace("return 1", "return 2")
    assert replace_definitions(method, "def f(self): return 2", ["A.f"]) == "class A:\n    def f(self): return 2\n"


def test_a_method_may_come_in_its_class_or_bare() -> None:
    expected = SOURCE.replace("self.size - by", "self.size + by")
    in_class = "class Box:\n    def grow(self, by):\n        return self.size + by\n"
    bare = "def grow(self, by):\n    return self.size + by\n"
    assert replace_definitions(SOURCE, in_class, []) == expected
    assert replace_definitions(SOURCE, bare, ["Box.grow"]) == expected


def test_what_is_new_goes_to_the_end_and_its_imports_to_the_imports() -> None:
    function = "def one(x):\n    return re.sub('a', 'b', x)\n\n"
    code = f"import os\nimport re\nfrom a import b\n\n{function}class New:\n    pass\n\nprint(one('a'))\n"
    new = replace_definitions(SOURCE, code, ["one"])
    assert "import os\nfrom a import b\nimport re\n" in new
    assert new.endswith("def two():\n    return 2\n\n\nclass New:\n    pass\n")
    assert "print" not in new


def test_imports_go_below_the_docstring_where_there_are_none_yet() -> None:
    new = replace_definitions(
        '"""Doc."""\n\n\ndef f():\n    return 1\n', "import re\n\ndef f():\n    return re.M\n", ["f"]
    )
    assert new.startswith('"""Doc."""\nimport re\n\n')


def test_strings_of_many_lines_keep_their_bytes() -> None:
    source = "class A:\n    def f(self):\n        return 1\n"
    method = 'class A:\n    def f(self):\n        return """\nno margin\n"""\n'
    assert replace_definitions(source, method, ["A.f"]) == method


@pytest.mark.parametrize("code", ["x = 1", "def test_one():\n    pass", "not python at all"])
def test_code_without_a_wanted_function_is_refused(code: str) -> None:
    with pytest.raises(CodeRefused):
        replace_definitions(SOURCE, code, ["one"])


def test_prose_after_the_code_is_cut_and_indentation_taken_off() -> None:
    assert trimmed_code("    def f():\n        return 1\n\nThis fixes it!") == "def f():\n    return 1"
    with pytest.raises(CodeRefused):
        trimmed_code("I am sorry, I can not do that")


@given(st.text(alphabet=st.sampled_from("def f():\n return x'\"`ab#@\t{}[]\\\x00é"), max_size=80))
def test_no_text_breaks_the_file(text: str) -> None:
    try:
        new = replace_definitions(SOURCE, trimmed_code(text), ["one"])
    except CodeRefused:
        return
    ast.parse(new)
    assert "class Box:\n    size = 3\n" in new
