"""Graphs of an operation, with stand-ins for CUDA's: when one is captured, what it copies, which are forgotten."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern.triton import graph


class Device:
    """Stands in for torch.cuda: a graph records nothing, and its replay runs the operation again in place."""

    def __init__(self) -> None:
        self.capturing = False
        self.log: list[str] = []

    def is_current_stream_capturing(self) -> bool:
        return self.capturing


class Replayed:
    """Stands in for ``graph.Graph``: the operation runs on the graph's own tensors, its results stay in place."""

    device: Device

    def __init__(self, operation: Any, tensors: Any, options: Any) -> None:
        self.device.log.append("capture")
        self.tensors = [None if x is None else x.clone() for x in tensors]
        self.results, self.scratch = operation(*self.tensors, *options)
        self.again = lambda: operation(*self.tensors, *options)[0]
        self.done, self.graph = self, self

    def wait(self, *_: Any) -> None:
        self.device.log.append("wait")

    def record(self, *_: Any) -> None:
        self.device.log.append("record")

    def synchronize(self) -> None:
        self.device.log.append("synchronize")

    def replay(self) -> None:
        self.device.log.append("replay")
        for x, y in zip(self.results, self.again(), strict=True):
            x.copy_(y)

    __call__ = graph.Graph.__call__


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    stand_in = Device()
    monkeypatch.setattr(Replayed, "device", stand_in, raising=False)
    monkeypatch.setattr(graph, "Graph", Replayed)
    monkeypatch.setattr(graph, "_graphs", type(graph._graphs)())
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", stand_in.is_current_stream_capturing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream(stand_in))
    return stand_in


class Stream:
    def __init__(self, device: Device) -> None:
        self.device = device

    def wait_event(self, event: Any) -> None:
        event.wait()


class OnGPU(torch.Tensor):
    """A tensor of the CPU that says it is on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 0)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).as_subclass(OnGPU)


def double(x: Tensor, y: Tensor | None, factor: float) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return (x.as_subclass(Tensor) * factor, torch.zeros(0) if y is None else y.as_subclass(Tensor) + 1), ()


def test_example(device: Device) -> None:
    """The first call runs, the second captures and replays, the third replays: each doubles its own argument."""
    results = [graph.replay(double, (tensor(x), None), (2.0,)) for x in (1.0, 2, 3)]
    assert device.log == ["capture", "wait", "replay", "record", "wait", "replay", "record"]
    assert [float(x[0]) for x in results] == [2, 4, 6]  # no call has overwritten the results of another


def test_a_first_call_that_fails_has_not_warmed_up(device: Device) -> None:
    """A capture would come upon kernels that were never compiled."""

    def fails(*_: Any) -> Any:
        if not calls:
            calls.append(None)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return double(*_)

    calls: list[None] = []
    with pytest.raises(torch.OutOfMemoryError):
        graph.replay(fails, (tensor(1), None), (2.0,))
    graph.replay(fails, (tensor(1), None), (2.0,))
    assert device.log == []
    graph.replay(fails, (tensor(1), None), (2.0,))
    assert device.log[0] == "capture"


def test_graphs_are_forgotten_when_the_user_wants_their_memory(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: device.log.append("empty"))
    for _ in range(2):
        graph.replay(double, (tensor(1), None), (2.0,))
    graph.clear()
    assert device.log[-2:] == ["synchronize", "empty"]
    assert not graph._graphs
    assert graph.replay(double, (tensor(3), None), (2.0,))[0].item() == 6


def test_on_the_cpu_there_is_no_graph(device: Device) -> None:
    for _ in range(3):
        assert graph.replay(double, (torch.ones(1), None), (2.0,))[0].item() == 2
    assert device.log == []


def test_a_call_that_takes_long_has_no_graph(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two float32 are 8 bytes."""
    monkeypatch.setattr(graph, "MOST_BYTES", 7)
    for _ in range(3):
        assert graph.replay(double, (tensor(1, 2), None), (2.0,))[0].tolist() == [2, 4]
    assert device.log == []
    assert graph.replay(double, (tensor(1), None), (2.0,))[0].item() == 2
    assert len(graph._graphs) == 1


def test_within_a_capture_of_the_users(device: Device) -> None:
    device.capturing = True
    for _ in range(3):
        assert graph.replay(double, (tensor(1), None), (2.0,))[0].item() == 2
    assert device.log == []
    assert not graph._graphs


