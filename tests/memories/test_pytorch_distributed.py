"""DDP and FSDP2 around a module or its cell: the same gradients, no warnings, and weights that come from meta."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from mannkern import MANN, NTM
from mannkern.models import PersistentClassifier
from mannkern.optim import Muon

MODULES = pytest.mark.parametrize("module", [MANN, NTM])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", "feedforward"])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", "reference"])
WRAPS = ("ddp", "ddp_static", "fsdp", "fsdp_cell", "fsdp_both")


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of the first group
        distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield
    distributed.destroy_process_group()


def build(module: Any, controller: str, backend: str, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = (3, 5, 8, 4, 2)
    return module(*sizes, controller=controller, backend=backend, dtype=torch.float64, memory_init="learned", **options)


def wrap(model: Any, how: str) -> Any:
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    if how.startswith("ddp"):
        return DistributedDataParallel(model, static_graph=how == "ddp_static")
    if how in ("fsdp_cell", "fsdp_both"):
        fully_shard(model.cell, mesh=mesh)
    if how in ("fsdp", "fsdp_both"):
        fully_shard(model, mesh=mesh)
    return model


def whole(x: Any) -> Tensor:
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def gradients(model: Any, x: Tensor) -> dict[str, Tensor]:
    """Of two calls: one from the initial state, one from the state after the first."""
    model.zero_grad()
    output, state = model(x)
    more, last = model(x, state)
    (output.square().mean() + more.square().mean() + last.memory.square().mean()).backward()
    return {name.removeprefix("module."): whole(p.grad) for name, p in model.named_parameters()}


def compare(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(got[name], x, rtol=1e-9, atol=1e-12)


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("how", WRAPS)
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
def test_gradients_without_a_warning(module: Any, controller: str, backend: str, how: str, batch_first: bool) -> None:
    model = build(module, controller, backend, batch_first=batch_first)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    expected = gradients(copy.deepcopy(model), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = gradients(wrap(model, how), x)
    compare(got, expected)


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("part", ["module", "cell"])
def test_from_the_meta_device(module: Any, controller: str, backend: str, part: str) -> None:
    """As large models start: without values, sharded, given memory, and loaded."""
    trained, model = build(module, controller, backend), build(module, controller, backend, device="meta")
    wrap(model, "fsdp" if part == "module" else "fsdp_cell")
    model.to_empty(device="cpu")
    shards = {name: p.device_mesh for name, p in model.named_parameters()}
    weights = {
        name: torch.distributed.tensor.distribute_tensor(x, shards[name]) for name, x in trained.state_dict().items()
    }
    model.load_state_dict(weights, assign=True)
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(model(x)[0], trained(x)[0], rtol=1e-12, atol=1e-12)


def run(rank: int, store: str) -> None:
    """One of two processes, each with half of the batch. The mean of their gradients is that of the whole batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{store}")
    for module, controller in ((MANN, "lstm"), (NTM, "feedforward")):
        for how in WRAPS:
            model = build(module, controller, "cpp")
            torch.manual_seed(1)
            x = torch.randn(4, 6, 3, dtype=torch.float64)
            expected = gradients(copy.deepcopy(model), x)
            compare(gradients(wrap(model, how), x.chunk(2, 1)[rank]), expected)
    muon_of_shards()
    memories_of_ranks(rank)
    distributed.destroy_process_group()


def muon_of_shards() -> None:
    """Steps of Muon move sharded matrices as they move whole ones."""
    model = build(MANN, "lstm", "cpp")
    plain, x = (
        copy.deepcopy(model),
        torch.randn(4, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    )
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizers = [Muon(m) for m in (model, plain)]
    for _ in range(2):
        for m, optimizer in zip((model, plain), optimizers, strict=True):
            gradients(m, x)
            optimizer.step()
    moved = {name: whole(p.detach()) for name, p in model.named_parameters()}
    compare(moved, {name: p.detach() for name, p in plain.named_parameters()})


def memories_of_ranks(rank: int) -> None:
    """A memory that is not wiped goes on with what its own rank has seen; DDP sends rank 0's other buffers to all."""
    torch.manual_seed(0)
    model = PersistentClassifier(MANN(3, 5, 8, 4, 2), 3, batch_size=2)
    plain, wrapped = copy.deepcopy(model), DistributedDataParallel(model)
    for x in torch.randn(2, 3, 4, 2, 3)[rank]:
        torch.testing.assert_close(wrapped(x), plain(x))


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(run, (str(tmp_path / "store"),), nprocs=2)


@MODULES
@CONTROLLERS
@BACKENDS
@pytest.mark.parametrize("memory_init", [1e-6, "learned"])
@pytest.mark.parametrize("how", ["fsdp", "fsdp_cell"])
def test_a_sharded_cell(module: Any, controller: str, backend: str, memory_init: Any, how: str) -> None:
    """Outside its calls its parameters are shards. What it makes of them there are plain tensors all the same."""
    torch.manual_seed(0)
    model = module(3, 5, 8, 4, 2, controller=controller, backend=backend, memory_init=memory_init)
    plain, x = copy.deepcopy(model), torch.randn(4, 2, 3)
    wrap(model, how)
    reset = torch.tensor([[False, True]] * 4)
    for arguments in ({"lengths": [4, 2]}, {"reset": reset}, {"state": True}, {"state": True, "lengths": [4, 2]}):
        results = []
        for run in (model, plain):
            given = dict(arguments, state=run.initial_state(2) if "state" in arguments else None)
            output, state = run(x, given.pop("state"), **given)
            results.append((output, state.memory))
        torch.testing.assert_close(*results)
        assert all(type(part) is Tensor for part in results[0])
    empty, state = model(x[:0])
    assert empty.shape == (0, 2, model.output_size)
    assert torch.equal(state.memory, plain.initial_state(2).memory)
