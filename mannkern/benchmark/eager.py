"""The memory step of MANN in eager PyTorch with matrix products: the fastest way without compiled code.

The reference writes its sums out, because a matrix product may round two equal slots differently, and then the tie rule
chooses another slot. This step is faster, and its results agree wherever no two slots are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern import MANNCell, MANNState

EPS = 1e-8  # of torch.nn.functional.cosine_similarity


def lrua_step(
    memory: Tensor,
    read_weights: Tensor,
    usage: Tensor,
    key: Tensor,
    add: Tensor,
    gate: Tensor,
    strength: Tensor | None,
    num_least_used: int,
    per_head: bool,
    decay: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One step with the arguments and results of the reference's; it has no ``per_head=True``."""
    assert not per_head
    least_used = torch.sort(usage.detach(), stable=True).indices[:, :num_least_used]
    w_lu = torch.zeros_like(usage).scatter_(-1, least_used, 1.0).unsqueeze(1)
    write_weights = torch.lerp(w_lu, read_weights, torch.sigmoid(gate).unsqueeze(-1))
    memory = memory.scatter(1, least_used[:, :1, None].expand(-1, 1, memory.shape[-1]), 0.0)
    memory = torch.baddbmm(memory, write_weights.mT, add)
    norm = torch.linalg.vector_norm(memory, dim=-1).clamp_min(EPS).unsqueeze(1)
    key = key / torch.linalg.vector_norm(key, dim=-1, keepdim=True).clamp_min(EPS)
    cosine = (key @ memory.mT) / norm
    read_weights = torch.softmax(cosine if strength is None else strength.unsqueeze(-1) * cosine, -1)
    usage = decay * usage + read_weights.sum(1) + write_weights.sum(1)
    return memory, read_weights @ memory, read_weights, usage, write_weights


def cell_step(cell: MANNCell, x: Tensor, state: MANNState) -> tuple[Tensor, MANNState]:
    """A step of ``cell``, which has an LSTM controller and no key strength, around :func:`lrua_step`."""
    _, R, W = state.read.shape
    hidden, c = cell.controller(torch.cat([x, state.read.flatten(1)], -1), state.controller)
    key, add, gate = cell.interface(hidden).split([R * W, R * W, R], -1)
    memory, read, read_weights, usage, _ = lrua_step(
        state.memory,
        state.read_weights,
        state.usage,
        torch.tanh(key).unflatten(-1, (R, W)),
        torch.tanh(add).unflatten(-1, (R, W)),
        gate,
        None,
        cell.num_least_used,
        False,
        cell.decay,
    )
    return torch.cat([hidden, read.flatten(1)], -1), MANNState((hidden, c), memory, read_weights, usage, read)
