"""``mannkern completion``: bash itself completes commands and options with the printed script."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

import pytest

from mannkern.commands import options
from tests.commands.calls import refused, run

needs_shtab = pytest.mark.skipif(importlib.util.find_spec("shtab") is None, reason="shtab is not installed")
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@needs_shtab
@needs_bash
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("mannkern", "tr"), {"train"}),
        (("mannkern", "bench", "--memory-sl"), {"--memory-slots"}),
        (("mannkern", "verify", "--th"), {"--threads"}),
        (("mannkern", "train", "--model", "matching-"), {"matching-fce"}),
        (("mannkern", "evaluate", "mann-gl"), {"mann-glyphs"}),
        (("mannkern", "train", "copy", "--run", "/us"), {"/usr"}),
    ],
    ids=["command", "bench", "verify", "value", "model", "folder"],
)
def test_bash_completes(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], wanted: set[str]) -> None:
    assert run("completion bash") == 0
    script = capsys.readouterr().out
    typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_mannkern"
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{typed}; echo "${{COMPREPLY[@]}}"'], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == wanted


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None)
    assert refused(capsys, "completion bash") == "mannkern: needs shtab: pip install shtab"
