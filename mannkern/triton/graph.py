"""CUDA graphs of an operation that launches many small kernels, one graph for each set of shapes and options.

The first call with a set runs as it is, which also compiles the kernels and warms up the libraries; the second one
captures a graph, and it and all further ones replay that. Arguments are copied to the graph's own tensors and results
are copied from them to new ones, so that a caller may keep results, and two calls before a backward pass do not touch
each other's. A graph holds once the memory of its arguments, results and buffers: of a MANN of the standard sizes, with
50 steps, about 0.6 MB an episode forward and 1.0 MB backward. The last ``CAPACITY`` sets are remembered.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CAPACITY = 8
MOST_BYTES = 1 << 30  # of inputs: a larger call does not wait for its launches, and a graph would keep its memory

NEVER = "never"  # in place of a graph: its capture ran out of memory

Results = tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]  # and scratch memory
Operation = Callable[..., Results]
_lock = threading.Lock()
_graphs: OrderedDict[Any, Graph | str | None] = OrderedDict()


class Graph:
    """A captured operation with its own arguments, results and scratch memory."""

    def __init__(self, operation: Operation, tensors: tuple[Tensor | None, ...], options: tuple[Any, ...]) -> None:
        self.tensors = [None if x is None else x.contiguous().clone() for x in tensors]
        self.done = torch.cuda.Event()
        self.graph = torch.cuda.CUDAGraph()
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            self.graph.capture_begin(capture_error_mode="thread_local")
            try:
                self.results, self.scratch = operation(*self.tensors, *options)
            finally:
                self.graph.capture_end()
        current.wait_stream(stream)

    def __call__(self, tensors: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        stream = torch.cuda.current_stream()
        stream.wait_event(self.done)  # of a call on another stream
        _copy([x for x in self.tensors if x is not None], [x for x in tensors if x is not None])
        self.graph.replay()
        results = tuple(torch.empty_like(x) for x in self.results)
        _copy(list(results), list(self.results))
        self.done.record(stream)
        return results


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    pairs = [(x, y) for x, y in zip(targets, sources, strict=True) if x.numel()]
    for dtype in {x.dtype for x, _ in pairs}:
        same = [(x, y) for x, y in pairs if x.dtype == dtype]
        torch._foreach_copy_([x for x, _ in same], [y for _, y in same])


def replay(operation: Operation, tensors: tuple[Tensor | None, ...], options: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """The results of ``operation(*tensors, *options)``, by a graph where there is one or can be one.

    operation: a function that returns its results and its scratch memory, which is all else that its kernels use, both
    new tensors, and whose launches depend only on shapes, dtypes and options. A graph keeps all of them, because within
    ``torch.cuda.use_mem_pool`` a freed block goes back to that pool, and replays would write into what has it next.
    """
    first = next(x for x in tensors if x is not None)
    device = first.device
    if device.type != "cuda" or not first.numel() or _bytes(tensors) > MOST_BYTES:
        return operation(*tensors, *options)[0]
    with torch.cuda.device(device):
        if torch.cuda.is_current_stream_capturing() or _warms_up(device):
            return operation(*tensors, *options)[0]
        key = _key(operation, tensors, options, device)
        with _lock:
            known, graph = key in _graphs, _graphs.pop(key, None)
            if known:
                graph = _capture(operation, tensors, options) if graph is None else graph
                _graphs[key] = graph
                if not isinstance(graph, str):
                    return graph(tensors)
        results = operation(*tensors, *options)[0]
        if not known:  # only now: a call that failed has not warmed up
            with _lock:
                _graphs.setdefault(key, None)
                while len(_graphs) > CAPACITY:
                    _forget_oldest()
        return results


def _capture(operation: Operation, tensors: tuple[Tensor | None, ...], options: tuple[Any, ...]) -> Graph | str:
    """A new graph, or ``NEVER`` where a capture has too little memory; then no graph keeps any.

    During a capture PyTorch does not give back what it holds and does not use, so one may fail where a call would not.
    """
    try:
        return Graph(operation, tensors, options)
    except RuntimeError as error:  # or that of ending the capture, which the lack of memory has made invalid
        if not _is_out_of_memory(error) and not _is_out_of_memory(error.__context__):
            raise
    _forget_all()
    return NEVER


def _is_out_of_memory(error: BaseException | None) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)  # of a compiled operation


def clear() -> None:
    """Forget all graphs and give their memory back to the GPU; the next calls run as first calls do."""
    with _lock:  # another thread may be replaying one
        _forget_all()


def _forget_all() -> None:
    while _graphs:
        _forget_oldest()
    torch.cuda.empty_cache()


def _forget_oldest() -> None:
    _, oldest = _graphs.popitem(last=False)
    if oldest is not None and not isinstance(oldest, str):
        oldest.done.synchronize()


def _bytes(tensors: tuple[Tensor | None, ...]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors if x is not None)


def _warms_up(device: torch.device) -> bool:
    """Whether torch.compile warms up for a graph of its own: what is allocated then belongs to that graph."""
    trees = sys.modules.get("torch._inductor.cudagraph_trees")
    if trees is None:
        return False
    try:
        manager = trees.get_manager(device.index, create_if_none_exists=False)
    except AssertionError:  # a thread that torch.compile has not seen
        return False
    return manager is not None and manager.in_warmup


def _key(
    operation: Operation, tensors: tuple[Tensor | None, ...], options: tuple[Any, ...], device: torch.device
) -> Any:
    shapes = tuple(None if x is None else (x.shape, x.dtype) for x in tensors)
    # tensors of inference mode can be written to in no other
    modes = torch.backends.cuda.matmul.fp32_precision, torch.is_inference_mode_enabled()
    return operation, device, shapes, options, *modes
