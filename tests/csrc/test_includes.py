"""The folders of csrc include only what csrc/README.md says, so that no kernel sees torch or a host file."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
# folder: the folders and files of csrc that its files may include
ALLOWED = {
    "args": {"args"},
    "cpu/kernels": {"args", "cpu/kernels"},
    "host": {"args", "host"},
    "cpu": {"args", "host", "cpu", "cpu/kernels/kernels.h"},
    "cuda": {"args", "host", "cuda", "cpu/kernels/row_math.h"},
}
WITHOUT_TORCH = ("args", "cpu/kernels")


def violations(csrc: Path) -> list[str]:
    """Each include that breaks the rules, as "file: name". A file of no listed folder may include nothing of csrc."""
    broken = []
    for file in sorted(path for path in csrc.rglob("*") if path.suffix in {".h", ".cpp", ".cu"}):
        folder = file.parent.relative_to(csrc).as_posix()
        for quote, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', file.read_text(), re.MULTILINE):
            if quote == "<":  # headers of the C++ standard library have neither folder nor extension
                own = re.fullmatch(r"[a-z_]+|immintrin\.h", name)  # the latter is the compiler's
                right = own is not None or folder not in WITHOUT_TORCH
            else:
                target = (file.parent / name).resolve()
                inside = target.is_relative_to(csrc.resolve())
                path = target.relative_to(csrc.resolve()).as_posix() if inside else name
                allowed = ALLOWED.get(folder, set()) & {path, Path(path).parent.as_posix()}
                right = target.exists() and bool(allowed)
            if not right:
                broken.append(f"{file.relative_to(csrc).as_posix()}: {name}")
    return broken


def test_a_kernel_that_includes_torch_or_a_host_file_is_found(tmp_path: Path) -> None:
    kernels = tmp_path / "cpu" / "kernels"
    kernels.mkdir(parents=True)
    (tmp_path / "cpu" / "dispatch.h").touch()
    (kernels / "right.h").write_text("#include <vector>\n")
    wrong = ("torch/csrc/stable/tensor.h", "../dispatch.h", "../../args/missing.h")
    includes = [f"#include <{wrong[0]}>", *(f'#include "{name}"' for name in ("right.h", *wrong[1:]))]
    (kernels / "wrong.h").write_text("\n".join(includes))
    assert violations(tmp_path) == [f"cpu/kernels/wrong.h: {name}" for name in wrong]


def test_every_include_of_csrc_is_allowed() -> None:
    assert {file.parent.relative_to(CSRC).as_posix() for file in CSRC.rglob("*.h")} == set(ALLOWED)
    assert violations(CSRC) == []


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("file", sorted(path.name for path in (CSRC / "args").glob("*.h")))
def test_an_argument_header_compiles_alone(file: str) -> None:
    command = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", "-include"]
    subprocess.run([*command, str(CSRC / "args" / file), "/dev/null"], check=True)
