"""Where the operations are defined."""

from __future__ import annotations

import torch

library = torch.library.Library("mannkern", "DEF")


def define(schema: str) -> None:
    """Add an operation; its kernels and its shapes come on their own."""
    library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
