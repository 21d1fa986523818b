"""What is verified: operations with their arguments and results, cases of each, named shapes, random inputs.

An operation joins ``python -m mannkern verify`` and the tests by its entries in ARGUMENTS, OUTPUTS and CASES.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mannkern import functional
from mannkern.backends import FAMILY


class Shape(NamedTuple):
    """Episodes, slots, width, heads (R of LRUA, H of the NTM), least used slots, steps, shifts."""

    B: int
    N: int
    W: int
    R: int
    n: int
    T: int = 3
    S: int = 3

    @property
    def H(self) -> int:
        """Heads of the NTM."""
        return self.R


SHAPES = {
    "standard": Shape(3, 128, 40, 4, 4),
    "one_slot": Shape(2, 1, 5, 3, 1),
    "one_column": Shape(2, 9, 1, 2, 2),
    "one_head": Shape(3, 20, 8, 1, 1),
    "one_of_each": Shape(1, 1, 1, 1, 1, T=1, S=1),
    "every_slot_least_used": Shape(2, 12, 6, 4, 12),
    "eight_least_used": Shape(2, 20, 7, 3, 8),  # the last that the compiled kernels find by rounds of minimum
    "nine_least_used": Shape(2, 20, 7, 3, 9),  # the first that they sort
    "odd": Shape(3, 33, 17, 3, 3, S=5),
    "past_a_block": Shape(2, 130, 9, 5, 2, S=1),
    "many_heads": Shape(2, 24, 8, 11, 11),
    "more_heads_than_slots": Shape(2, 3, 4, 6, 3, S=11),
    "wide": Shape(1, 16, 70, 2, 2, T=2, S=35),
    "no_episodes": Shape(0, 8, 4, 2, 2),
}
SMALL = Shape(2, 5, 3, 2, 2)

_STATE = {"memory": "BNW", "read_weights": "BRN", "usage": "BN"}
ARGUMENTS = {
    "least_used_mask": {"usage": "BN"},
    "additive_write": {"memory": "BNW", "write_weights": "BRN", "add": "BRW", "reset": "B"},
    "cosine_read": {"memory": "BNW", "key": "BRW", "strength": "BR"},
    "usage_update": {"usage": "BN", "read_weights": "BRN", "write_weights": "BRN"},
    "lrua_step": {**_STATE, "key": "BRW", "add": "BRW", "gate": "BR", "strength": "BR"},
    "lrua_scan": {**_STATE, "keys": "TBRW", "adds": "TBRW", "gates": "TBR", "strengths": "TBR"},
    "shift_sharpen": {"weights": "BHN", "shift": "BHS", "sharpness": "BH"},
    "ntm_address": {
        "memory": "BNW",
        "previous": "BHN",
        "key": "BHW",
        "strength": "BH",
        "gate": "BH",
        "shift": "BHS",
        "sharpness": "BH",
    },
    "ntm_write": {"memory": "BNW", "weights": "BHN", "erase": "BHW", "add": "BHW"},
}
OUTPUTS = {
    "least_used_mask": {"mask": "BN"},
    "additive_write": {"memory": "BNW"},
    "cosine_read": {"read": "BRW", "read_weights": "BRN"},
    "usage_update": {"usage": "BN"},
    "lrua_step": {"memory": "BNW", "read": "BRW", "read_weights": "BRN", "usage": "BN", "write_weights": "BRN"},
    "lrua_scan": {"reads": "TBRW", **_STATE},
    "shift_sharpen": {"weights": "BHN"},
    "ntm_address": {"weights": "BHN"},
    "ntm_write": {"memory": "BNW"},
}
OPTIONAL = {"lrua": ("reset", "strength", "strengths"), "ntm": ()}


class Case(NamedTuple):
    """An operation, whether its optional tensors are given, and its other options."""

    operation: str
    optional: bool = False
    options: dict[str, Any] = {}  # noqa: RUF012  never changed

    @property
    def family(self) -> str:
        """Of the operation: "lrua" or "ntm"."""
        return FAMILY[self.operation]


CASES = {
    "write": Case("additive_write"),
    "write_reset": Case("additive_write", True),
    "read": Case("cosine_read"),
    "read_strength": Case("cosine_read", True),
    "usage": Case("usage_update"),
    "usage_decay_0": Case("usage_update", options={"decay": 0}),
    "step": Case("lrua_step"),
    "step_strength": Case("lrua_step", True, {"decay": 0.95}),
    "step_per_head": Case("lrua_step", options={"least_used": "per_head", "decay": 1.0}),
    "scan": Case("lrua_scan"),
    "scan_strength_per_head": Case("lrua_scan", True, {"least_used": "per_head", "decay": 0.5}),
    "shift_sharpen": Case("shift_sharpen"),
    "ntm_address": Case("ntm_address"),
    "ntm_write": Case("ntm_write"),
}

WITHOUT_GRADIENT = {"mask": Case("least_used_mask")}

Tensors = dict[str, Tensor]


def sizes(letters: str, shape: Shape) -> tuple[int, ...]:
    """Of a tensor of these dimensions."""
    return tuple(getattr(shape, letter) for letter in letters)


def arguments(case: Case, shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensors:
    """Random arguments: usages at least 0.1 apart, so that rounding does not choose slots; strengths from 0 to 4; no
    key near 0, where a gradient is divided by almost nothing; sharpness from 1 to 5; the NTM's gates from 0 to 1."""
    g = torch.Generator().manual_seed(seed)
    found = {}
    for name, letters in ARGUMENTS[case.operation].items():
        if name in OPTIONAL[case.family] and not case.optional:
            continue
        size = sizes(letters, shape)
        if name == "reset":
            found[name] = torch.randint(shape.N, size, generator=g)
        elif name == "usage":
            order = torch.rand(size, generator=g).argsort(-1)
            found[name] = (0.2 * order + 0.1 * torch.rand(size, generator=g)).to(dtype)
        elif name.endswith("weights") or name in ("previous", "shift"):
            found[name] = torch.randn(size, generator=g).softmax(-1).to(dtype)
        elif name.startswith("strength"):
            found[name] = (4 * torch.rand(size, generator=g)).to(dtype)
        elif name == "sharpness":
            found[name] = (1 + 4 * torch.rand(size, generator=g)).to(dtype)
        elif name == "erase" or (name == "gate" and case.family == "ntm"):
            found[name] = torch.rand(size, generator=g).to(dtype)
        else:
            x = torch.randn(size, generator=g)
            found[name] = (x + 0.5 * x.sign() if name.startswith("key") else x).to(dtype)
    return found


