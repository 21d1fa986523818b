"""The Markdown files of the repository: their Python blocks, links and headings."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "bench", "csrc", "docs", "docs/api", "docs/facts", "docs/models", "examples")


def files() -> list[Path]:
    """Every document, by its path from the root."""
    return sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))


def text(path: Path | str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def python_blocks(markdown: str) -> list[str]:
    """The code of each block that is marked as Python."""
    return re.findall(r"^```python\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)


def links(markdown: str) -> list[str]:
    """Targets of links and pictures that point into the repository, without code and code blocks."""
    prose = re.sub(r"^```.*?^```|^ {4}.*?$|`[^`\n]*`", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]


def headings(markdown: str) -> list[str]:
    """The text of each heading, without code blocks."""
    return re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
