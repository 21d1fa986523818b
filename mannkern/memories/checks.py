"""Checks of arguments, made before any work. Errors name the argument, what came and what is needed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_WIDE = (torch.float32, torch.float64)
_HALF = (torch.float16, torch.bfloat16)


def check_first(name: str, x: Tensor, letters: str) -> tuple[int, ...]:
    """The sizes of a call's first tensor, such as memory (B, N, W), to which the others must fit. Only B may be 0."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}, need a tensor ({', '.join(letters)})")
    check_dense(name, x)
    if x.dim() != len(letters) or 0 in x.shape[letters.index("B") + 1 :]:
        raise ValueError(f"{name}: got shape {tuple(x.shape)}, need ({', '.join(letters)}), only B may be 0")
    if x.dtype not in _WIDE and x.dtype not in _HALF:
        raise TypeError(f"{name}: got {x.dtype}, need float32 or float64 (float16 and bfloat16 are widened to float32)")
    return tuple(x.shape)


def widen(x: Tensor) -> Tensor:
    """``x``, converted to float32 if it has half precision, because all arithmetic on it is done in float32."""
    return x.float() if x.dtype in _HALF else x


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which the arithmetic on ``x`` is done: float64 for float64, else float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def full_beside(
    parameter: Tensor, sizes: tuple[int, ...], value: float = 0.0, dtype: torch.dtype | None = None
) -> Tensor:
    """A tensor of one value on the device of ``parameter``, by default in its dtype: plain also beside a sharded or a
    quantised one."""
    return torch.full(sizes, value, dtype=dtype or parameter.dtype, device=parameter.device)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context without autocast on ``device``; nothing where it is off, and on meta, where PyTorch has none."""
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def whole(parameter: Tensor) -> Tensor:
    """A parameter with all its numbers, also where FSDP has left this process a part of them."""
    gather = getattr(parameter, "full_tensor", None)
    return parameter if gather is None else gather()


def check_tensor(
    memory: Tensor, name: str, x: Tensor, letters: str, sizes: tuple[int, ...], takes_half: bool = False
) -> Tensor:
    """``x``, if its shape is ``sizes`` and its dtype and device go with ``memory``; widened unless ``takes_half``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: got {type(x).__name__}, need a tensor ({', '.join(letters)})")
    check_dense(name, x)
    if x.shape != sizes:
        raise ValueError(
            f"{name}: got shape {tuple(x.shape)}, need ({', '.join(letters)}) = {tuple(int(size) for size in sizes)}"
        )
    if x.device != memory.device:
        raise ValueError(f"{name}: got device {x.device}, need {memory.device} as the others")
    if x.dtype == memory.dtype and x.dtype in _WIDE:
        return x
    wide = torch.float32 if memory.dtype in _HALF else memory.dtype
    if x.dtype in _HALF and wide == torch.float32:
        return x if takes_half else x.float()
    if x.dtype != wide:
        raise TypeError(f"{name}: got {x.dtype}, need {wide} as the others, or half precision beside float32")
    return x


def check_dense(name: str, x: Tensor) -> None:
    """A sparse, nested or quantised tensor has no memory layout that a kernel could read."""
    if x.layout is not torch.strided or x.is_nested:
        raise TypeError(f"{name}: got {'a nested tensor' if x.is_nested else x.layout}, need a dense tensor")


def distinct(x: Tensor, other: Tensor) -> Tensor:
    """``x``, or a view of it where it is the same tensor as ``other``: torch.compile needs two tensors."""
    return x.view_as(x) if x is other else x


def check_strength(
    memory: Tensor, name: str, x: Tensor | None, letters: str, sizes: tuple[int, ...], takes_half: bool = False
) -> Tensor | None:
    """Strengths, at least 0, or None, which stands for 1."""
    return None if x is None else check_finite(0, memory, name, x, letters, sizes, takes_half)


def check_finite(
    least: float, memory: Tensor, name: str, x: Tensor, letters: str, sizes: tuple[int, ...], takes_half: bool = False
) -> Tensor:
    """As ``check_at_least``, and no value is infinite. NaN stays: a cell gets it from inputs that have it."""
    x = check_tensor(memory, name, x, letters, sizes, takes_half)
    if values_known(x) and bool(((x < least) | (x == torch.inf)).any()):
        wrong = x[(x < least) | (x == torch.inf)]
        raise ValueError(f"{name}: got {wrong[0].item():g}, need at least {least:g} and finite")
    return x


def check_at_least(
    least: float, memory: Tensor, name: str, x: Tensor, letters: str, sizes: tuple[int, ...], takes_half: bool = False
) -> Tensor:
    """``x`` as ``check_tensor`` returns it, if no value is under ``least``."""
    x = check_tensor(memory, name, x, letters, sizes, takes_half)
    if values_known(x) and bool((x < least).any()):
        raise ValueError(f"{name}: got {x.min().item():g}, need at least {least:g}")
    return x


def check_shift(memory: Tensor, x: Tensor, B: int, H: int) -> Tensor:
    """Shifts (B, H, S) with S odd, since the middle one means to stay."""
    if isinstance(x, Tensor):
        check_dense("shift", x)
    shape = tuple(x.shape) if isinstance(x, Tensor) else ()
    if isinstance(x, Tensor) and (len(shape) != 3 or shape[:2] != (B, H) or shape[2] % 2 == 0):
        raise ValueError(
            f"shift: got shape {shape}, need (B, H, S) = ({int(B)}, {int(H)}, S) with S odd: the middle one stays"
        )
    return check_tensor(memory, "shift", x, "BHS", shape)


