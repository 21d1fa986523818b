"""What tests and ``verify`` check of the NTM: its operations, cases of them, and whole sequences."""

from __future__ import annotations

from typing import Any

from mannkern.memories.cases import Argument, Case, Operation, away_from_zero, normal, simplex, uniform
from mannkern.memories.ntm import functional

_SHARPNESS = Argument("BH", uniform(1, 5))

_ALL = (
    Operation(
        "shift_sharpen",
        "ntm",
        functional.shift_sharpen,
        {"weights": Argument("BHN", simplex), "shift": Argument("BHS", simplex), "sharpness": _SHARPNESS},
        {"weights": "BHN"},
    ),
    Operation(
        "ntm_address",
        "ntm",
        functional.ntm_address,
        {
            "memory": Argument("BNW"),
            "previous": Argument("BHN", simplex),
            "key": Argument("BHW", away_from_zero),
            "strength": Argument("BH", uniform(0, 4)),
            "gate": Argument("BH", uniform(0, 1)),
            "shift": Argument("BHS", simplex),
            "sharpness": _SHARPNESS,
        },
        {"weights": "BHN"},
    ),
    Operation(
        "ntm_write",
        "ntm",
        functional.ntm_write,
        {
            "memory": Argument("BNW"),
            "weights": Argument("BHN", simplex),
            "erase": Argument("BHW", uniform(0, 1)),
            "add": Argument("BHW"),
        },
        {"memory": "BNW"},
    ),
)
OPERATIONS = {operation.name: operation for operation in _ALL}
CASES = {name: Case(operation) for name, operation in OPERATIONS.items()}

# NTMs whose fused sequences are verified, and how their states are drawn
EPISODE_OPTIONS: dict[str, dict[str, Any]] = {
    "lstm": {"num_write_heads": 2},
    "feedforward": {"controller": "feedforward", "shift_range": 2},
}
STATE = {"memory": normal, "read_weights": simplex, "write_weights": simplex, "read": normal}
