"""Checks of episodes on a GPU: one operation, replayed from CUDA graphs. Plain functions, as in checks.py."""

from __future__ import annotations

import copy
from typing import Any

import torch

from mannkern import MANN, NTM
from mannkern.backends import BACKENDS, why_not
from mannkern.benchmark.timing import captured
from mannkern.memories.cases import Tensors
from mannkern.triton import graph
from mannkern.verification.accuracy import relative_errors, same

STANDARD = (405, 200, 128, 40, 4)  # F, D, N, W, R
SMALL = (7, 20, 16, 8, 2)
COPY = (9, 100, 128, 20, 1)  # of an NTM, with one write head
REPEATS = 3  # the first call runs without a graph, the second captures it, the third replays it
EXACT: tuple[tuple[Any, tuple[int, ...], dict[str, Any]], ...] = (
    (MANN, (405, 200, 64, 40, 4), {}),
    (MANN, (405, 200, 64, 40, 4), {"key_strength": True, "least_used": "per_head"}),
    (MANN, (405, 200, 64, 40, 4), {"controller": "feedforward"}),
    (MANN, STANDARD, {}),  # with 128 slots a memory of float64 takes tiles, and so a loop over the cell
    (NTM, COPY, {}),
    (NTM, (9, 100, 512, 20, 3), {"num_write_heads": 6, "shift_range": 2}),  # a block works on a row
    (NTM, (9, 100, 33, 17, 2), {"controller": "feedforward"}),
)