def check_slots(memory: Tensor, name: str, x: Tensor | None, B: int, N: int) -> Tensor | None:
    """Slot indices (B,) from 0 to N - 1, int64, or None."""
    if x is None:
        return None
    if not isinstance(x, Tensor) or x.dtype != torch.int64:
        raise TypeError(
            f"{name}: got {x.dtype if isinstance(x, Tensor) else type(x).__name__}, need an int64 tensor (B)"
        )
    check_dense(name, x)
    if tuple(x.shape) != (B,):
        raise ValueError(f"{name}: got shape {tuple(x.shape)}, need (B) = ({B},)")
    if x.device != memory.device:
        raise ValueError(f"{name}: got device {x.device}, need {memory.device} as the others")
    if values_known(x) and bool(((x < 0) | (x >= N)).any()):
        raise ValueError(f"{name}: got slots from {x.min().item()} to {x.max().item()}, need 0 to N - 1 = {N - 1}")
    return x


def check_number_of_slots(name: str, n: int, N: int) -> int:
    """n, if it is a number of slots from 1 to N."""
    if not isinstance(n, (int, torch.SymInt)) or isinstance(n, bool):
        raise TypeError(f"{name}: got {type(n).__name__}, need an int from 1 to N = {N}")
    if not 1 <= n <= N:
        raise ValueError(f"{name}: got {n}, need 1 to N = {N}")
    return n


def check_controller(
    module: torch.nn.Module, input_size: int, hidden_size: int, dtype: torch.dtype | None = None
) -> None:
    """The caller's own controller must be a step, not a sequence, of input size F + R W and hidden size D, and in
    the dtype that was asked for."""
    if isinstance(module, torch.nn.RNNBase):
        raise TypeError(
            f"controller: got {type(module).__name__}, a whole sequence's, need a step's: {type(module).__name__}Cell"
        )
    if isinstance(module, torch.nn.RNNCellBase) and (module.input_size, module.hidden_size) != (
        input_size,
        hidden_size,
    ):
        raise ValueError(
            f"controller: got {type(module).__name__}({module.input_size}, {module.hidden_size}), "
            f"need ({input_size}, {hidden_size}): input_size + memory_width for each read, hidden_size"
        )
    theirs = {p.dtype for p in module.parameters() if p.is_floating_point()}
    if dtype is not None and theirs and dtype not in theirs:
        raise TypeError(f"controller: got {', '.join(map(str, theirs))}, need {dtype}, as dtype=")


def check_dtype(dtype: torch.dtype | None) -> None:
    """The dtype of a module's parameters must be a float type, or None for torch's default."""
    if dtype is not None and dtype not in _WIDE and dtype not in _HALF:
        got = dtype if isinstance(dtype, torch.dtype) else repr(dtype)
        half = "torch.float16 or torch.bfloat16 beside a state in float32"
        raise TypeError(f"dtype: got {got}, need torch.float32 or torch.float64, or {half}")


def check_weights(module: torch.nn.Module, x: Tensor) -> None:
    """No parameter may be without values, as those that a checkpoint lacks are, unless the input is."""
    if x.is_meta:
        return
    for name, parameter in module.named_parameters():
        if parameter.is_meta:
            raise ValueError(f"{name}: got device meta, which has no values, need {x.device}, the input's")


def check_input(x: Tensor, F: int, parameter: Tensor, letters: str = "BF") -> None:
    """A module's input must have the right rank and features, and the device and dtype of its parameters."""
    if not isinstance(x, Tensor):
        raise TypeError(f"input: got {type(x).__name__}, need a tensor ({', '.join(letters)})")
    check_dense("input", x)
    if x.dim() != len(letters) or x.shape[-1] != F:
        one = ", ".join(letters.replace("B", ""))
        raise ValueError(f"input: got shape {tuple(x.shape)}, need ({', '.join(letters)}) or ({one}) with F = {F}")
    if x.device != parameter.device:
        raise ValueError(f"input: got device {x.device}, need {parameter.device}, the module's")
    casts = {parameter.dtype}  # dtypes that operations take together
    if not x.is_meta and torch.is_autocast_enabled(x.device.type) and parameter.dtype != torch.float64:
        half = torch.get_autocast_dtype(x.device.type)
        casts = {torch.float32, half}
        if parameter.dtype not in casts:
            raise TypeError(
                f"module: got {parameter.dtype} under autocast, need torch.float32, {half} or torch.float64"
            )
    if x.dtype not in casts:
        raise TypeError(f"input: got {x.dtype}, need {parameter.dtype}, the module's")


def check_decay(x: float) -> float:
    """The decay gamma of usage as a float, if it is from 0 to 1."""
    if not isinstance(x, (int, float)) or isinstance(x, bool):
        raise TypeError(f"decay: got {type(x).__name__}, need a number from 0 to 1")
    if not 0 <= x <= 1:
        raise ValueError(f"decay: got {x}, need 0 to 1")
    return float(x)


def check_least_used(least_used: str) -> bool:
    """Whether ``least_used`` gives each head a slot of its own ("per_head") or all heads the same ("shared")."""
    if least_used not in ("shared", "per_head"):
        raise ValueError(f"least_used: got {least_used!r}, need 'shared' or 'per_head'")
    return least_used == "per_head"


def values_known(x: Tensor) -> bool:
    """Whether reading values is cheap: on a CPU in eager mode, not under torch.compile or torch.func, nor on a GPU."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and x.device.type == "cpu"
        and type(x) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )
