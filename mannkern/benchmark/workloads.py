"""The workloads that are timed: operations with their gradient, and training steps of networks.

A workload is one function here, which draws inputs of the sizes that it takes as arguments. The ways to compute it are
in :mod:`mannkern.benchmark.contestants`, under the workload's name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from mannkern import NTM
from mannkern.benchmark import bound
from mannkern.benchmark.problems import Operation, Training
from mannkern.memories.cases import Shape, arguments, cotangents
from mannkern.memories.registry import cases
from mannkern.models import (
    ConvEmbedding,
    CoreSettings,
    EpisodeClassifier,
    MatchingNetwork,
    MetaMemoryNetwork,
    MetaNetwork,
    Transducer,
    build_core,
)

N, W, R, D, F, T, C = 128, 40, 4, 200, 405, 50, 5  # the standard episode of MANN
CHECKED_STEPS, CHECKED_BATCH = 4, 16  # in float32: in more steps or episodes rounding may decide a near-tie of usage
CHECKED_EPISODES = 2  # in float64, over all steps
NTM_W, NTM_D, BITS, LENGTH = 20, 100, 8, 20  # the copy task of the NTM; its memory has N slots too
DRAWN = 1024  # episodes whose inputs are drawn; a larger batch repeats them
SEQUENCES = {"keys", "adds", "gates", "strengths"}  # of a scan: gradients are taken of them, not of the first state


class Network(nn.Module):
    """A recurrent ``body`` under a linear head: inputs (T, B, F) -> logits (T, B, outputs)."""

    def __init__(self, body: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs)[0])
        return logits


def operation(case: str, shape: Shape, device: str = "cpu", gradient: bool = True) -> Operation:
    """A case of the verification, on random inputs. ``gradient=False``: the forward pass alone."""
    what = cases()[case]
    letters = {name: argument.letters for name, argument in what.operation.arguments.items()}
    outputs = what.operation.outputs
    drawn = shape._replace(B=min(shape.B, DRAWN))
    inputs = {k: _many(x, shape.B, letters[k].index("B")).to(device) for k, x in arguments(what, drawn).items()}
    loss = {k: _many(x, shape.B, outputs[k].index("B")).to(device) for k, x in cotangents(what, drawn).items()}
    needs_grad = tuple(k for k, x in inputs.items() if x.is_floating_point())
    options = dict(what.options)
    if what.operation.is_settled is not None:  # a scan: its reads have a loss, and its sequences need gradients
        needs_grad = tuple(k for k in needs_grad if k in SEQUENCES)
        loss = {"reads": loss["reads"]}
    if what.operation.slots_option is not None:
        options[what.operation.slots_option] = shape.n
    gradient = gradient and what.operation.differentiable
    sizes = {letter: getattr(shape, letter) for letter in dict.fromkeys("B" + "".join(letters.values()))}
    return Operation(what.operation.name, sizes, inputs, tuple(outputs), loss if gradient else {}, needs_grad, options)


def lrua_step(
    B: int, N: int = N, W: int = W, R: int = R, device: str = "cpu", gradient: bool = True
) -> Operation:  # fmt: skip
    """The memory step of MANN alone."""
    problem = operation("step", Shape(B, N, W, R, min(R, N)), device, gradient)
    if device == "cpu":
        return replace(problem, flops=3 * bound.lrua_flops(N, W, R), moved=bound.lrua_bytes(N, W, R))
    forward, backward = bound.lrua_kernel_bytes(N, W, R)
    return replace(problem, moved=forward + backward if gradient else forward)


def lrua_scan(T: int, B: int, device: str = "cpu") -> Operation:
    """T memory steps of MANN whose keys are inputs; the loss uses the reads, the first state needs no gradient."""
    problem = operation("scan", Shape(B, N, W, R, R, T=T), device)
    return replace(problem, moved=0 if device == "cpu" else bound.scan_kernel_bytes(T, N, W, R))


def ntm_step(B: int, device: str = "cpu", gradient: bool = True) -> Operation:
    """Addressing of the NTM by two heads, and a write with the weights."""
    shape = Shape(B, N, NTM_W, 2, 1, S=3)
    address, write = operation("ntm_address", shape, device), operation("ntm_write", shape, device)
    inputs = address.inputs | {k: write.inputs[k] for k in ("erase", "add")}
    forward, backward = bound.ntm_kernel_bytes(N, NTM_W, shape.H, shape.S)
    return Operation(
        "ntm_step",
        address.sizes,
        inputs,
        ("weights", "memory"),
        address.gradients | write.gradients if gradient else {},
        tuple(inputs),
        moved=forward + backward if gradient else forward,
    )


class EpisodeSizes(NamedTuple):
    """Sizes of a training step: T steps of F inputs, D hidden units, N slots of width W, R read heads, C classes."""

    T: int = T
    F: int = F
    D: int = D
    N: int = N
    W: int = W
    R: int = R
    C: int = C


STANDARD = EpisodeSizes()


def episode(
    model: str,
    B: int,
    sizes: EpisodeSizes = STANDARD,
    device: str = "cpu",
    gradient: bool = True,
    seed: int | None = None,
) -> Training:
    """A training step of the core called ``model``: forward, cross entropy of C classes at each step, backward.

    The memory starts uniform at random: no two slots are equal, so matrix products choose the same slots.
    seed: of the inputs and labels (default: B)
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = build_core(model, CoreSettings(*sizes[1:-1], memory_init="uniform"))
        network = Network(body, cast(int, body.output_size), sizes.C).to(device)
        torch.manual_seed(B if seed is None else seed)
        inputs = torch.rand(sizes.T, B, sizes.F).to(device)
        labels = torch.randint(sizes.C, (sizes.T, B)).to(device)
    flops, moved = _work(model, sizes, gradient)
    work: dict[str, Any] = {"flops": float(flops)} if device == "cpu" else {"moved": float(moved)}
    letters = {"B": B} | {letter: size for letter, size in sizes._asdict().items() if letter != "C"}
    return Training(model, letters, network, (inputs,), class_loss, labels, gradient, **work)


