"""The persistent kernels of a MANN's episode, run thread by thread on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch

import mannkern
from mannkern.backends import BACKENDS, cuda
from tests.cuda.emulated import COMPILER
from tests.cuda.persistent import (
    EPISODES,
    Episode,
    Results,
    backward,
    build,
    cotangents,
    double,
    draw,
    fits,
    forward,
    kernels,
    reference,
    reference_gradients,
    reference_slots,
)

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,
]
Emulate = Callable[[bool], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def emulate() -> Emulate:
    """Makes ``mann_episode`` run the emulated kernels; (True): with threads in reverse and parcels that come late."""
    loaded = build()
    return lambda backwards: kernels(
        lambda fields: loaded.persistent_forward(fields, int(backwards)),
        lambda fields: loaded.persistent_backward(fields, int(backwards)),
    )


@pytest.mark.parametrize("case", EPISODES)
def test_accuracy_in_any_order(case: str, emulate: Emulate) -> None:
    """Results and gradients are accurate, and bit-equal with threads in reverse."""
    shape, options = EPISODES[case]
    args = draw(*shape, **options)
    (truth, gap), (single, _) = reference(double(args)), reference(args)
    assert gap.min() > 1e-6
    grads = cotangents(single)
    with emulate(False):
        results = forward(args)
        got = backward(args, results, grads)
    assert [name for name, *x in zip(Results._fields, results, truth, single) if not fits(*x)] == []
    right, of_single = reference_gradients(double(args), [x.double() for x in grads]), reference_gradients(args, grads)
    assert [name for name, *x in zip(Episode._fields, got, right, of_single) if not fits(*x)] == []
    with emulate(True):
        again = forward(args)
        got_again = backward(args, results, grads)
    assert [name for name, x, y in zip(Results._fields, again, results) if not same(x, y)] == []
    assert [name for name, x, y in zip(Episode._fields, got_again, got) if not same(x, y)] == []


@pytest.mark.parametrize("length", [1e19, 1e25, 1e36])
def test_gradient_of_a_memory_of_long_slots(length: float, emulate: Emulate) -> None:
    """From a loss of the read weights alone, to which a slot's length is nothing."""
    args = draw(2, 9, 5, 50, 33, 13, 3, key_strength=True)
    args = args._replace(memory=length * torch.nn.functional.normalize(args.memory, dim=-1))
    results = reference(args)[0]
    grads = [torch.zeros_like(x) if i != 2 else torch.randn(x.shape) for i, x in enumerate(results)]
    with emulate(False):
        got = backward(args, forward(args), grads)[8]
    right, of_single = (
        reference_gradients(*pair)[8] for pair in ((double(args), [x.double() for x in grads]), (args, grads))
    )
    assert fits(*(x.double() * length for x in (got, right, of_single)))


def same(x: torch.Tensor, y: torch.Tensor) -> bool:
    return torch.equal(x.nan_to_num(7.0), y.nan_to_num(7.0))


def test_equal_slots(emulate: Emulate) -> None:
    """An episode that starts from equal slots writes to the reference's slots, and leaves the others equal."""
    T, N = 6, 40
    args = draw(T, 1, 3, 24, N, 12, 4)
    usage = torch.zeros(1, N)
    usage[:, 0] = 1
    start = args._replace(
        memory=torch.full_like(args.memory, 1e-6), usage=usage, read_weights=usage.expand(1, 4, N).contiguous()
    )
    with emulate(False):
        results = forward(start)
    expected = reference_slots(double(start))
    assert results.least_used.equal(expected)
    untouched = torch.ones(N, dtype=torch.bool).index_fill(0, expected.flatten().unique(), False)
    untouched[0] = False
    assert int(untouched.sum()) > 1
    for name in ("memory", "read_weights", "usage"):
        x = getattr(results, name)
        slots = x.movedim(1 if name == "memory" else -1, 0)[untouched]
        assert (slots == slots[:1]).all(), name


@pytest.mark.parametrize("seed", range(5))
def test_equal_slots_beside_one_whose_square_overflows(seed: int, emulate: Emulate) -> None:
    """A warp has sixteen of the slots. Its other fifteen keep the norm that those of other warps have, bit for bit."""
    args = draw(2, 1, 3, 24, 40, 13, 4, seed=seed)
    memory, weights = (
        torch.randn(13, generator=torch.Generator().manual_seed(seed)).repeat(1, 40, 1),
        torch.zeros(1, 4, 40),
    )
    memory[:, 1], weights[..., 0] = 1e20, 1
    usage = torch.zeros(1, 40)
    usage[:, :2] = 1  # so that none of the equal slots is first, but the least-used one
    with emulate(False):
        results = forward(args._replace(memory=memory, usage=usage, read_weights=weights, num_least_used=1))
    chosen = {0, 1, *results.least_used.flatten().tolist()}
    equal = [slot for slot in range(40) if slot not in chosen]
    for x in (results.read_weights[0, :, equal], results.usage[0, equal]):
        assert bool((x == x[..., :1]).all())


def test_a_module_with_missing_gradients(emulate: Emulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """MANN with backend="cuda" gives the reference's outputs and gradients; gradients of its last state are zero."""
    operations = {"lrua_step": lambda *_: "", "mann_episode": lambda *_: ""}
    backend = cuda.BACKEND._replace(why_not=lambda *_: "", operations=operations)
    monkeypatch.setitem(BACKENDS, "cuda", backend)
    torch.manual_seed(0)
    mann = mannkern.MANN(3, 16, 20, 7, 2, backend="cuda", memory_init="uniform")
    other = mannkern.MANN(3, 16, 20, 7, 2, backend="reference", memory_init="uniform")
    other.load_state_dict(mann.state_dict())
    x = torch.randn(5, 2, 3)
    with emulate(False):
        with torch.no_grad():
            outputs = mann(x)[0]
        trained = mann(x)[0]
        trained.square().sum().backward()
    right = other(x)[0]
    right.square().sum().backward()
    assert outputs.equal(trained)
    torch.testing.assert_close(trained, right)
    for (name, p), q in zip(mann.named_parameters(), other.parameters()):
        torch.testing.assert_close(p.grad, q.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_requests_that_cannot_be_met() -> None:
    mann = mannkern.MANN(3, 16, 20, 7, 2, backend="cuda")
    with pytest.raises(
        RuntimeError, match="backend: got 'cuda', need another: backend 'cuda' runs on a GPU, not on 'cpu'"
    ):
        mann(torch.randn(5, 2, 3))
