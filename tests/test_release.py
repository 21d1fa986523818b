"""The packages: their metadata agree, the workflows call what exists, and ``make release-check`` installs for real."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mannkern
from release import check

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_versions_and_authors_agree() -> None:
    """pyproject.toml, the package, CITATION.cff and the licence name one version and the same authors."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'version = "{mannkern.__version__}"' in PROJECT
    assert f"\nversion: {mannkern.__version__}\n" in citation
    assert "Copyright (c) 2026 The mannkern authors" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert 'authors = [{ name = "The mannkern authors" }]' in PROJECT
    assert "\nauthors:\n  - name: The mannkern authors\n" in citation


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)[ \n`]", text)) <= targets
    for name in re.findall(r"[\w/]+\.(?:py|txt)\b", text):
        assert (ROOT / name).exists(), f"{path.name} names {name}"
    assert "Not run yet" in text, "it says what has not been run"


def test_pythons_of_this_machine() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert check.pythons(["2.0"]) == {}
    for name, program in check.pythons([here]).items():
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        assert said.startswith(f"Python {name}.")


def test_a_wheel_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--wheel", str(tmp_path / "no.whl")]) == 2
    assert "make wheel" in capsys.readouterr().out


def test_a_broken_wheel_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment that sees this Python's torch, a wheel whose package cannot be imported."""
    wheel = tmp_path / "mannkern-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("mannkern/__init__.py", "raise ImportError('broken for this test')")
        files.writestr("mannkern-0.dist-info/METADATA", "Metadata-Version: 2.1\nName: mannkern\nVersion: 0\n")
        files.writestr("mannkern-0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files.writestr("mannkern-0.dist-info/RECORD", "")
    monkeypatch.setattr(check, "install_torch", lambda run, *_: ((run, "-c", ""),))
    outcome = check.check(sys.executable, "3", "2.10.0", wheel, [], tmp_path / "folder", tmp_path)
    assert (outcome.verdict, outcome.text) == ("WRONG", "ImportError: broken for this test")
