"""Makes Triton's interpreter four times as fast as Triton has it, by not computing the same thing again.

It replaces the built-in functions of ``triton.language`` at a launch and again at each call of a function inside the
kernel, where all are replaced already; to find that out takes longer than what such a function does. It also computes
the shape of each block anew, and the table of numpy's types. ``tests/triton/test_fast_interpreter.py`` compares the
results with those of the interpreter as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import triton.language as tl
from triton.language import core
from triton.runtime import interpreter

_as_it_is = {
    (interpreter.GridExecutor, "__call__"): interpreter.GridExecutor.__call__,
    (interpreter.InterpretedFunction, "__call__"): interpreter.InterpretedFunction.__call__,
    (interpreter, "_get_np_dtype"): interpreter._get_np_dtype,
    (core.block_type, "__init__"): core.block_type.__init__,
    (core.tensor, "__init__"): core.tensor.__init__,
}
_launch, _call, _numpy_type, _block_type, _tensor = _as_it_is.values()
_replaced: set[str] = set()  # the modules of triton.language whose functions are replaced, in the launch that runs now
_types: dict[str, Any] = {}
_blocks: dict[tuple[Any, ...], tuple[Any, ...]] = {}
_shapes: dict[str, tuple[Any, ...]] = {}


@functools.cache
def _modules(function: Callable[..., Any]) -> frozenset[str]:
    """The modules whose functions ``interpreter._patch_lang`` replaces for a function of a kernel."""
    seen = [value for value in function.__globals__.values() if inspect.ismodule(value)]
    return frozenset(module.__name__ for module in seen if module in (tl, tl.core))


def launch(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Launch a kernel; ``self`` is the interpreter's GridExecutor."""
    _replaced.clear()
    _replaced.update(_modules(self.fn))
    try:
        return _launch(self, *args, **kwargs)
    finally:
        _replaced.clear()


def call(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function inside a kernel; ``self`` is the interpreter's InterpretedFunction."""
    rewritten = self.rewrite()  # adds ``tl`` to what the function sees
    if not _modules(self.fn) <= _replaced:
        _replaced.update(_modules(self.fn))
        return _call(self, *args, **kwargs)
    try:
        return rewritten(*args, **kwargs)
    except Exception as error:
        raise interpreter.InterpreterError(repr(error)) from error


def numpy_type(dtype: Any) -> Any:
    """The numpy type of a Triton type, whose name says all of it."""
    if dtype.name not in _types:
        _types[dtype.name] = _numpy_type(dtype)
    return _types[dtype.name]


def make_block_type(self: Any, element_ty: Any, shape: Any) -> None:
    """``block_type.__init__``."""
    key = (element_ty.name, *[size.value if isinstance(size, tl.constexpr) else size for size in shape])
    if key not in _blocks:
        _block_type(self, element_ty, shape)  # raises an error for sizes that are not right
        _blocks[key] = self.shape, self.numel, self.name
    self.element_ty, (self.shape, self.numel, self.name) = element_ty, _blocks[key]


def make_tensor(self: Any, handle: Any, type: Any) -> None:
    """``tensor.__init__``."""
    if type.name not in _shapes:
        _tensor(self, handle, type)
        _shapes[type.name] = self.shape, self.numel
    self.handle, self.type, self.dtype, (self.shape, self.numel) = handle, type, type.scalar, _shapes[type.name]


def use(fast: bool) -> None:
    """From now on, the interpreter is the fast one, or as Triton has it."""
    faster = launch, call, numpy_type, make_block_type, make_tensor
    for ((owner, name), slow), quick in zip(_as_it_is.items(), faster, strict=True):
        setattr(owner, name, quick if fast else slow)
