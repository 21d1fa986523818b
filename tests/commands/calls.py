"""Calling ``python -m mannkern`` in this process, on runs that are small."""

import pytest

from mannkern.__main__ import main

EPISODES = (
    "--classes 2 --length 6 --hidden-size 8 --batch-size 2 --log-every 2 --validate-every 4 --threads 1 --episodes 20"
)
SIZES = f"{EPISODES} --memory-slots 6 --memory-width 4 --num-reads 2"

COPY = (
    "--bits 2 --max-length 3 --hidden-size 4 --memory-slots 6 --memory-width 3 --lstm-size 4 --batch-size 2 "
    "--log-every 2 --validate-every 4 --threads 1"
)

FEW_SHOT = (
    "--classes 2 --shots 2 --queries 2 --width 4 --batch-size 2 --log-every 2 --validate-every 4 --threads 1 "
    "--episodes 20"
)


def run(*parts: object) -> int:
    return main(" ".join(map(str, parts)).split())


def refused(capsys: pytest.CaptureFixture[str], *parts: object) -> str:
    """The one line with which a command is refused."""
    capsys.readouterr()
    assert run(*parts) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
    assert len(errors) == 1
    assert errors[0].startswith("mannkern: ")
    return errors[0]
