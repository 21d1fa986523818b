"""The documentation site: how docstrings and links become pages, and that it builds without a warning."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.docs.markdown import ROOT


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_docstring_by_hand() -> None:
    text = """A read w_r[h] of :class:`mannkern.MANN`, ``x_t``.

key:      what is looked for,
          of width W
add, gate: others
More text.

    an = equation

>>> 1 + 1
2
"""
    expected = """A read w\\_r\\[h\\] of [`mannkern.MANN`][mannkern.MANN], ``x_t``.


- `key`: what is looked for,
  of width W
- `add, gate`: others

More text.

    an = equation


```pycon
>>> 1 + 1
2
```"""
    assert module("docstrings").to_markdown(text) == expected


def test_places_of_pages() -> None:
    pages = module("pages")
    assert pages.site_path("README.md") == "index.md"
    assert pages.site_path("docs/models/mann.md") == "models/mann.md"
    assert pages.site_path("bench/README.md") == "bench/README.md"
    assert [pages.repository_path(page) for page in ("index.md", "csrc/README.md", "facts/cpu.md")] == [
        "README.md",
        "csrc/README.md",
        "docs/facts/cpu.md",
    ]


def test_it_builds_and_its_links_hold(tmp_path: Path) -> None:
    """--strict makes every warning an error; links to pages and their headings are checked in what was written too."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    wrong = []
    for path, text in pages.items():
        for link in re.findall(r'<a [^>]*href="([^"]*)"', text):
            name, _, fragment = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            if "://" in link or path.name == "404.html" or target.suffix != ".html":
                continue
            if target not in pages or (fragment and fragment not in ids[target]):
                wrong.append(f"{path.relative_to(tmp_path)}: {link}")
        for kind, name in re.findall(r'<(link|script|img)\b[^>]* (?:href|src)="([^"#?]*)', text):
            if "://" not in name and path.name != "404.html" and not (path.parent / name).exists():
                wrong.append(f"{path.relative_to(tmp_path)}: {kind} {name}")
    assert not wrong
    assert (tmp_path / "site" / "style.css").exists()
    assert 'id="mannkern.functional.lrua_step"' in pages[tmp_path / "api" / "functional.html"]