def build(module: Any, sizes: tuple[int, ...], dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    return module(*sizes, memory_init="learned", dtype=dtype, **options).cuda()


def models(sizes: tuple[int, ...] | None = None, dtype: torch.dtype = torch.float32) -> list[Any]:
    """A MANN, and an NTM if its kernels run here; of standard sizes, or of these."""
    found = [build(MANN, sizes or STANDARD, dtype)]
    return found if no_ntm() else [*found, build(NTM, sizes or COPY, dtype)]


def with_persistent(sizes: tuple[int, ...]) -> list[Any]:
    """``models``, and a MANN with ``backend="cuda"`` where that runs: as one kernel, else step by step."""
    _, D, N, W, R = sizes
    reasons = [
        why_not(BACKENDS["cuda"], "lrua", "cuda", N, W, R, operation, D=D)
        for operation in ("mann_episode", "lrua_step")
    ]
    return [*models(sizes), *([] if all(reasons) else [build(MANN, sizes, backend="cuda")])]


def no_ntm() -> str:
    """Why the NTM's kernels do not run here; "" where they do."""
    return why_not(BACKENDS["cuda"], "ntm", "cuda")


def step(model: Any, x: torch.Tensor, **ends: Any) -> Tensors:
    """Output, last state, and gradients of the sum of squares of both."""
    x = x.detach().requires_grad_()
    output, state = model(x, **ends)
    leaves = {"input": x} | dict(model.named_parameters())
    results = {"output": output} | {name: y for name, y in state._asdict().items() if name != "controller"}
    loss = torch.stack([y.square().sum() for y in results.values()]).sum()
    got = torch.autograd.grad(loss, list(leaves.values()))
    return {name: y.detach() for name, y in results.items()} | {f"grad {name}": g for name, g in zip(leaves, got)}


def draw(model: Any, T: int = 50, B: int = 16, seed: int = 0) -> torch.Tensor:
    """An input on the GPU, in the model's dtype."""
    generator = torch.Generator().manual_seed(seed)
    dtype = model.cell.interface.weight.dtype
    return torch.randn(T, B, model.input_size, dtype=dtype, generator=generator).cuda()


def ends(T: int, B: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Lengths, not sorted, and resets, on the GPU."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, T + 1, (B,), generator=generator)
    return {"lengths": lengths.cuda(), "reset": (torch.rand(T, B, generator=generator) < 0.2).cuda()}


def expect_equal(got: Tensors, expected: Tensors, what: str) -> None:
    different = [name for name in expected if not same(got[name], expected[name])]
    assert not different, f"{what}: {different}"


def equals_the_cpu() -> None:
    """In float64, whole episodes and their gradients are those of the CPU, at every call of a shape, also with
    lengths and resets.
    """
    for module, sizes, options in EXACT:
        if module is NTM and no_ntm():
            continue
        model = build(module, sizes, torch.float64, **options)
        on_cpu = copy.deepcopy(model).cpu()
        for seed in range(REPEATS):
            x = draw(model, 20, 16, seed)
            for given in ({}, ends(20, 16, seed)):
                got = {name: y.cpu() for name, y in step(model, x, **given).items()}
                expected = step(on_cpu, x.cpu(), **{name: y.cpu() for name, y in given.items()})
                errors = relative_errors(got, expected)
                assert max(errors.values()) < 1e-9, (module.__name__, sizes, options, seed, list(given), errors)
    assert any(isinstance(captured, graph.Graph) for captured in graph._graphs.values())


def padding_may_be_anything() -> None:
    """NaN behind an episode's end changes no bit."""
    for model in models():
        x, given = draw(model), ends(50, 16)
        beyond = torch.arange(50, device="cuda").unsqueeze(1) >= given["lengths"]
        expected = step(model, x, **given)
        expect_equal(step(model, x.masked_fill(beyond.unsqueeze(2), torch.nan), **given), expected, "NaN as padding")


def two_forwards_before_two_backwards() -> None:
    """A graph's second call does not touch what the first one returned and saved."""
    for model in models():
        x, y = draw(model), draw(model, seed=1)
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
    for model in models():
        for given in ({}, ends(50, 16)):
            static = draw(model)
            names = list(step(model, static, **given))
            replay = captured(lambda: list(step(model, static, **given).values()))  # noqa: B023
            static.copy_(draw(model, seed=1))
            got = [x.clone() for x in replay()]
            expect_equal(dict(zip(names, got)), step(model, static, **given), "replayed")


def on_another_stream() -> None:
    """Calls on two streams in turn wait for each other's use of the graph."""
    for model in models():
        x, y = draw(model), draw(model, seed=1)  # unlike inputs, so that each shows where the other's are read
        on_x, on_y = ([step(model, z) for _ in range(REPEATS)][-1] for z in (x, y))
        stream = torch.cuda.Stream()
        for _ in range(4):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                torch.cuda._sleep(5_000_000)
                first = step(model, x)
            second = step(model, y)
            torch.cuda.synchronize()
            expect_equal(first, on_x, "on the other stream")
            expect_equal(second, on_y, "on the current stream")


def more_shapes_than_graphs() -> None:
    """Shapes that come and go: graphs are forgotten, and captured again."""
    shapes = [(T, B) for T in (1, 5, 9, 17) for B in (1, 3, 40)]
    for model in models(SMALL):
        inputs = {shape: draw(model, *shape) for shape in shapes}
        expected = {shape: step(model, x) for shape, x in inputs.items()}
        for _ in range(REPEATS):
            for shape, x in inputs.items():
                for _ in range(2):
                    expect_equal(step(model, x), expected[shape], f"T, B = {shape}")
        assert len(graph._graphs) <= graph.CAPACITY


def a_training_step_follows_its_parameters() -> None:
    """Weights are arguments of a graph: a step of the optimizer shows in the next call."""
    for model in models(SMALL, torch.float64):
        on_cpu = copy.deepcopy(model).cpu()
        x = draw(model, 9, 3)
        for m, z in ((model, x), (on_cpu, x.cpu())):
            optimizer = torch.optim.SGD(m.parameters(), lr=0.01)
            for _ in range(5):
                optimizer.zero_grad()
                m(z)[0].square().mean().backward()
                optimizer.step()
        for p, q in zip(model.parameters(), on_cpu.parameters(), strict=True):
            torch.testing.assert_close(p.cpu(), q)


CHECKS = (
    equals_the_cpu,
    padding_may_be_anything,
    two_forwards_before_two_backwards,
    within_the_users_graph,
    on_another_stream,
    more_shapes_than_graphs,
    a_training_step_follows_its_parameters,
)
