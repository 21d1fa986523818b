"""What ``record`` keeps of cells, sequences and models, and that it leaves no trace on them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mannkern import MANN, NTM, MANNCell, NTMCell, viz
from mannkern.models import CoreSettings, EpisodeClassifier, build_core

T, B, F, D, N, W, R = 5, 3, 4, 6, 7, 3, 2


def sequences() -> list[nn.Module]:
    torch.manual_seed(0)
    return [MANN(F, D, N, W, R), NTM(F, D, N, W, R, num_write_heads=1)]


@pytest.mark.parametrize("sequence", sequences(), ids=["mann", "ntm"])
def test_a_sequence_is_recorded_step_by_step(sequence: nn.Module) -> None:
    """The recorded states are those of a loop over the cell, the weights those of trace()."""
    inputs, cell = torch.randn(T, B, F), sequence.cell
    with viz.record(sequence) as recording:
        output, last = sequence(inputs)
    state, states = None, []
    for x in inputs:
        _, state = cell(x, state)
        states.append(state)
    trace = sequence.trace(inputs)
    assert len(recording) == T
    torch.testing.assert_close(recording.memory, torch.stack([s.memory for s in states]).detach())
    torch.testing.assert_close(recording.read, torch.stack([s.read for s in states]).detach())
    torch.testing.assert_close(recording.read_weights, trace.read_weights)
    torch.testing.assert_close(recording.write_weights, trace.write_weights)
    assert torch.equal(recording.memory[-1], last.memory)
    torch.testing.assert_close(output, sequence(inputs)[0])
    if isinstance(sequence, MANN):
        assert recording.usage is not None
        torch.testing.assert_close(recording.usage, torch.stack([s.usage for s in states]).detach())
    else:
        assert recording.usage is None
    heads = trace.write_weights.shape[2]
    assert recording.slots_written.shape == (T, B, heads)
    at = recording.write_weights.gather(-1, recording.slots_written.unsqueeze(-1)).squeeze(-1)
    assert torch.equal(at, recording.write_weights.amax(-1))


@pytest.mark.parametrize("cell", [MANNCell(F, D, N, W, R), NTMCell(F, D, N, W, R)], ids=["mann", "ntm"])
def test_a_loop_over_a_cell(cell: nn.Module) -> None:
    state = None
    with viz.record(cell, episodes=2) as recording:
        for x in torch.randn(T, B, F):
            _, state = cell(x, state)
    assert recording.memory.shape == (T, 2, N, W)
    assert torch.equal(recording.memory[-1], state.memory[:2])
    assert not recording.memory.requires_grad


def test_a_model_and_its_layers() -> None:
    """A cell anywhere in a model is found, and ``layer`` counts them."""
    model = EpisodeClassifier(build_core("mann", CoreSettings(F, D, N, W, R)), 5)
    with viz.record(model) as recording:
        model(torch.randn(T, B, F))
    assert recording.memory.shape == (T, B, N, W)
    layers = MANN(F, D, N, W, R, num_layers=2)
    with viz.record(layers, layer=1) as upper:
        _, (_, last) = layers(torch.randn(T, B, F))
    assert torch.equal(upper.memory[-1], last.memory)


def test_the_cell_is_as_before() -> None:
    """Also after an error: the step is the class's own again, and the sequence bit-equal to before."""
    mann, inputs = MANN(F, D, N, W, R), torch.randn(T, B, F)
    before = mann(inputs)[0]
    with pytest.raises(KeyError), viz.record(mann):
        raise KeyError("of the user")
    assert "step" not in mann.cell.__dict__
    assert torch.equal(mann(inputs)[0], before)


def test_gradients_flow_while_recording() -> None:
    mann, inputs = MANN(F, D, N, W, R), torch.randn(T, B, F)
    with viz.record(mann):
        mann(inputs)[0].sum().backward()
    recorded = mann.cell.interface.weight.grad.clone()
    mann.zero_grad()
    mann(inputs)[0].sum().backward()
    torch.testing.assert_close(recorded, mann.cell.interface.weight.grad)


@pytest.mark.parametrize("take", [copy.deepcopy, pickle.dumps], ids=["deepcopy", "pickle"])
def test_a_recorded_cell_is_not_copied(take: Callable[[nn.Module], object]) -> None:
    """The copy would compute with the weights of the original, and record, for ever; a state_dict is whole."""
    mann, inputs = MANN(F, D, N, W, R), torch.randn(T, B, F)
    with viz.record(mann), pytest.raises(TypeError, match=r"^module: got a cell that is being recorded"):
        take(mann)
    with viz.record(mann) as recording:
        mann.load_state_dict(mann.state_dict())
        mann(inputs)
    assert len(recording) == T
    assert torch.equal(copy.deepcopy(mann)(inputs)[0], mann(inputs)[0])


def test_a_step_deleted_within_the_block() -> None:
    """It hides no error of the block's own."""
    cell = MANNCell(F, D, N, W, R)

    def delete() -> None:
        with viz.record(cell):
            del cell.step
            raise KeyError("of the user")

    with pytest.raises(KeyError, match="of the user"):
        delete()


def test_steps_without_numbers_are_refused() -> None:
    cell = MANNCell(F, D, N, W, R)
    message = r"^recording: got a step without numbers"
    with viz.record(cell):
        with pytest.raises(ValueError, match=message):
            torch.func.vmap(lambda x: cell(x)[0])(torch.randn(T, B, F))
        with pytest.raises(ValueError, match=message):
            torch.export.export(cell, (torch.randn(B, F),))
    with viz.record(cell.to("meta")), pytest.raises(ValueError, match=message):
        cell(torch.randn(B, F, device="meta"))


def test_errors() -> None:
    for module in (None, 3, MANN):
        with pytest.raises(TypeError, match=r"^module: got"), viz.record(module):  # type: ignore[arg-type]
            pass
    mann = MANN(F, D, N, W, R)
    with pytest.raises(ValueError, match=r"^module: got Linear without a memory cell"), viz.record(nn.Linear(2, 2)):
        pass
    with pytest.raises(ValueError, match=r"^layer: got 1, need less than 1, the memory cells of MANN"):
        viz.record(mann, layer=1).__enter__()
    with pytest.raises(ValueError, match=r"^episodes: got 0"), viz.record(mann, episodes=0):
        pass
    with viz.record(mann) as recording:
        with pytest.raises(ValueError, match=r"is being recorded"), viz.record(mann):
            pass
        with pytest.raises(ValueError, match=r"^recording: got no step"):
            _ = recording.memory
        mann(torch.randn(T, B, F))
        mann(torch.randn(T, B + 1, F))
    with pytest.raises(ValueError, match=r"^recording: got steps of \[3, 4\] episodes"):
        _ = recording.memory
