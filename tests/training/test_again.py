"""The command that a message advises: that of the package, or of the user's own file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mannkern.training.again import resume

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from mannkern.training.again import program, resume
print(program(), resume(Path("runs/a b")), sep="|")
"""


def test_example() -> None:
    assert resume(Path("runs/a b")) == "python -m mannkern train --run 'runs/a b' --resume"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["train", "parity"], "python 'my parity.py'"),  # it hands its command on
        ([], "python -m mannkern"),  # its command stands in it
        (["--epochs", "3"], "python -m mannkern"),  # it has options of its own
    ],
    ids=str,
)
def test_a_file_of_the_users(given: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "my parity.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "my parity.py", *given],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().split("|") == [expected, f"{expected} train --run 'runs/a b' --resume"]
