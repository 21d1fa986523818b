"""States of another kind: an error names the part, and half precision is taken as the cells take it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN, NTM, MANNCell, NTMCell
from tests.helpers import CASES, SMALL, arguments, run_case, same

SHAPES: dict[type, tuple[int, ...]] = {MANN: (4, 2, 3), MANNCell: (2, 3), NTM: (4, 2, 3), NTMCell: (2, 3)}
EVERY = pytest.mark.parametrize(("module", "shape"), SHAPES.items())
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
H = torch.zeros(2, 5)


def build(module: Any, controller: Any, backend: str = "cpp") -> Any:
    return module(3, 5, 8, 4, 2, controller=nn.GRUCell(11, 5) if controller == "gru" else controller, backend=backend)


def nested(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        return torch.nested.nested_tensor(list(x))


@EVERY
@BACKENDS
@pytest.mark.parametrize(
    "change", [tuple, list, lambda s: s._asdict(), lambda s: s.memory], ids=["tuple", "list", "dict", "tensor"]
)
def test_states_of_another_type(module: Any, shape: tuple[int, ...], backend: str, change: Callable[..., Any]) -> None:
    model = build(module, "lstm", backend)
    with pytest.raises(TypeError, match=r"^state: got (tuple|list|dict|Tensor), need the (MANN|NTM)State"):
        model(torch.zeros(shape), change(model.initial_state(2)))


CONTROLLER_STATES: dict[str, list[tuple[Any, str]]] = {
    "lstm": [
        (None, r"\.controller: got NoneType, need \(h, c\)"),
        ((), r"\.controller: got 0 parts, need \(h, c\)"),
        (H, r"\.controller: got Tensor, need \(h, c\)"),
        ((H, H, H), r"\.controller: got 3 parts, need \(h, c\)"),
        ({"h": H, "c": H}, r"\.controller: got dict, need \(h, c\)"),
        ((H, None), r"\.controller c: got NoneType"),
        ((H.double(), H), r"\.controller h: got torch.float64"),
        ((H.to_sparse(), H), r"\.controller h: got torch.sparse_coo"),
    ],
    "feedforward": [
        (None, r"\.controller: got NoneType, need \(\)"),
        (H, r"\.controller: got Tensor, need \(\)"),
        ((H, H), r"\.controller: got 2 parts, need \(\)"),
    ],
    "gru": [
        ((), r"\.controller: got tuple, need a tensor"),
        ((H, H), r"\.controller: got tuple, need a tensor"),
        (H[:1], r"\.controller: got shape \(1, 5\)"),
        (H.double(), r"\.controller: got torch.float64"),
    ],
}


@EVERY
@BACKENDS
@pytest.mark.parametrize(
    ("controller", "part", "text"), [(c, *case) for c, cases in CONTROLLER_STATES.items() for case in cases]
)
def test_controller_parts(
    module: Any, shape: tuple[int, ...], backend: str, controller: str, part: Any, text: str
) -> None:
    model = build(module, controller, backend)
    with pytest.raises((TypeError, ValueError), match="^state" + text):
        model(torch.zeros(shape), model.initial_state(2)._replace(controller=part))


@EVERY
@BACKENDS
@pytest.mark.parametrize("part", ["memory", "read_weights", "read"])
@pytest.mark.parametrize(
    "change",
    [Tensor.to_sparse, nested, Tensor.to_mkldnn, Tensor.long, Tensor.cfloat, Tensor.double, lambda x: None],
    ids=["sparse", "nested", "mkldnn", "integer", "complex", "float64", "None"],
)
def test_tensors_of_another_kind(
    module: Any, shape: tuple[int, ...], backend: str, part: str, change: Callable[[Tensor], Any]
) -> None:
    model = build(module, "lstm", backend)
    state = model.initial_state(2)
    bad = state._replace(**{part: change(getattr(state, part).contiguous())})
    with pytest.raises(TypeError, match=rf"^state\.{part}: got .*need"):
        model(torch.zeros(shape), bad)


@EVERY
@BACKENDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(module: Any, shape: tuple[int, ...], backend: str, dtype: torch.dtype) -> None:
    model, x = build(module, "lstm", backend), torch.randn(shape)
    state = model(x)[1]
    half = type(state)(state.controller, *(part.to(dtype) for part in state[1:]))
    wide = type(state)(state.controller, *(part.float() for part in half[1:]))
    assert same(model(x, half)[0].detach(), model(x, wide)[0].detach())


@EVERY
@BACKENDS
@pytest.mark.parametrize("controller", ["lstm", "gru"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_controllers_parts_are_widened_too(
    module: Any, shape: tuple[int, ...], backend: str, controller: str, dtype: torch.dtype
) -> None:
    model, x = build(module, controller, backend), torch.randn(shape)
    half = model(x)[1].to(dtype)
    assert same(model(x, half)[0].detach(), model(x, half.to(torch.float32))[0].detach())


@pytest.mark.parametrize("module", [MANNCell, NTMCell])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_beside_half_parameters(module: Any, dtype: torch.dtype) -> None:
    """The controller's state has their dtype, whatever came; the rest is float32."""
    model, x = build(module, "lstm", "reference").to(dtype), torch.randn(2, 3).to(dtype)
    state = model(x)[1]
    output, last = model(x, state.to(torch.float32))
    assert same(output.detach(), model(x, state)[0].detach())
    assert {part.dtype for part in last.controller} == {dtype}
    assert last.memory.dtype == torch.float32


