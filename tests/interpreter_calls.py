"""Makes Triton's interpreter replace the built-in functions of ``triton.language`` once a launch.

The interpreter replaces them again at each call of a function inside a kernel, where all are replaced already. To find
that out takes longer than what such a function does: without it, the tests of Triton's kernels take half the time.
``tests/triton/test_interpreter_calls.py`` compares the results.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import triton.language as tl
from triton.runtime import interpreter

_launch, _call = interpreter.GridExecutor.__call__, interpreter.InterpretedFunction.__call__
_replaced: set[str] = set()  # the modules of triton.language whose functions are replaced, in the launch that runs now


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


def replace_once() -> None:
    """Use ``launch`` and ``call`` from now on."""
    interpreter.GridExecutor.__call__, interpreter.InterpretedFunction.__call__ = launch, call


def replace_at_each_call() -> None:
    """Use the interpreter as Triton has it."""
    interpreter.GridExecutor.__call__, interpreter.InterpretedFunction.__call__ = _launch, _call