def _work(model: str, sizes: EpisodeSizes, gradient: bool) -> tuple[int, int]:
    """FLOPs of an episode, and the bytes that GPU kernels move; 0 for a core whose work nobody has counted."""
    T, F, D, N, W, R, C = sizes
    if model == "mann":
        flops, moved = bound.mann_flops(T, F, D, N, W, R, C, gradient), bound.lrua_kernel_bytes(N, W, R)
    elif model == "ntm":
        flops, moved = bound.ntm_flops(T, F, D, N, W, C, R, gradient), bound.ntm_kernel_bytes(N, W, R + 1, 3)
    else:
        return 0, 0
    return flops, T * (sum(moved) if gradient else moved[0])


def mann(B: int, T: int = T, device: str = "cpu", gradient: bool = True) -> Training:
    """A training step of MANN on the standard episode."""
    return episode("mann", B, STANDARD._replace(T=T), device, gradient)


def mann_cell(B: int, T: int = T, device: str = "cpu", gradient: bool = True) -> Training:
    """The standard episode as a loop over MANNCell."""
    return replace(mann(B, T, device, gradient), workload="mann_cell", flops=0.0, moved=0.0)


def ntm_cell(B: int, T: int = T, device: str = "cpu", gradient: bool = True) -> Training:
    """A loop over an NTMCell of the same sizes, with one read head and one write head."""
    same = episode("ntm", B, STANDARD._replace(T=T, R=1), device, gradient)
    return replace(same, workload="ntm_cell", flops=0.0, moved=0.0)


def copy_task(B: int, device: str = "cpu") -> Training:
    """A training step of the NTM on the copy task: forward, cross entropy of the answer's bits, backward."""
    steps, outputs = 2 * LENGTH + 1, NTM_D + NTM_W
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(NTM(BITS + 1, NTM_D, N, NTM_W, memory_init="uniform"), outputs, BITS).to(device)
    inputs, bits = _bits(B)
    flops = bound.ntm_flops(steps, BITS + 1, NTM_D, N, NTM_W, BITS)
    moved = steps * sum(bound.ntm_kernel_bytes(N, NTM_W, 2, 3))
    work: dict[str, Any] = {"flops": float(flops)} if device == "cpu" else {"moved": float(moved)}
    sizes = {"B": B, "T": steps, "D": NTM_D, "N": N, "W": NTM_W}
    return Training("copy", sizes, network, (inputs.to(device),), bit_loss, bits.to(device), **work)


def model(name: str, B: int, device: str = "cpu", T: int = T) -> Training:
    """A training step of one of ``mannkern.models`` at its defaults: 5 classes with one example each, or a sequence."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MODELS[name]().to(device)
        torch.manual_seed(B)
        if name == "EpisodeClassifier":
            inputs: tuple[Tensor, ...] = (torch.rand(T, B, F),)
            loss: Callable[[Tensor, Tensor], Tensor]
            loss, targets = class_loss, torch.randint(C, (T, B))
        elif name == "Transducer":
            bits, targets = _bits(B)
            inputs, loss = (bits,), bit_loss
        else:
            support, queries = torch.rand(B, C, 28, 28), torch.rand(B, C, 28, 28)
            inputs, targets = (support, torch.arange(C).expand(B, C), queries), torch.arange(C).expand(B, C)
            loss = class_loss
    return Training(name, {"B": B}, network, tuple(x.to(device) for x in inputs), loss, targets.to(device))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "EpisodeClassifier": lambda: EpisodeClassifier(build_core("mann", CoreSettings(F)), C),
    "Transducer": lambda: Transducer(
        build_core("ntm", CoreSettings(BITS + 1, NTM_D, memory_width=NTM_W, num_reads=1)), BITS
    ),
    "MatchingNetwork": lambda: MatchingNetwork(C),
    "MetaNetwork": lambda: MetaNetwork(C),
    "MetaMemoryNetwork": lambda: MetaMemoryNetwork(ConvEmbedding(64), 64, C),
}


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits (T, B, C), or of log-probabilities, which are logits too."""
    return nnf.cross_entropy(logits.flatten(0, 1), labels.flatten())


def bit_loss(logits: Tensor, bits: Tensor) -> Tensor:
    """Cross entropy of the bits (L, B, O) of the answer, which are the last L steps of logits (T, B, O)."""
    return nnf.binary_cross_entropy_with_logits(logits[-len(bits) :], bits)


def _bits(B: int) -> tuple[Tensor, Tensor]:
    """Inputs (2 L + 1, B, bits + 1) of the copy task: random bits, a delimiter, zeros; and its answer (L, B, bits)."""
    bits = torch.randint(2, (LENGTH, B, BITS), generator=torch.Generator().manual_seed(B)).float()
    inputs = torch.zeros(2 * LENGTH + 1, B, BITS + 1)
    inputs[:LENGTH, :, :BITS] = bits
    inputs[LENGTH, :, BITS] = 1
    return inputs, bits


def _many(x: Tensor, B: int, axis: int) -> Tensor:
    """B episodes along ``axis``, those of x again and again."""
    count = -(-B // max(1, x.shape[axis]))
    return torch.cat([x] * max(1, count), axis).narrow(axis, 0, B).contiguous() if count > 1 else x
