"""Rows of docs/pytorch.md: training by several processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.docs.pytorch.feature import COMPILED, STEPS, Feature, build, close, draw, twin


@contextmanager
def one_process() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of the first group
        distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        distributed.destroy_process_group()


def wrapped(module: Any, backend: str, how: str) -> None:
    model, x = build(module, backend), draw(4, 2, 3)
    plain = twin(model)
    with one_process() as mesh, warnings.catch_warnings():
        warnings.simplefilter("error")
        if how == "ddp":
            model = DistributedDataParallel(model)
        else:
            fully_shard(model.cell if how == "cell" else model, mesh=mesh)
        output = model(x)[0]
        output.square().sum().backward()
    close(output, plain(x)[0])
    assert all(p.grad is not None for p in model.parameters())


def sharded_uses(module: Any, backend: str) -> None:
    """Of a whole module, with a constant and a learned initial memory."""
    for memory_init in (1e-6, "learned"):
        use_sharded(build(module, backend, memory_init=memory_init), whole=True)


def use_sharded(model: Any, whole: bool) -> None:
    x, plain = draw(4, 2, 3), twin(model)
    ends = {"lengths": torch.tensor([4, 2]), "reset": torch.tensor([[False, True]] * 4)}
    with one_process() as mesh:
        fully_shard(model if whole else model.cell, mesh=mesh)
        for run in (model, plain):
            assert run(x[:0])[0].shape == (0, 2, model.output_size)
        close(model(x, model.initial_state(2), **ends)[0], plain(x, plain.initial_state(2), **ends)[0])
        close(model(x, **ends)[0], plain(x, **ends)[0])


def ddp(module: Any, backend: str) -> None:
    wrapped(module, backend, "ddp")


def sharded(module: Any, backend: str) -> None:
    wrapped(module, backend, "module")


def sharded_cell(module: Any, backend: str) -> None:
    wrapped(module, backend, "cell")


TWO_PROCESSES = ("tests/memories/test_pytorch_distributed.py::test_two_processes",)
FEATURES = (
    Feature(
        "`DistributedDataParallel`",
        "It works around a module, without a warning.",
        COMPILED,
        STEPS,
        ddp,
        evidence=TWO_PROCESSES,
    ),
    Feature(
        "FSDP2, `fully_shard(mann)`",
        "It shards a module, without a warning.",
        COMPILED,
        STEPS,
        sharded,
        evidence=TWO_PROCESSES,
    ),
    Feature(
        "FSDP2, `fully_shard(mann.cell)`",
        "The hooks of the cell gather its weights at each step, so shard the whole module.",
        STEPS,
        STEPS,
        sharded_cell,
        evidence=TWO_PROCESSES,
    ),
    Feature(
        "FSDP2: `lengths=`, `reset=`, a state that `initial_state` made, a sequence of no steps",
        "`initial_state` gathers a learned initial memory.",
        COMPILED,
        STEPS,
        sharded_uses,
        evidence=("tests/memories/test_pytorch_distributed.py::test_a_sharded_cell",),
    ),
)
