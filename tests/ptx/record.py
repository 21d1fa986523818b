"""The results of ``make gpu-proof``, a line of JSON each, so that a run that was stopped goes on where it was.

A result counts as long as what it depends on is unchanged: the kernels that its row runs and their sizes, the emulator,
the compiler.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mannkern.memories.lrua.verification import CASES as LRUA_CASES
from setup import find_nvcc
from tests.ptx.build import FOLDER, ROOT
from tests.ptx.table import NTM_EPISODE, Row
from tests.ptx.worker import Result

Key = tuple[str, int, str]  # name of the row, GPU, state
EMULATOR = ("checks", "contract", "decode", "instructions", "machine", "parse", "session")
LAUNCHERS = {"mask": "least_used", "read": "step", "step": "step", "usage": "write_usage", "write": "write_usage"}


def state(row: Row) -> str:
    """A hash of what a row's results depend on."""
    family = "lrua" if row.case in LRUA_CASES or row.check == "episode" else "ntm"
    paths = [*(FOLDER / "core").iterdir(), *(FOLDER / f"{name}.py" for name in EMULATOR)]
    paths += [ROOT / "mannkern" / "memories" / family / "reference.py", ROOT / "mannkern" / "memories" / "content.py"]
    if row.is_cuda:
        for source in _sources(row, family):
            paths += included(ROOT / "csrc" / "cuda" / f"{source}.cu")
    for launcher in _launchers(row):
        paths += imported(ROOT / "mannkern" / "triton" / "launch" / f"{launcher}.py")
    return _hash(tuple(sorted(set(paths))), f"{row.shape} {_compiler(row.is_cuda)}")


def _sources(row: Row, family: str) -> tuple[str, ...]:
    """The files of csrc/cuda that a row calls."""
    if row.check == "persistent":
        return ("mann",)
    if row.check == NTM_EPISODE:
        return ("ntm_episode",)
    if family == "lrua" and "ties" in row.check:
        return ("lrua", "lrua_scan")
    if family == "lrua":
        return ("lrua_scan",) if row.case.startswith("scan") else ("lrua",)
    return ("ntm",)


def _launchers(row: Row) -> tuple[str, ...]:
    """The modules of mannkern/triton/launch that a row calls."""
    if row.check == NTM_EPISODE:
        return ("ntm_episode",)
    if row.is_cuda:
        return ()
    if row.check == "episode":
        return ("episode",)
    if row.check == "ties of usage":
        return ("scan", "step")
    return (LAUNCHERS.get(row.case.split("_")[0], "scan"),)


@functools.cache
def _hash(paths: tuple[Path, ...], more: str) -> str:
    found = hashlib.sha256(more.encode())
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


@functools.cache
def _compiler(is_cuda: bool) -> str:
    if not is_cuda:
        return importlib.metadata.version("triton")
    return subprocess.run([str(find_nvcc()), "--version"], capture_output=True, text=True, check=True).stdout


@functools.cache
def included(path: Path) -> frozenset[Path]:
    """A C++ file and those of the project that it includes."""
    names = re.findall(r'^#include "(.*)"', path.read_text(), re.MULTILINE)
    return frozenset({path}.union(*(included((path.parent / name).resolve()) for name in names)))


@functools.cache
def imported(path: Path) -> frozenset[Path]:
    """A Python file of mannkern.triton and those of this package that it imports."""
    others = set[Path]()
    for line in ast.walk(ast.parse(path.read_text())):
        if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("mannkern.triton"):
            place = ROOT / str(line.module).replace(".", "/")
            others |= {place.with_suffix(".py"), *(place / f"{name.name}.py" for name in line.names)}
    return frozenset({path}.union(*(imported(other) for other in others - {path} if other.exists())))


class Record:
    """Results by row, GPU and state, each written to a file as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[Key, dict[str, Result]] = {}
        if path.exists() and not path.read_text().endswith("\n"):  # a run was killed as it wrote
            path.write_text(path.read_text() + "\n")
        for line in _whole_lines(path):
            key = (line["row"], line["gpu"], line["state"])
            self.results[key] = {way: Result(x[0], x[1], set(x[2])) for way, x in line["results"].items()}

    def forget(self) -> None:
        """Begin anew."""
        self.results.clear()
        self.path.unlink(missing_ok=True)

    def add(self, key: Key, results: dict[str, Result], seconds: float) -> None:
        """Append a result."""
        self.results[key] = results
        row, gpu, state = key
        found = {way: [x.wrong, x.figures, sorted(x.kernels)] for way, x in results.items()}
        content = {"gpu": gpu, "row": row, "state": state, "seconds": round(seconds, 1), "results": found}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(content) + "\n")


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a record but those that are cut off."""
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue
