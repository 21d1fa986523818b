"""The kernels that the launchers of the Triton operations ask for, found by calling them on tensors without storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from bench.static_configurations import Configuration
from mannkern.triton.launch import controller as launch_controller
from mannkern.triton.launch import episode as launch_episode
from mannkern.triton.launch import least_used as launch_least_used
from mannkern.triton.launch import scan as launch_scan
from mannkern.triton.launch import step as launch_step
from mannkern.triton.launch import write_usage as launch_write_usage
from mannkern.triton.tiling import product_blocks

LARGE_BATCH = 1024  # of an episode, whose products have other blocks then
TYPES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


class Compiled(NamedTuple):
    """A kernel with the types, constants and warps that one launch asks for."""

    configuration: str
    kernel: str
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int

    @property
    def name(self) -> str:
        """Kernel and configuration, and what differs where a configuration compiles a kernel twice."""
        without = ", read alone" if self.kernel.startswith("step") and self.constants.get("p_gate", 0) is None else ""
        without += ", no usage" if self.kernel == "step_finish" and self.constants.get("p_usage", 0) is None else ""
        stage = ", second stage" if self.signature.get("p_slots") == "*i32" else ""
        batch = ", large batch" if self.constants.get("BB", 0) > product_blocks(1, 1, torch.float32).BB else ""
        saved = ", nothing saved" if self.kernel == "mann_step" and self.constants.get("p_marks", 0) is None else ""
        ends = ", lengths and resets" if self.signature.get("p_phase") == "*i32" else ""
        return f"{self.kernel}: {self.configuration}{without}{stage}{batch}{saved}{ends}"


def launches(name: str, configuration: Configuration) -> Iterator[Compiled]:
    """Every kernel that the launchers would launch, for all operations, forward and backward."""
    launched: list[Compiled] = []

    def record(kernel: Any, grid: tuple[int, ...], warps: int, *args: Any, **constants: Any) -> None:
        signature, fixed = {}, dict(constants)
        for argument, value in zip(kernel.arg_names, args, strict=False):
            if value is None:
                signature[argument], fixed[argument] = "constexpr", None
            else:
                signature[argument] = TYPES[value.dtype] if isinstance(value, Tensor) else "i32"
        signature |= dict.fromkeys(constants, "constexpr")
        launched.append(Compiled(name, kernel.__name__, signature, fixed, warps))

    with ExitStack() as patches:
        launchers = launch_least_used, launch_write_usage, launch_step, launch_scan, launch_controller, launch_episode
        for module in launchers:
            patches.enter_context(mock.patch.object(module, "run", record))
        patches.callback(setattr, torch.backends.cuda.matmul, "allow_tf32", torch.backends.cuda.matmul.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = configuration.tf32
        _call_everything(configuration)
    if configuration.tf32:
        launched = [item for item in launched if item.constants.get("PRECISION") == "tf32"]
    yield from {item.name: item for item in launched}.values()


def _call_everything(c: Configuration) -> None:
    B, T = 4, 9

    def empty(*size: int, dtype: torch.dtype = c.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device="meta")

    memory, weights, usage = empty(B, c.N, c.W), empty(B, c.R, c.N), empty(B, c.N)
    key, gate = empty(B, c.R, c.W, dtype=c.interface), empty(B, c.R, dtype=c.interface)
    strength = empty(B, c.R, dtype=c.interface) if c.strength else None
    read, options = empty(B, c.R, c.W), (c.n, c.per_head, 0.99)
    out = launch_step.lrua_step(memory, weights, usage, key, key, gate, strength, *options)
    saved = (weights, key, key, gate, strength, memory, weights, out[-1])
    launch_step.lrua_step_backward(memory, read, weights, usage, None, *saved, *options)
    launch_step.cosine_read(memory, key, strength)
    launch_step.cosine_read_backward(read, None, memory, key, strength, weights)
    launch_least_used.least_used_mask(usage, c.n)
    reset = empty(B, dtype=torch.int64)
    launch_write_usage.additive_write(memory, weights, key, reset)
    launch_write_usage.additive_write_backward(memory, weights, key, reset)
    launch_write_usage.usage_update(usage, weights, weights, 0.99)
    keys, gates = empty(T, B, c.R, c.W, dtype=c.interface), empty(T, B, c.R, dtype=c.interface)
    strengths = empty(T, B, c.R, dtype=c.interface) if c.strength else None
    sequence = (keys, keys, gates, strengths)
    reads, *_, marks, checkpoints, weights_checkpoints = launch_scan.lrua_scan(
        memory, weights, usage, *sequence, *options, True
    )  # fmt: skip
    saved_by_scan = (marks, checkpoints, weights_checkpoints)
    launch_scan.lrua_scan_backward(reads, None, None, None, memory, weights, *sequence, *saved_by_scan, *options)
    for batch in (B, LARGE_BATCH) if c.hidden else ():
        _call_episode(c, T, batch)
    if c.hidden:
        _call_episode(c, T, B, with_ends=True)


def _call_episode(c: Configuration, T: int, B: int, with_ends: bool = False) -> None:
    def empty(*size: int, dtype: torch.dtype = c.dtype) -> Tensor:
        return torch.empty(size, dtype=dtype, device="meta")

    F, D, reads, options = 7, c.hidden, c.R * c.W, (c.n, c.per_head, 0.99)
    gates, heads = 4 * D if c.lstm else D, 2 * reads + c.R * (2 if c.strength else 1)
    recurrent, interface = empty(gates, D if c.lstm else 0), empty(heads, D)
    weights = (empty(gates, F + reads), empty(gates), recurrent, interface, empty(heads))
    first, cell = empty(B, D + reads), empty(B, D) if c.lstm else None
    state = (first, cell, empty(B, c.N, c.W), empty(B, c.R, c.N), empty(B, c.N))
    lengths, reset = empty(B, dtype=torch.int64), empty(T, B, dtype=torch.bool)
    ends = (lengths, reset, empty(c.N, c.W)) if with_ends else (None, None, None)
    launch_episode.mann_episode(empty(T, B, F), *weights, *state, *ends, *options, False)
    outputs, _, _, _, _, *saved = launch_episode.mann_episode(empty(T, B, F), *weights, *state, *ends, *options, True)
    arguments = (empty(T, B, F), weights[0], recurrent, interface, *state[:3], outputs, *saved, *ends, *options, True)
    launch_episode.mann_episode_backward(outputs, None, None, None, None, *arguments)
