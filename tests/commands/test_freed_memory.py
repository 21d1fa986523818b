"""Memory that tensors have left stays in a process of the command line."""

import platform
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mannkern.commands import freed_memory

ROOT = Path(__file__).parents[2]

CODE = """
import resource, sys, torch
from mannkern.commands.freed_memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.ones(5 * 2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """M_MMAP_MAX (-4) becomes 0, M_TRIM_THRESHOLD (-1) the largest int: up to 2,147,483,647 freed bytes stay."""
    settings = {}
    malloc = SimpleNamespace(mallopt=settings.__setitem__)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: malloc)
    freed_memory.keep_freed_memory()
    assert settings == {-4: 0, -1: 2_147_483_647}


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory allocator is glibc's")
@pytest.mark.parametrize("keep", [True, False])
def test_a_large_tensor_takes_pages_of_the_one_before(keep: bool) -> None:
    command = [sys.executable, "-c", CODE, "keep" if keep else "leave"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 30) == keep  # 64 MB are 32 pages of 2 MB, or 16,384 of 4 kB


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: pytest.fail("there is no mallopt"))
    freed_memory.keep_freed_memory()


@pytest.mark.parametrize(("module", "arguments"), [("mannkern", ["--version"]), ("bench.science", ["-h"])])
def test_the_command_lines_keep_it(module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(freed_memory, "keep_freed_memory", lambda: called.append(True))
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)
    with pytest.raises(SystemExit):
        runpy.run_module(module, run_name="__main__")
    assert called


def test_so_does_the_installed_command() -> None:
    assert 'mannkern = "mannkern.__main__:command_line"' in (ROOT / "pyproject.toml").read_text()