def quantised(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # quantised tensors are deprecated
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


def jagged(x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor(list(x), layout=torch.jagged)


KINDS = pytest.mark.parametrize(
    "change",
    [Tensor.to_sparse, nested, jagged, Tensor.to_mkldnn, quantised],
    ids=["sparse", "nested", "jagged", "mkldnn", "quantised"],
)


@KINDS
@EVERY
def test_inputs_of_another_kind(module: Any, shape: tuple[int, ...], change: Callable[[Tensor], Any]) -> None:
    with pytest.raises(TypeError, match=r"^input: got (torch\.|a nested tensor).*need"):
        build(module, "lstm")(change(torch.randn(shape)))


@KINDS
@BACKENDS
@pytest.mark.parametrize("case", [name for name in CASES if name != "mask"])
def test_arguments_of_another_kind(case: str, backend: str, change: Callable[[Tensor], Any]) -> None:
    tensors = arguments(CASES[case], SMALL)
    for name, x in tensors.items():
        if x.is_floating_point():
            with pytest.raises(TypeError, match=rf"^{name}: got (torch\.|a nested tensor).*need"):
                run_case(CASES[case], tensors | {name: change(x)}, backend)


@pytest.mark.parametrize("memory_init", [1e-6, "uniform", "learned"])
@pytest.mark.parametrize("module", [MANN, MANNCell, NTM, NTMCell])
@torch.no_grad()
def test_a_first_state_is_written_to_alone(module: Any, memory_init: float | str) -> None:
    """Its tensors share nothing with each other, among their own numbers or with the module."""
    model = module(3, 5, 8, 4, 2, memory_init=memory_init)
    cell = getattr(model, "cell", model)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    expected = model.initial_state(1)
    for part in expected._fields[1:]:
        state = model.initial_state(1)
        getattr(state, part).flatten()[0] = 7.0  # a view of the state's own numbers
        getattr(state, part).mul_(2)
        for name, x in zip(state._fields[1:], state[1:], strict=True):
            other = getattr(expected, name)
            assert same(x.flatten()[1:], 2 * other.flatten()[1:]) if name == part else same(x, other)
    assert all(same(x, before[name]) for name, x in model.state_dict().items())
    assert same(cell.initial_state(1).memory, expected.memory)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_a_state_of_another_cell(backend: str) -> None:
    """Of another number of slots; and of as many numbers in another form, which the weights alone would fit."""
    with pytest.raises(ValueError, match=r"state\.memory: got shape \(2, 8, 4\), need .*= \(2, 16, 4\)"):
        MANNCell(3, 5, 16, 4, 2, backend=backend)(torch.zeros(2, 3), MANNCell(3, 5, 8, 4, 2).initial_state(2))
    two = MANNCell(3, 5, 8, 4, 2, key_strength=True, backend=backend)
    four = MANNCell(3, 5, 8, 2, 4, key_strength=True)
    with pytest.raises(ValueError, match=r"state\.memory: got shape \(2, 8, 2\), need .*= \(2, 8, 4\)"):
        two(torch.zeros(2, 3), four.initial_state(2))
    with pytest.raises(ValueError, match=r"state\.memory: got shape \(2, 8, 2\), need .*= \(2, 8, 4\)"):
        NTMCell(3, 5, 8, 4, 2, backend=backend)(torch.zeros(2, 3), NTMCell(3, 5, 8, 2, 4).initial_state(2))
