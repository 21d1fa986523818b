"""Calling ``python -m mannkern`` in this process, on runs that are small."""

import pytest

from mannkern.__main__ import main

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
