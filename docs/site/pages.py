"""What mkdocs builds beside docs/: the documents in other folders, and links that are right on the site and on GitHub.

The documents link to each other by their places in the repository. Here a link to one of them becomes a link to its
page, and a link to a source file, which has no page, becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOME = "README.md"
ELSEWHERE = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "bench/README.md", "csrc/README.md")
CODE = re.compile(r"(^```.*?^```|^    .*?$|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(([^)\s:]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the README as the home page, the other documents, and the pictures that they show."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / HOME)))
    pictures = [path.relative_to(ROOT).as_posix() for path in (ROOT / "bench" / "results").glob("*.png")]
    for name in (*ELSEWHERE, *pictures):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """The page with its links as the site needs them."""
    here = page.file.src_uri

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        name, hash_, fragment = target.partition("#")
        if not name:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(repository_path(here)), name))
        if not (ROOT / path).exists():
            raise ValueError(f"{repository_path(here)}: the link to {target} leads to no file")
        place = site_path(path)
        if files.get_file_from_path(place) is None:
            return match[0] if picture else words
        return f"{picture}[{words}]({posixpath.relpath(place, posixpath.dirname(here))}{hash_}{fragment})"

    return "".join(part if CODE.fullmatch(part) else LINK.sub(link, part) for part in CODE.split(markdown))


def repository_path(page: str) -> str:
    """The place in the repository of a page of the site."""
    if page == "index.md":
        return HOME
    return page if page in ELSEWHERE else f"docs/{page}"


def site_path(path: str) -> str:
    """The page, or picture, of a file of the repository."""
    if path == HOME:
        return "index.md"
    return path.removeprefix("docs/")
