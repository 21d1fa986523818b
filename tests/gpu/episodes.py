"""Checks of a MANN's episode on a GPU: one operation, replayed from CUDA graphs. Plain functions, as in checks.py."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from bench.timing import captured
from mannkern import MANN
from mannkern.memories.cases import Tensors
from mannkern.triton import graph
from mannkern.verification.accuracy import relative_errors, same

STANDARD = (405, 200, 128, 40, 4)  # F, D, N, W, R
REPEATS = 3  # the first call runs without a graph, the second captures it, the third replays it


def mann(sizes: tuple[int, ...] = STANDARD, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    return MANN(*sizes, memory_init="uniform", dtype=dtype, **options).cuda()


def step(model: Any, x: Tensor) -> Tensors:
    """Output, last state, and gradients of the sum of squares of both."""
    x = x.detach().requires_grad_()
    output, state = model(x)
    leaves = {"input": x} | dict(model.named_parameters())
    loss = output.square().sum() + state.memory.square().sum() + state.usage.square().sum()
    got = torch.autograd.grad(loss, list(leaves.values()))
    results = {"output": output.detach(), "memory": state.memory.detach(), "usage": state.usage.detach()}
    return results | {f"grad {name}": g for name, g in zip(leaves, got)}


def expect_equal(got: Tensors, expected: Tensors, what: str) -> None:
    different = [name for name in expected if not same(got[name], expected[name])]
    assert not different, f"{what}: {different}"


def equals_the_cpu() -> None:
    """In float64, whole episodes and their gradients are those of the CPU, at every call of a shape.

    With 64 slots the episode is one operation. With 128 a memory of float64 takes tiles, and so a loop over the cell.
    """
    for N, options in (
        (64, {}),
        (64, {"key_strength": True, "least_used": "per_head"}),
        (64, {"controller": "feedforward"}),
        (128, {}),
    ):
        model = mann((*STANDARD[:2], N, *STANDARD[3:]), torch.float64, **options)
        on_cpu = copy.deepcopy(model).cpu()
        for seed in range(REPEATS):
            x = torch.randn(20, 16, STANDARD[0], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            got = {name: y.cpu() for name, y in step(model, x.cuda()).items()}
            errors = relative_errors(got, step(on_cpu, x))
            assert max(errors.values()) < 1e-9, (N, options, seed, errors)
    assert any(captured is not None for captured in graph._graphs.values())


def two_forwards_before_two_backwards() -> None:
    """A graph's second call does not touch what the first one returned and saved."""
    model = mann()
    x, y = torch.randn(2, 50, 16, STANDARD[0], device="cuda")
    expected = step(model, x), step(model, y)
    for _ in range(REPEATS):
        outputs = [model(z)[0] for z in (x, y)]
        for output, wanted in zip(outputs, expected):
            assert same(output, wanted["output"])
        parameters = list(model.parameters())
        found = [torch.autograd.grad(output.square().sum(), parameters) for output in reversed(outputs)]
        alone = [torch.autograd.grad(model(z)[0].square().sum(), parameters) for z in (y, x)]
        assert all(same(g, h) for pair in zip(found, alone) for g, h in zip(*pair))


def within_the_users_graph() -> None:
    """A CUDA graph of a training step, replayed on other inputs, gives what the step gives."""
    model = mann()
    static = torch.randn(50, 16, STANDARD[0], device="cuda")
    names = list(step(model, static))
    replay = captured(lambda: list(step(model, static).values()))
    static.copy_(torch.randn_like(static))
    got = [x.clone() for x in replay()]
    expect_equal(dict(zip(names, got)), step(model, static), "replayed")


def on_another_stream() -> None:
    """Calls on two streams in turn wait for each other's use of the graph."""
    model = mann()
    x = torch.randn(50, 16, STANDARD[0], device="cuda")
    expected = [step(model, x) for _ in range(REPEATS)][-1]
    stream = torch.cuda.Stream()
    for _ in range(4):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            torch.cuda._sleep(5_000_000)
            first = step(model, x)
        second = step(model, x)
        torch.cuda.synchronize()
        expect_equal(first, expected, "on the other stream")
        expect_equal(second, expected, "on the current stream")


def more_shapes_than_graphs() -> None:
    """Shapes that come and go: graphs are forgotten, and captured again."""
    model = mann((7, 20, 16, 8, 2))
    sizes = [(T, B) for T in (1, 5, 9, 17) for B in (1, 3, 40)]
    inputs = {size: torch.randn(*size, 7, device="cuda") for size in sizes}
    expected = {size: step(model, x) for size, x in inputs.items()}
    for _ in range(REPEATS):
        for size, x in inputs.items():
            for _ in range(2):
                expect_equal(step(model, x), expected[size], f"T, B = {size}")
    assert len(graph._graphs) <= graph.CAPACITY


def a_training_step_follows_its_parameters() -> None:
    """Weights are arguments of a graph: a step of the optimizer shows in the next call."""
    model = mann((7, 20, 16, 8, 2), torch.float64)
    on_cpu = copy.deepcopy(model).cpu()
    x = torch.randn(9, 3, 7, dtype=torch.float64)
    for m, z in ((model, x.cuda()), (on_cpu, x)):
        optimizer = torch.optim.SGD(m.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            m(z)[0].square().mean().backward()
            optimizer.step()
    for p, q in zip(model.parameters(), on_cpu.parameters(), strict=True):
        torch.testing.assert_close(p.cpu(), q)


CHECKS = (
    equals_the_cpu,
    two_forwards_before_two_backwards,
    within_the_users_graph,
    on_another_stream,
    more_shapes_than_graphs,
    a_training_step_follows_its_parameters,
)
