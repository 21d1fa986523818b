"""Fused episodes of many batch sizes: tiles of the matrix products, chunks of the batch, threads, other episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mannkern import MANN
from tests.helpers import same
from tests.memories.sequences import (
    BOTH,
    Sequence,
    apply,
    assert_close,
    build,
    check,
    episode,
    evaluate,
    gradients,
    named,
    zero_interface,
)


@torch.no_grad()
def test_example() -> None:
    """Of 130 episodes, more than a chunk, each reads the mean of its slots (4, 0), as one alone does."""
    mann = zero_interface(MANN(3, 5, 2, 1, 1, memory_init=4.0))
    assert mann(torch.randn(2, 130, 3))[0][..., 5].unique().tolist() == [2]


@BOTH
@pytest.mark.parametrize("B", [1, 5, 6, 7, 13, 14, 15, 31])
@pytest.mark.usefixtures("isa", "nan_filled_allocations")
def test_tiles_of_the_products(module: type[Sequence], B: int) -> None:
    """Rows within, at and beyond a tile of every instruction set; columns within one vector, one panel, and beyond."""
    for D in (4, 9, 17):
        model = build(module, (3, D, 5, 3, 2))
        check(model, *episode(model, 2, B))


@BOTH
def test_products_of_more_rows_than_the_cache_holds(module: type[Sequence]) -> None:
    model = build(module, (400, 5, 5, 3, 2))
    check(model, *episode(model, 7, B=31))


@BOTH
@pytest.mark.parametrize("B", [129, 300])
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_large_batches_in_parts(module: type[Sequence], controller: str, B: int) -> None:
    model = build(module, controller=controller, memory_init="learned")
    input, state = episode(model, 3, B)
    check(model, input, state)
    check(model, input, None)
    with torch.no_grad():
        assert same(model(input)[0][:, 100:110], model(input[:, 100:110])[0])


@BOTH
def test_threads_and_neighbours_change_no_bit(module: type[Sequence], threads: Callable[[int], None]) -> None:
    model = build(module, (20, 64, 128, 40, 4), torch.float32)
    input, state = episode(model, 5, B=29)
    whole: list[tuple[torch.Tensor, Any]] = []
    for count in (1, 2):
        threads(count)
        whole.append(model(input, state))
        for b in range(0, 29, 4):
            some = slice(b, b + 4)
            output, last = model(input[:, some], apply(state, lambda x: x[some]))  # noqa: B023
            assert same(output, whole[0][0][:, some])
            assert all(same(x, named(whole[0][1])[name][some]) for name, x in named(last).items())
    (output, last), (again, last_again) = whole
    assert same(output, again)
    assert all(same(x, named(last_again)[name]) for name, x in named(last).items())


@BOTH
@pytest.mark.parametrize("B", [1, 3, 8, 16, 37])
def test_threads_change_no_bit_of_gradients(module: type[Sequence], B: int, threads: Callable[[int], None]) -> None:
    """Threads that help one another with an episode or three, one share a thread, and more shares than threads."""
    model = build(module, (20, 64, 128, 40, 4))
    input, state = episode(model, 5, B)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(evaluate(model, "whole", input, state))
    assert_close(results[0], results[1], 0)
    assert_close(results[0], results[2], 0)


@BOTH
@pytest.mark.parametrize("D", [61, 150])
@pytest.mark.usefixtures("nan_filled_allocations")
def test_helpers_change_no_bit_of_episodes_that_end(
    module: type[Sequence], D: int, threads: Callable[[int], None]
) -> None:
    """Episodes end and start anew; h ends within a panel of the weights; the input has no gradient, as in training."""
    model = build(module, (20, D, 33, 20, 2), torch.float32, memory_init="learned")
    for B in (1, 2, 5):
        input, state = episode(model, 9, B)
        lengths, reset = torch.arange(9, 9 - 2 * B, -2).clamp(min=0), torch.zeros(9, B, dtype=torch.bool)
        reset[4, 0] = reset[6, -1] = True
        results = []
        for count in (1, 2, 5):
            threads(count)
            for more in ({}, {"lengths": lengths}, {"reset": reset}, {"lengths": lengths, "reset": reset}):
                output, last = model(input, state, **more)
                grads = gradients(output.square().sum() + last.memory.sum(), dict(model.named_parameters()))
                results.append([output, *named(last).values(), *grads.values()])
        for got, expected in zip(results[4:], results[:4] * 2, strict=True):
            assert all(same(x, y) for x, y in zip(got, expected, strict=True))


@BOTH
def test_helpers_give_the_same_bits_every_time(module: type[Sequence], threads: Callable[[int], None]) -> None:
    """More threads than cores, so that helpers come and go at any moment."""
    model = build(module, (20, 64, 128, 40, 4), torch.float32)
    input, state = episode(model, 5, B=2)
    threads(1)
    expected = model(input, state)[0]
    threads(5)
    assert all(same(model(input, state)[0], expected) for _ in range(30))


@pytest.mark.slow
@BOTH
@pytest.mark.filterwarnings("ignore")  # what torch's tracing warns of itself
def test_parts_under_torch_compile(module: type[Sequence]) -> None:
    torch._dynamo.reset()
    model = build(module)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for B in (4, 130):
        input, state = episode(model, 3, B)
        assert same(compiled(input, state)[0], model(input, state)[0])
