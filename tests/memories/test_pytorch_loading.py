"""Weights that come later: modules built on the meta device, and what a state_dict says of the initial memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import MANN, NTM, MANNCell, NTMCell
from tests.helpers import same

SHAPES: dict[type, tuple[int, ...]] = {MANN: (4, 2, 3), MANNCell: (2, 3), NTM: (4, 2, 3), NTMCell: (2, 3)}
EVERY = pytest.mark.parametrize(("module", "shape"), SHAPES.items())
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
INITS = pytest.mark.parametrize("memory_init", [1e-6, 0.5, "uniform", "learned"])


def build(module: Any, slots: int = 8, **options: Any) -> Any:
    torch.manual_seed(0)
    return module(3, 5, slots, 4, 2, **options)


def assert_equal(model: Any, other: Any, x: Tensor) -> None:
    (output, state), (expected, expected_state) = model(x), other(x)
    assert same(output.detach(), expected.detach())
    assert same(state.memory.detach(), expected_state.memory.detach())


@EVERY
@CONTROLLERS
@BACKENDS
@INITS
@pytest.mark.parametrize("assign", [False, True])
def test_from_the_meta_device(
    module: Any, shape: tuple[int, ...], controller: str, backend: str, memory_init: float | str, assign: bool
) -> None:
    options: dict[str, Any] = {"controller": controller, "backend": backend, "memory_init": memory_init}
    trained = build(module, **options)
    model = build(module, **options, device="meta")
    if not assign:
        model = model.to_empty(device="cpu")
        with torch.no_grad():
            for x in (*model.parameters(), *model.buffers()):
                x.fill_(float("nan"))  # what to_empty leaves is arbitrary
    model.load_state_dict(trained.state_dict(), assign=assign)
    assert_equal(model, trained, torch.randn(shape))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.3, 1e-8, 7e4])
def test_a_constant_is_not_rounded_to_half_precision(
    module: Any, shape: tuple[int, ...], dtype: torch.dtype, value: float
) -> None:
    """Beside parameters of half precision a memory is float32, also where float16 has no such number."""
    memory = build(module, memory_init=value, dtype=dtype).initial_state(2).memory
    wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    assert same(memory.contiguous(), torch.full((2, 8, 4), value, dtype=wide))


@EVERY
def test_a_constant_memory_has_any_number_of_slots(module: Any, shape: tuple[int, ...]) -> None:
    model = build(module, slots=64)
    model.load_state_dict(build(module, slots=8).state_dict())
    assert model(torch.randn(shape))[1].memory.shape == (2, 64, 4)


@EVERY
def test_another_constant_is_refused(module: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.save(build(module, memory_init=0.5).state_dict(), tmp_path / "weights.pt")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"memory_init: got 0\.5 from the state_dict, need 1e-06"):
            build(module).load_state_dict(weights, strict=strict)
    build(module, memory_init=0.5).load_state_dict(weights)


@EVERY
@pytest.mark.parametrize("memory_init", [0.5, "learned"])
def test_a_state_dict_without_metadata_loads(module: Any, shape: tuple[int, ...], memory_init: float | str) -> None:
    """A state_dict from before the constant was in it, or from a format that holds tensors alone."""
    trained, model = (build(module, memory_init=memory_init) for _ in range(2))
    model.load_state_dict(dict(trained.state_dict()))
    assert_equal(model, trained, torch.randn(shape))
    earlier = trained.state_dict()
    for metadata in earlier._metadata.values():  # type: ignore[attr-defined]
        metadata.pop("memory_init", None)
    model.load_state_dict(earlier)


@EVERY
@pytest.mark.parametrize(("ours", "theirs"), [(0.5, "learned"), ("learned", 0.5), ("uniform", 0.5)])
def test_another_kind_of_initial_memory_is_refused(
    module: Any, shape: tuple[int, ...], ours: float | str, theirs: float | str
) -> None:
    with pytest.raises(RuntimeError, match=r"(Unexpected|Missing) key.*initial_memory"):
        build(module, memory_init=ours).load_state_dict(build(module, memory_init=theirs).state_dict())