def cotangents(case: Case, shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensors:
    """Random gradients of the outputs."""
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(sizes(letters, shape), generator=g).to(dtype)
        for name, letters in OUTPUTS[case.operation].items()
    }


def call(case: Case, tensors: Tensors, backend: str | None, n: int | None = None) -> Tensors:
    """Outputs by name."""
    options = dict(case.options)
    if case.operation.startswith("lrua"):
        options["num_least_used"] = n
    elif case.operation == "least_used_mask":
        options["n"] = n
    outputs = getattr(functional, case.operation)(**tensors, **options, backend=backend)
    return dict(zip(OUTPUTS[case.operation], outputs if isinstance(outputs, tuple) else (outputs,), strict=True))


def narrow(case: Case, tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Floats in ``dtype``, but for the state of a scan beside half precision: its usages would lose their gaps."""
    kept = _STATE if case.operation == "lrua_scan" and dtype.itemsize < 4 else ()
    return {k: x.to(dtype) if x.is_floating_point() and k not in kept else x for k, x in tensors.items()}


def keeps_gap(case: Case, tensors: Tensors, n: int, gap: float = 1e-5) -> bool:
    """Whether, in every step of a scan, the n + 1 smallest usages are so far apart that rounding chooses no slot."""
    state: dict[str, Any] = {name: tensors[name].double() for name in _STATE}
    sequences = {name: x.double() for name, x in tensors.items() if name not in _STATE}
    options: dict[str, Any] = dict(case.options, num_least_used=n, backend="reference")
    for t in range(len(tensors["keys"])):
        lowest = state["usage"].sort(-1).values[:, : n + 1]
        if (lowest.diff(dim=-1) < gap).any():
            return False
        asked: dict[str, Any] = {name.removesuffix("s"): x[t] for name, x in sequences.items()}
        step = functional.lrua_step(**state, **asked, **options)
        state = {name: getattr(step, name) for name in _STATE}
    return True
