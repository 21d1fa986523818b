"""The wording of errors: the argument, what came and what is needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHRASES = ("does not apply to", "{error}", "pixels of mode")  # an option beside another; errors completed elsewhere


def messages(source: str) -> Iterator[str]:
    """The texts of the errors of wrong arguments that a file raises, with {x} for what is inserted."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        name = ast.unparse(node.exc.func)
        if name in ("ValueError", "TypeError") and node.exc.args and isinstance(node.exc.args[0], ast.JoinedStr):
            parts = node.exc.args[0].values
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
                for part in parts
                if isinstance(part, (ast.Constant, ast.FormattedValue))
            )


def test_messages_by_hand() -> None:
    source = 'raise ValueError(f"n: got {n}, " f"need {m + 1}")\nraise KeyError(f"{n}")\nraise ValueError'
    assert list(messages(source)) == ["n: got {n}, need {m + 1}"]


@pytest.mark.parametrize("path", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "mannkern").rglob("*.py")))
def test_errors_say_what_came_and_what_is_needed(path: str) -> None:
    for message in messages((ROOT / path).read_text()):
        assert (": got " in message and ", need " in message) or any(p in message for p in PHRASES), message
