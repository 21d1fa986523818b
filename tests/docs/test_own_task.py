"""The code of docs/your-own-task.md runs, and what it registers learns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mannkern import MANNCell
from mannkern.experiments import registry
from mannkern.models import CORES
from tests.commands.calls import run
from tests.docs.markdown import python_blocks, text
from tests.training.launch import launch

SEQUENCES, MODEL, RULE, LOSS = python_blocks(text("docs/your-own-task.md"))


def execute(code: str, scope: dict[str, Any]) -> None:
    """Run ``code`` as a file of its own, without the ``from __future__`` of this one."""
    exec(compile(code, "your-own-task.md", "exec", dont_inherit=True), scope)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Runs go to a folder of their own, with one thread, and the registry is as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "KINDS", list(registry.KINDS))
    before = torch.get_num_threads()
    yield
    CORES.pop("gru", None)
    torch.set_num_threads(before)


def test_sequences_of_your_own(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    execute(SEQUENCES.replace("--steps 300", "--steps 150 --threads 1 --episodes 50"), scope)
    out = capsys.readouterr().out
    assert "LSTM on parity" in out
    assert out.splitlines()[-1].startswith("tensor([")
    assert json.loads(Path("runs/parity/evaluation.json").read_text())["accuracy"] > 0.55
    assert run("evaluate runs/parity --episodes 20") == 0
    assert run("train parity --resume --steps 151 --no-evaluate --run runs/parity") == 0


def test_a_model_of_your_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        execute(MODEL.replace("--steps 20", "--steps 2 --batch-size 2 --hidden-size 8 --threads 1"), {})
    assert end.value.code == 0
    assert "GRU" in capsys.readouterr().out


def test_a_memory_rule_of_your_own() -> None:
    """The sequence gives what a loop over a plain cell gives, whose memory is scaled before each step."""
    scope: dict[str, Any] = {}
    execute(RULE.replace("torch.randn(50", "torch.randn(4"), scope)
    plain, state = MANNCell(405, 200), None
    plain.load_state_dict(scope["fading"].cell.state_dict())
    x = torch.randn(4, 3, 405)
    for step in x:
        state = plain.initial_state(3) if state is None else state
        output, state = plain(step, state._replace(memory=0.99 * state.memory))
    outputs, last = scope["fading"](x)
    torch.testing.assert_close(outputs[-1], output)
    torch.testing.assert_close(last.memory, state.memory)


def test_both_run_in_several_processes(tmp_path: Path) -> None:
    for code, last in ((SEQUENCES, "--steps 300"), (LOSS, "--slope 3")):
        launch(2, tmp_path / last.split()[0], execute, code.replace(last, "--steps 20 --threads 1 --episodes 20"), {})
    for name in ("parity", "line"):
        assert json.loads(Path(f"runs/{name}/evaluation.json").read_text())["step"] == 20


def test_a_loss_of_your_own(capsys: pytest.CaptureFixture[str]) -> None:
    execute(LOSS.replace("--slope 3", "--slope 3 --threads 1 --episodes 50"), {})
    out = capsys.readouterr().out
    assert "LINEAR: 300 steps, 4,800 points of training" in out
    assert "learning_curve.png" in out
    assert json.loads(Path("runs/line/evaluation.json").read_text())["error"] < 0.8
