"""Rows of docs/pytorch.md: weights, states and files."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from tests.docs.pytorch.feature import COMPILED, SAME, STEPS, YES, Feature, build, close, draw


def constants(module: Any, backend: str) -> None:
    trained, x = build(module, backend, memory_init=0.5), draw(4, 2, 3)
    model = build(module, backend, memory_init=0.5)
    model.load_state_dict(trained.state_dict())
    close(model(x)[0], trained(x)[0])
    with pytest.raises(RuntimeError, match=r"memory_init: got 0\.5 from the state_dict, need 1e-06"):
        build(module, backend).load_state_dict(trained.state_dict())


def from_meta(module: Any, backend: str) -> None:
    trained, x = build(module, backend), draw(4, 2, 3)
    for assign in (True, False):
        model = build(module, backend, device="meta")
        model = model if assign else model.to_empty(device="cpu")
        model.load_state_dict(trained.state_dict(), assign=assign)
        close(model(x)[0], trained(x)[0])


def copies(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(4, 2, 3)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        close(other(x)[0], model(x)[0])


def methods_of_states(module: Any, backend: str) -> None:
    state = build(module, backend)(draw(4, 2, 3))[1]
    assert state.memory.requires_grad
    assert not state.detach().memory.requires_grad
    moved = state.to("cpu", torch.float32)
    assert {moved.memory.dtype, moved.controller[0].dtype} == {torch.float32}
    assert type(tree_map_only(Tensor, torch.clone, state)) is type(state)


def states_in_files(module: Any, backend: str) -> None:
    model, file = build(module, backend), io.BytesIO()
    state = model(draw(4, 2, 3))[1]
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert type(loaded) is type(state)
    close(loaded.memory, state.memory)
    model(draw(4, 2, 3), loaded)


def segments(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(6, 2, 3)
    output, state = model(x[:4])
    close(torch.cat([output, model(x[4:], state)[0]]), model(x)[0])


def quantised(x: Tensor) -> Tensor:
    return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


def nested(x: Tensor) -> Tensor:
    return torch.nested.nested_tensor(list(x))


def refused(module: Any, backend: str) -> None:
    model, x = build(module, backend, dtype=torch.float32), torch.randn(4, 2, 3)
    state = model.initial_state(2)
    with pytest.raises(TypeError, match=r"^state: got tuple, need the (MANN|NTM)State"):
        model(x, tuple(state))
    for change in (Tensor.to_sparse, nested, quantised):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of such tensors
            bad, bad_memory = change(x), change(state.memory.contiguous())
        with pytest.raises(TypeError, match=r"^input: got .*need"):
            model(bad)
        with pytest.raises(TypeError, match=r"^state\.memory: got .*need"):
            model(x, state._replace(memory=bad_memory))


FEATURES = (
    Feature(
        "`state_dict`, `load_state_dict`",
        "The metadata names a constant `memory_init`, and a module with another one refuses the weights. safetensors "
        "and a copy of the dict lose the metadata, so that a module with another one takes them. `decay`, "
        "`least_used` and `num_least_used` are not in it: build the module with the same ones.",
        YES,
        YES,
        constants,
        SAME,
        SAME,
    ),
    Feature(
        '`device="meta"`, `to_empty`, `load_state_dict(assign=True)`',
        "The constant initial memory is there after loading.",
        YES,
        YES,
        from_meta,
        SAME,
        SAME,
    ),
    Feature("`copy.deepcopy`, `pickle`", "Of whole modules.", YES, YES, copies, SAME, SAME),
    Feature(
        "A state carried to the next call",
        "Two segments give what one call gives. Gradients of inputs and parameters agree on all backends; that of a "
        "state between two steps of a cell or two calls of a sequence, `torch.autograd.grad(loss, state.memory)`, does "
        "not: on `cpp` all results of a call are outputs of one operation, so what `state.read` took from this memory "
        "does not count. A hook on a part of the state, such as one that clips, therefore gives other gradients on "
        "another backend, also of parameters: hook inputs or outputs.",
        COMPILED,
        STEPS,
        segments,
    ),
    Feature(
        "`state.detach()`, `state.to(...)`, pytrees",
        "A detached state truncates the gradient. That of several layers is a tuple of states. A state is a pytree.",
        YES,
        YES,
        methods_of_states,
        SAME,
        SAME,
    ),
    Feature("`torch.load(weights_only=True)` of states", "It knows them.", YES, YES, states_in_files, SAME, SAME),
    Feature(
        "Wrong states; sparse, nested, quantised tensors",
        "Each is refused, by an error that names the argument or the part of the state.",
        YES,
        YES,
        refused,
        SAME,
        SAME,
    ),
)
