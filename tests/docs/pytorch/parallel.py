"""Rows of docs/pytorch.md: training by several processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
)