def test_while_torch_compile_warms_up(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own graphs take the launches up, and would take the memory of ours."""

    class Trees:
        in_warmup = True

        @classmethod
        def get_manager(cls, index: int, create_if_none_exists: bool) -> Any:
            assert (index, create_if_none_exists) == (0, False)
            return cls

    monkeypatch.setitem(sys.modules, "torch._inductor.cudagraph_trees", Trees)
    for _ in range(3):
        assert graph.replay(double, (tensor(1), None), (2.0,))[0].item() == 2
    assert device.log == []
    Trees.in_warmup = False
    graph.replay(double, (tensor(1), None), (2.0,))
    assert len(graph._graphs) == 1


@pytest.mark.filterwarnings("ignore")  # of torch's own import
def test_the_trees_of_this_torch_say_whether_they_warm_up() -> None:
    """The names that are asked for exist; without a GPU there is no manager."""
    trees = importlib.import_module("torch._inductor.cudagraph_trees")
    assert trees.get_manager(0, create_if_none_exists=False) is None
    assert isinstance(trees.CUDAGraphTreeManager.in_warmup, property)
    assert not graph._warms_up(torch.device("cuda", 0))


def test_a_graph_of_inference_mode_is_its_own(device: Device) -> None:
    """Its tensors cannot be written to elsewhere."""
    with torch.inference_mode():
        for _ in range(2):
            graph.replay(double, (tensor(1), None), (2.0,))
    with torch.no_grad():
        for x in (3, 4, 5):
            assert graph.replay(double, (tensor(x), None), (2.0,))[0].item() == 2 * x
    assert device.log.count("capture") == 2


def operation_runs_out(*_: Any) -> None:
    """As a compiled operation, which can only raise a RuntimeError."""
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def runs_out(*_: Any) -> None:
    """As where the capture that was begun cannot be ended either."""
    try:
        raise torch.OutOfMemoryError("CUDA out of memory")
    finally:
        raise RuntimeError("the capture is not valid")


@pytest.mark.parametrize("capture", [runs_out, operation_runs_out])
def test_a_capture_without_memory(
    device: Device, monkeypatch: pytest.MonkeyPatch, capture: Callable[..., None]
) -> None:
    """The call runs without a graph then, now and later, and the other graphs give their memory back."""
    for _ in range(2):
        graph.replay(double, (tensor(1, 2), None), (2.0,))
    released: list[None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: released.append(None))
    monkeypatch.setattr(graph, "Graph", capture)
    for x in (3, 4, 5, 6):
        assert graph.replay(double, (tensor(x), None), (2.0,))[0].item() == 2 * x
    assert device.log.count("capture") == 1
    assert device.log.count("synchronize") == len(released) == 1
    assert [kept for kept in graph._graphs.values() if kept is not None and kept is not graph.NEVER] == []


def test_a_capture_that_fails_otherwise(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(graph, "Graph", fails)
    graph.replay(double, (tensor(1), None), (2.0,))
    with pytest.raises(RuntimeError, match="a defect"):
        graph.replay(double, (tensor(1), None), (2.0,))


def test_no_episodes(device: Device) -> None:
    for _ in range(3):
        graph.replay(double, (tensor(), None), (2.0,))
    assert device.log == []


def test_other_shapes_types_options_and_missing_arguments_are_other_graphs(
    device: Device,
) -> None:
    calls: list[Any] = [
        ((tensor(1), None), (2.0,)),
        ((tensor(1, 2), None), (2.0,)),
        ((tensor(1).double().as_subclass(OnGPU), None), (2.0,)),
        ((tensor(1), tensor(1)), (2.0,)),
        ((tensor(1), None), (3.0,)),
    ]
    for arguments in calls * 2:
        graph.replay(double, *arguments)
    assert device.log.count("capture") == len(calls)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        for _ in range(2):
            graph.replay(double, *calls[0])
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert device.log.count("capture") == len(calls) + 1


def test_the_oldest_graph_is_forgotten(device: Device) -> None:
    """One more set of shapes than are remembered: the first one, which was not used since, is captured again."""
    for size in range(1, graph.CAPACITY + 2):
        for _ in range(2):
            graph.replay(double, (tensor(*range(size)), None), (2.0,))
    assert len(graph._graphs) == graph.CAPACITY
    assert device.log.count("synchronize") == 1
    captured = device.log.count("capture")
    graph.replay(double, (tensor(*range(graph.CAPACITY + 1)), None), (2.0,))
    assert device.log.count("capture") == captured
    for _ in range(2):
        assert graph.replay(double, (tensor(5), None), (2.0,))[0].item() == 10
    assert device.log.count("capture") == captured + 1
