"""What tests and ``verify`` check of LRUA: its operations, cases of them, and whole episodes of a MANN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mannkern.memories.cases import (
    Argument,
    Case,
    Operation,
    Tensors,
    away_from_zero,
    normal,
    simplex,
    slot,
    spaced,
    uniform,
)
from mannkern.memories.lrua import functional

GAP = 1e-5  # between usages, so that rounding chooses no slot

_STATE = {"memory": Argument("BNW"), "read_weights": Argument("BRN", simplex), "usage": Argument("BN", spaced)}
_STRENGTH = uniform(0, 4)


def usage_gap(usage: Tensor, n: int) -> float:
    """The smallest distance between two of the n + 1 smallest usages (B, N) of an episode; infinite if N = 1."""
    lowest = usage.detach().sort(-1).values[:, : n + 1].diff(dim=-1)
    return float(lowest.min()) if lowest.numel() else float("inf")


def keeps_gap(case: Case, tensors: Tensors, n: int) -> bool:
    """Whether, in every step of a scan, the n + 1 smallest usages are so far apart that rounding chooses no slot."""
    state: dict[str, Any] = {name: tensors[name].double() for name in _STATE}
    sequences = {name: x.double() for name, x in tensors.items() if name not in _STATE}
    options: dict[str, Any] = dict(case.options, num_least_used=n, backend="reference")
    for t in range(len(tensors["keys"])):
        if usage_gap(state["usage"], n) < GAP:
            return False
        interface: dict[str, Any] = {name.removesuffix("s"): x[t] for name, x in sequences.items()}
        step = functional.lrua_step(**state, **interface, **options)
        state = {name: getattr(step, name) for name in _STATE}
    return True


_ALL = (
    Operation(
        "least_used_mask",
        "lrua",
        functional.least_used_mask,
        {"usage": Argument("BN", spaced)},
        {"mask": "BN"},
        slots_option="n",
        differentiable=False,
    ),
    Operation(
        "additive_write",
        "lrua",
        functional.additive_write,
        {
            "memory": Argument("BNW"),
            "write_weights": Argument("BRN", simplex),
            "add": Argument("BRW"),
            "reset": Argument("B", slot, optional=True),
        },
        {"memory": "BNW"},
    ),
    Operation(
        "cosine_read",
        "lrua",
        functional.cosine_read,
        {
            "memory": Argument("BNW"),
            "key": Argument("BRW", away_from_zero),
            "strength": Argument("BR", _STRENGTH, optional=True),
        },
        {"read": "BRW", "read_weights": "BRN"},
    ),
    Operation(
        "usage_update",
        "lrua",
        functional.usage_update,
        {
            "usage": Argument("BN", spaced),
            "read_weights": Argument("BRN", simplex),
            "write_weights": Argument("BRN", simplex),
        },
        {"usage": "BN"},
    ),
    Operation(
        "lrua_step",
        "lrua",
        functional.lrua_step,
        {
            **_STATE,
            "key": Argument("BRW", away_from_zero),
            "add": Argument("BRW"),
            "gate": Argument("BR"),
            "strength": Argument("BR", _STRENGTH, optional=True),
        },
        {"memory": "BNW", "read": "BRW", "read_weights": "BRN", "usage": "BN", "write_weights": "BRN"},
        slots_option="num_least_used",
    ),
    Operation(
        "lrua_scan",
        "lrua",
        functional.lrua_scan,
        {
            **_STATE,
            "keys": Argument("TBRW", away_from_zero),
            "adds": Argument("TBRW"),
            "gates": Argument("TBR"),
            "strengths": Argument("TBR", _STRENGTH, optional=True),
        },
        {"reads": "TBRW", "memory": "BNW", "read_weights": "BRN", "usage": "BN"},
        slots_option="num_least_used",
        state=tuple(_STATE),
        is_settled=keeps_gap,
    ),
)
OPERATIONS = {operation.name: operation for operation in _ALL}

CASES = {
    "mask": Case(OPERATIONS["least_used_mask"]),
    "write": Case(OPERATIONS["additive_write"]),
    "write_reset": Case(OPERATIONS["additive_write"], True),
    "read": Case(OPERATIONS["cosine_read"]),
    "read_strength": Case(OPERATIONS["cosine_read"], True),
    "usage": Case(OPERATIONS["usage_update"]),
    "usage_decay_0": Case(OPERATIONS["usage_update"], options={"decay": 0}),
    "step": Case(OPERATIONS["lrua_step"]),
    "step_strength": Case(OPERATIONS["lrua_step"], True, {"decay": 0.95}),
    "step_per_head": Case(OPERATIONS["lrua_step"], options={"least_used": "per_head", "decay": 1.0}),
    "scan": Case(OPERATIONS["lrua_scan"]),
    "scan_strength_per_head": Case(OPERATIONS["lrua_scan"], True, {"least_used": "per_head", "decay": 0.5}),
}

# MANNs whose fused episodes are verified, and how their states are drawn
EPISODE_OPTIONS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "feedforward": {"controller": "feedforward", "key_strength": True, "least_used": "per_head"},
}
STATE = {"memory": normal, "read_weights": simplex, "usage": spaced, "read": normal}


def choice_gap(cell: torch.nn.Module, state: Any) -> float:
    """The smallest distance between the usages by which a step chooses its slots."""
    return usage_gap(state.usage, int(cell.num_least_used))  # type: ignore[arg-type]
