"""The compiled library as a file: its instruction sets, and a package whose library is missing or damaged."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mannkern
from mannkern.backends import native
from tests.helpers import CPP

ISAS = [isa for _, isa in CPP]


@pytest.fixture
def restored_isa() -> Iterator[None]:
    before = native.isa()
    yield
    native.set_isa(before)


@pytest.mark.usefixtures("restored_isa")
def test_example() -> None:
    """Each instruction set of this machine can be chosen, the best one last; an unknown name changes nothing."""
    for isa in ISAS:
        assert native.set_isa(isa)
        assert native.isa() == isa
        assert f"({isa})" in str(mannkern.backend_info())
    assert not native.set_isa("none such")
    assert native.isa() == ISAS[-1]


def run(code: str) -> str:
    """The output of ``code`` in a new Python process."""
    root = Path(mannkern.__file__).parents[1]
    return subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True).stdout


def in_a_copy(tmp_path, break_library: Callable) -> str:
    """The output of a copy of the package whose library ``break_library`` removes or damages."""
    package = Path(mannkern.__file__).parent
    shutil.copytree(package, tmp_path / "mannkern", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    break_library(tmp_path / "mannkern")
    return run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import warnings; warnings.simplefilter('ignore')\n"
        "import torch, mannkern; from mannkern import functional; from mannkern.backends import native\n"
        "print(native.reason, '|', native.isa(), '|', native.set_isa('portable'), '|',"
        "functional.least_used_mask(torch.tensor([[2.0, 1.0]]), 1).tolist())"
    )


@pytest.mark.slow
def test_importing_does_not_import_triton() -> None:
    """Importing Triton takes seconds, and it may not be installed."""
    code = "import sys, mannkern; mannkern.backend_info(); print('triton' in sys.modules)"
    assert run(code) == "False\n"


@pytest.mark.slow
def test_a_package_without_the_library(tmp_path) -> None:
    said = in_a_copy(tmp_path, lambda package: None)
    assert said.startswith("the compiled library was not built")
    assert said.endswith("|  | False | [[0.0, 1.0]]\n")


@pytest.mark.slow
def test_a_library_that_does_not_load(tmp_path) -> None:
    said = in_a_copy(tmp_path, lambda package: (package / "_C.abi3.so").write_bytes(b"not a library"))
    assert said.startswith("the compiled library does not load")
    assert said.endswith("|  | False | [[0.0, 1.0]]\n")


@pytest.mark.slow
def test_default_isa_is_the_best_that_runs() -> None:
    assert run("from mannkern.backends import native; print(native.isa())").strip() == ISAS[-1]
