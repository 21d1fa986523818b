"""What tests and ``verify`` check of the ring buffer."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mannkern.memories.cases import Argument, Case, Operation, Shape
from tests.memories.ring import functional


def one_hot(size: tuple[int, ...], g: Generator, shape: Shape) -> Tensor:
    """One random slot for each episode, as a row that is 1 there and 0 elsewhere."""
    return torch.eye(shape.N)[torch.randint(shape.N, size[:-1], generator=g)]


OPERATIONS = {
    "ring_write": Operation(
        "ring_write",
        "ring",
        functional.ring_write,
        {"memory": Argument("BNW"), "place": Argument("BN", one_hot), "value": Argument("BW")},
        {"memory": "BNW"},
    ),
    "ring_read": Operation(
        "ring_read",
        "ring",
        functional.ring_read,
        {"memory": Argument("BNW"), "key": Argument("BRW")},
        {"read": "BRW", "read_weights": "BRN"},
    ),
}
CASES = {name: Case(operation) for name, operation in OPERATIONS.items()}
