"""Eager PyTorch at its best: the memory step with matrix products.

The reference writes its sums out, because a matrix product may round two equal slots differently and the tie rule
then chooses another one. Who does not need that is faster with this; results agree wherever no two slots are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mannkern import MANNCell, MANNState

EPS = 1e-8


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
    """Arguments and results of the reference's step; only ``per_head=False``."""
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
    """A step of ``cell`` around :func:`lrua_step`."""
    hidden, controller = cell.control(torch.cat([x, state.read.flatten(1)], -1), state.controller)
    key, add, gate, strength = cell.ask(hidden)
    memory, read, read_weights, usage, _ = lrua_step(
        *state[1:4], key, add, gate, strength, cell.num_least_used, cell.least_used == "per_head", cell.decay
    )
    return torch.cat([hidden, read.flatten(1)], -1), MANNState(controller, memory, read_weights, usage, read)
