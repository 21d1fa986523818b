"""The dispatcher's namespace of the operations, and how an operation is defined."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

library = torch.library.Library("mannkern", "DEF")


def operation(
    name: str, *overloads: str, mutates: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], dict[str, Any]]:
    """Define overloads of the operation ``name`` by their fake, and return them by name, ready to be called.

    The decorated function takes the operation's arguments and returns empty tensors of the shapes and dtypes of its
    results, or None; the schema is read from its annotations. Backends register their kernels for an overload:
    "default" if they save for backward what the gradient reads, "recompute" if they save little and compute it again
    (see :class:`mannkern.backends.Backend`). ``mutates`` names the arguments that the operation writes.
    """

    def define(fake: Callable[..., Any]) -> dict[str, Any]:
        schema = torch.library.infer_schema(fake, mutates_args=mutates).replace("SymInt", "int")
        for overload in overloads:
            full_name = name if overload == "default" else f"{name}.{overload}"
            library.define(full_name + schema, tags=(torch.Tag.pt2_compliant_tag,))
            torch.library.register_fake(f"mannkern::{full_name}", _on_one_device(name, fake), lib=library)
        packet = getattr(torch.ops.mannkern, name)
        return {overload: getattr(packet, overload) for overload in overloads}

    return define


def _on_one_device(name: str, fake: Callable[..., Any]) -> Callable[..., Any]:
    """``fake``, which refuses tensors of several devices.

    The dispatcher takes it for a call where one tensor of many is on meta, and its results have no values.
    """
    names = list(inspect.signature(fake).parameters)

    @functools.wraps(fake)
    def checked(*args: Any) -> Any:
        tensors = [(argument, x) for argument, x in zip(names, args, strict=True) if isinstance(x, Tensor)]
        first, like = tensors[0]
        for argument, x in tensors:
            if x.device != like.device:
                raise RuntimeError(
                    f"mannkern: {name}: {argument}: got device {x.device}, need {like.device}, that of {first}"
                )
        return fake(*args)

    return checked


def empty_like(*tensors: Tensor) -> Any:
    """A tuple of contiguous tensors without values, of the same shapes and dtypes."""
    return tuple(x.new_empty(x.shape) for x in tensors)
