"""Docstrings of the project as Markdown: lists of arguments, examples, names of other objects, brackets of equations.

A docstring is written to be read in an editor: ``name: what it is`` on lines of their own, ``[h]`` as in the papers,
examples as a session of Python.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe

ITEM = re.compile(r"(\w+(?:, \w+)*):\s+(\S.*)")
ROLE = re.compile(r":(?:class|func|meth|mod):`([\w.]+)`")
SPAN = re.compile(r"(:\w+:`[\w.]+`|``.*?``|`[^`]*`)")
_SPECIAL = re.compile(r"([\[\]<>*_])")
REFERENCE = Path(__file__).parents[1] / "api"
LINKED = {
    name for page in REFERENCE.glob("*.md") for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
}


def to_markdown(text: str) -> str:
    """A docstring, without its indentation, as Markdown."""
    out: list[str] = []
    kind = ""  # of the lines before: "item", "example", or text
    for line in text.splitlines():
        if line.startswith((">>> ", "... ")) or (kind == "example" and line.strip()):
            if kind != "example":
                out += ["", "```pycon"]
            kind = "example"
            out.append(line)
            continue
        if kind == "example":
            out += ["```", ""]
            kind = ""
        item = ITEM.fullmatch(line)
        if item and item[1].islower():
            out += [*([] if kind == "item" else [""]), f"- `{item[1]}`: {escape(item[2])}"]
            kind = "item"
        elif kind == "item" and line.startswith(" "):
            out.append(f"  {escape(line.strip())}")
        elif line.startswith("    "):  # equations
            kind = ""
            out.append(line)
        else:
            if kind == "item" and line:
                out.append("")
            kind = ""
            out.append(escape(line))
    return "\n".join([*out, "```"] if kind == "example" else out)


def escape(text: str) -> str:
    """Text in which brackets are themselves, and names of objects are code, or links if they have a page."""
    return "".join(_span(part) if SPAN.fullmatch(part) else _SPECIAL.sub(r"\\\1", part) for part in SPAN.split(text))


def _span(text: str) -> str:
    role = ROLE.fullmatch(text)
    if role is None:
        return text
    return f"[`{role[1]}`][{role[1]}]" if role[1] in LINKED else f"`{role[1]}`"


class Docstrings(griffe.Extension):
    """Turns every docstring of the project into Markdown as it is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
