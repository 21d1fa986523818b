"""The check by compute-sanitizer, with a script in its place."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

from mannkern import MANN, NTM
from tests.gpu import episodes, sanitizer


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a tool that logs its arguments and environment beside it, then does as its first line says."""
    path = tmp_path / "compute-sanitizer"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path.write_text(f'#!/bin/sh\necho "$2 $6 $7 $PYTORCH_NO_CUDA_MEMORY_CACHING" >> {tmp_path}/log\n')
    path.chmod(0o755)
    return path


def add(tool: Path, line: str) -> None:
    tool.write_text(tool.read_text() + line)


def test_example(tool: Path) -> None:
    """Both of its tools look at this module's kernels, each tensor of which is an allocation of its own."""
    assert sanitizer.sanitizer(100) is None
    log = tool.with_name("log").read_text().splitlines()
    assert log == [f"{kind} -m tests.gpu.sanitizer 1" for kind in ("memcheck", "racecheck")]


def test_what_it_finds_is_the_answer(tool: Path) -> None:
    add(tool, "echo Invalid __global__ read; exit 99\n")
    with pytest.raises(AssertionError, match="memcheck: Invalid __global__ read"):
        sanitizer.sanitizer(100)


def test_at_the_time_limit_it_ends_with_its_children(tool: Path) -> None:
    """A child that holds the tool's output would keep ``communicate`` waiting."""
    add(tool, f"{sys.executable} -c 'import time; time.sleep(600)' & echo $! > {tool}.pid; wait\n")
    begin = time.monotonic()
    assert sanitizer.sanitizer(2) == "not run: took more than 2 s, in memcheck"
    assert time.monotonic() - begin < 60
    child = Path(f"/proc/{Path(f'{tool}.pid').read_text().strip()}/status")
    assert not child.exists() or "Z (zombie)" in child.read_text()


def test_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert sanitizer.sanitizer() == "not run: needs compute-sanitizer"


def test_kernels_of_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operations, and an episode of a MANN, of an NTM and of a MANN in CUDA C++, once each, without a graph."""
    built = []
    build = lambda module, sizes, dtype=None, **options: built.append((module, sizes, options))  # noqa: E731
    monkeypatch.setattr(episodes, "build", build)
    monkeypatch.setattr(episodes, "why_not", lambda *args, **sizes: "")
    monkeypatch.setattr(episodes, "draw", lambda model, T, B: (T, B))
    stepped = []
    monkeypatch.setattr(episodes, "step", lambda model, x: stepped.append(x))
    monkeypatch.setattr(sanitizer, "inputs", lambda: [("a", "case", 1, 2)])
    evaluated = []
    monkeypatch.setattr(sanitizer, "evaluate", lambda *args: evaluated.append(args))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    sanitizer.kernels()
    assert evaluated == [("case", 1, 2, "a")]
    assert built == [(MANN, episodes.SMALL, {}), (NTM, episodes.SMALL, {}), (MANN, episodes.SMALL, {"backend": "cuda"})]
    assert stepped == [(2, 3)] * 3
