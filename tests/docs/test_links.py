"""Links and citations in documents and code point to what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.markdown import ROOT, anchor, files, headings, links, text

CODE = ("bench", "csrc", "examples", "mannkern", "tests")
SUFFIXES = {".py", ".h", ".cpp", ".cu"}


def test_links_and_headings_of_a_page_by_hand() -> None:
    page = "# Write weights\n\nSee [usage](docs/equations.md#usage) and `a](b)`.\n\n```\n# no heading\n```\n"
    assert links(page + "![picture](cpu.png) [paper](https://arxiv.org)") == ["docs/equations.md#usage", "cpu.png"]
    assert headings(page) == ["Write weights"]
    assert anchor("What was reached, and why") == "what-was-reached-and-why"


@pytest.mark.parametrize("path", files(), ids=str)
def test_links_point_to_files_and_headings(path: Path) -> None:
    missing = []
    for link in links(text(path)):
        name, _, fragment = link.partition("#")
        target = (ROOT / path.parent / name).resolve() if name else ROOT / path
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (fragment and fragment not in map(anchor, headings(target.read_text(encoding="utf-8")))):
            missing.append(link)
    assert not missing, f"{path} links to what does not exist: {missing}"


def citations(code: str) -> Iterator[str]:
    """What code cites as "docs/equations.md, usage": the words after the comma."""
    yield from re.findall(r"docs/equations\.md, ([a-zA-Z][a-zA-Z -]*)", code)


def test_code_cites_equations_that_exist() -> None:
    names = [heading.lower() for heading in headings(text("docs/equations.md"))]
    assert list(citations("# See docs/equations.md, write weights.")) == ["write weights"]
    wrong = [
        f"{path.relative_to(ROOT)}: {cited}"
        for folder in CODE
        for path in (ROOT / folder).rglob("*")
        if path.suffix in SUFFIXES and path != Path(__file__)
        for cited in citations(path.read_text(encoding="utf-8"))
        if not any(cited.lower().startswith(name) for name in names)
    ]
    assert not wrong, f"no heading of docs/equations.md: {wrong}"


def test_facts_justify_files_that_exist() -> None:
    facts = "".join(text(f"docs/facts/{name}.md") for name in ("cpu", "training", "gpu"))
    paths = set(re.findall(r"`((?:mannkern|csrc)/[\w/]+\.\w+)`", facts))
    assert len(paths) > 10
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert not missing, f"docs/facts names files that do not exist: {missing}"
