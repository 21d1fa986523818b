"""A core that is registered is a model of the command line: one line, and no other file knows of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mannkern.models.cores import CORES, Core, CoreSettings, register_core
from mannkern.training.checkpoint import load_checkpoint
from tests.commands.calls import COPY, SIZES, refused, run


class RingState(NamedTuple):
    memory: Tensor
    read_weights: Tensor
    write_weights: Tensor


class RingCell(nn.Module):
    """Step t writes the hidden state into slot t mod N, and reads all slots by a softmax of dot products."""

    def __init__(self, input_size: int, hidden_size: int, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.layer = nn.Linear(input_size, hidden_size)

    def initial_state(self, batch_size: int) -> RingState:
        first = torch.eye(self.slots)[-1:].expand(batch_size, 1, -1)  # so that the first write goes to slot 0
        memory = torch.zeros(batch_size, self.slots, self.layer.out_features)
        return RingState(memory, torch.zeros_like(first), first)

    def step(self, input: Tensor, state: RingState) -> tuple[Tensor, RingState]:
        hidden = torch.tanh(self.layer(input))
        write = state.write_weights.roll(1, 2)
        memory = torch.where(write[:, 0, :, None] > 0, hidden[:, None], state.memory)
        read = torch.softmax(hidden[:, None] @ memory.mT, 2)
        return torch.cat([hidden, (read @ memory)[:, 0]], 1), RingState(memory, read, write)


class Ring(nn.Module):
    def __init__(self, settings: CoreSettings) -> None:
        super().__init__()
        self.cell = RingCell(settings.input_size, settings.hidden_size, settings.memory_slots)
        self.output_size = 2 * settings.hidden_size

    def forward(self, inputs: Tensor) -> tuple[Tensor, Any]:
        state, outputs = self.cell.initial_state(inputs.shape[1]), []
        for x in inputs:
            output, state = self.cell.step(x, state)
            outputs.append(output)
        return torch.stack(outputs), state


@pytest.fixture(autouse=True)
def ring() -> Iterator[None]:
    register_core(Core("ring", Ring, has_memory=True, options=("decay",), even_reads=True))
    yield
    del CORES["ring"]


def test_two_steps_of_the_ring_by_hand() -> None:
    """Weight 1 and no bias: 0.5 goes into slot 0, then -0.5 into slot 1, which its own dot product favours."""
    core = Ring(CoreSettings(1, hidden_size=1, memory_slots=2))
    with torch.no_grad():
        core.cell.layer.weight.fill_(1.0)
        core.cell.layer.bias.zero_()
    h = torch.tensor(0.5).tanh()
    _, state = core(torch.tensor([0.5, -0.5]).view(2, 1, 1))
    torch.testing.assert_close(state.memory.flatten(), torch.stack([h, -h]))
    torch.testing.assert_close(state.read_weights.flatten(), torch.softmax(torch.stack([-h * h, h * h]), 0))


@pytest.mark.parametrize(("task", "sizes"), [("glyphs", SIZES), ("copy", COPY)])
def test_a_registered_core_trains_resumes_and_is_drawn(
    task: str, sizes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert run(f"train {task} --model ring --steps 4 --episodes 4 --run", folder, sizes) == 0
    out = capsys.readouterr().out
    assert f"RING on {task}" in out
    assert "RING: 4 steps" in out
    assert {"glyphs": "memory.png", "copy": "sequence-3.png"}[task] in out, "its trace is drawn"
    assert run("train --resume --steps 5 --no-evaluate --run", folder) == 0
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint["step"] == 5
    assert "recurrent.cell.layer.weight" in checkpoint["model"]


def test_its_settings_apply_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"--run {tmp_path / 'new'}"
    said = refused(capsys, "train glyphs --model ring --key-strength", new)
    assert "--key-strength does not apply to ring, only to mann" in said
    said = refused(capsys, "train glyphs --model lstm --decay 0.9", new)
    assert "--decay does not apply to lstm, only to mann, ring" in said
    with pytest.raises(SystemExit):
        run("train glyphs --help")
    text = " ".join(capsys.readouterr().out.split())
    for words in ("{mann,ntm,lstm,feedforward,ring}", "mann, ring: decay of usage", "mann, ntm, ring: slots N"):
        assert words in text
