"""The registry of cores: what each is, which settings it understands, and that a new one is one line."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN, NTM
from mannkern.models.cores import CORES, Core, CoreSettings, build_core, register_core, understanding, with_memory


def test_a_tanh_layer_by_hand() -> None:
    """One input, one hidden unit, weight 2 and bias 1: tanh(2 x + 1) at each step, whatever came before."""
    core = build_core("feedforward", CoreSettings(1, hidden_size=1))
    with torch.no_grad():
        for parameter, value in zip(core.parameters(), (2.0, 1.0), strict=True):
            parameter.fill_(value)
    expected = torch.tensor([1.0, 3.0, -1.0]).tanh().view(3, 1, 1)
    torch.testing.assert_close(core(torch.tensor([0.0, 1.0, -1.0]).view(3, 1, 1)), expected)


@pytest.mark.parametrize(
    ("name", "cls", "width"),
    [("mann", MANN, 8 + 2 * 4), ("ntm", NTM, 8 + 2 * 4), ("lstm", nn.LSTM, 8), ("feedforward", nn.Sequential, 8)],
)
def test_each_name_is_a_module_of_its_output_size(name: str, cls: type[nn.Module], width: int) -> None:
    core = build_core(name, CoreSettings(3, hidden_size=8, memory_slots=6, memory_width=4, num_reads=2))
    assert isinstance(core, cls)
    output = core(torch.zeros(5, 2, 3))
    assert (output if isinstance(output, Tensor) else output[0]).shape == (5, 2, width)
    assert core.output_size == width


def test_every_setting_reaches_the_module() -> None:
    settings = CoreSettings(
        3, 8, 6, 4, 2, num_writes=3, shift_range=2, controller="feedforward", least_used="per_head", decay=0.5,
        num_least_used=3, key_strength=True, write="key", memory_init="learned", backend="reference", lstm_layers=2,
    )  # fmt: skip
    assert all(getattr(settings, entry.name) != entry.default for entry in dataclasses.fields(settings))
    mann, ntm, lstm = (build_core(name, settings) for name in ("mann", "ntm", "lstm"))
    for cell in (mann.cell, ntm.cell):
        assert (cell.input_size, cell.hidden_size, cell.memory_slots, cell.memory_width) == (3, 8, 6, 4)
        assert (cell.memory_init, cell.backend, type(cell.controller).__name__) == (
            "learned", "reference", "FeedForward",
        )  # fmt: skip
        assert cell.initial_state(1).read.shape == (1, 2, 4)
    assert (mann.cell.least_used, mann.cell.decay, mann.cell.key_strength, mann.cell.write) == (
        "per_head", 0.5, True, "key",
    )  # fmt: skip

    assert mann.cell.num_least_used == 3
    assert ntm.cell.shift_range == 2
    assert ntm.cell.initial_state(1).write_weights.shape == (1, 3, 6)
    assert (lstm.input_size, lstm.hidden_size, lstm.num_layers) == (3, 8, 2)


def test_which_cores_understand_a_setting() -> None:
    assert with_memory() == ("mann", "ntm")
    assert understanding("memory_slots")() == understanding("controller")() == ("mann", "ntm")
    assert understanding("decay")() == ("mann",)
    assert understanding("num_writes")() == ("ntm",)
    assert understanding("lstm_layers")() == ("lstm",)
    names = {entry.name for entry in dataclasses.fields(CoreSettings)}
    assert all(set(core.options) <= names for core in CORES.values())


def test_a_name_that_no_core_has() -> None:
    with pytest.raises(ValueError, match=r"^model: got 'gru', need 'mann', 'ntm', 'lstm' or 'feedforward'"):
        build_core("gru", CoreSettings(3))


def test_a_core_is_added_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = dict(CORES)
    for module in ("mannkern.memories.core", "mannkern.models.cores"):
        monkeypatch.setattr(f"{module}.CORES", cores)
    decays = understanding("decay")  # made before, as the settings of the tasks are
    register_core(Core("same", lambda settings: nn.Identity(), True, ("decay",)))
    assert with_memory() == ("mann", "ntm", "same")
    assert decays() == ("mann", "same")
    assert isinstance(build_core("same", CoreSettings(3)), nn.Identity)
    with pytest.raises(ValueError, match=r"^core: got 'same', need a name that is not registered yet"):
        register_core(Core("same", lambda settings: nn.Identity()))
