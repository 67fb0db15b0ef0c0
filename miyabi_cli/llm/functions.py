"""The functions that every provider offers for single answers: code, tests and documentation, by `call_function`."""

from __future__ import annotations

from typing import Any

from miyabi_cli.messages import Function


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the schema of a closed object: with every field required, any server's strict mode takes it."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


GENERATE_CODE = Function(
    "generate_code",
    "Write the code that is asked for: whole, working, with its imports, and nothing left out.",
    _object(
        {
            "language": _text("The programming language in lower case, such as python or typescript."),
            "code": _text("The source code itself, without a code fence or line numbers."),
            "path": _text("Where the file belongs, relative to the repository's root, if that is known."),
            "explanation": _text("What the code does and why it is so, in one to three sentences."),
        },
        optional=("path",),
    ),
)

GENERATE_TESTS = Function(
    "generate_tests",
    "Write tests for the code that is shown: what it is for, its edges, and how it fails. Each test can fail.",
    _object(
        {
            "framework": _text("The test framework in lower case, such as pytest, unittest or jest."),
            "tests": {
                "type": "array",
                "description": "The tests in the order in which they belong in the file.",
                "minItems": 1,
                "items": _object(
                    {
                        "name": _text("The test's name, such as test_an_empty_list_has_no_maximum."),
                        "code": _text("The whole source code of the test, with the imports that it needs."),
                    }
                ),
            },
        }
    ),
)

GENERATE_DOCUMENTATION = Function(
    "generate_documentation",
    "Write documentation for the code that is shown. Say what is true of it, and nothing that can't be seen in it.",
    _object(
        {
            "format": {
                "type": "string",
                "enum": ["markdown", "restructuredtext", "docstring", "text"],
                "description": "The markup of the documentation; docstring: the text of one, without its quotes.",
            },
            "documentation": _text("The documentation itself, without a code fence around it."),
        }
    ),
)

FUNCTIONS = (GENERATE_CODE, GENERATE_TESTS, GENERATE_DOCUMENTATION)
