"""One check of ``verify``: a backend against the reference, on one case of one shape."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from torch import Tensor

from mannkern.memories.cases import SMALL, Case, Shape, Tensors, arguments, cast, cotangents, run_case
from mannkern.memories.registry import FAMILIES
from mannkern.verification.accuracy import Error, measure
from mannkern.verification.episodes import episode_errors

ATTEMPTS = 100
SETTLED_EPISODES = 4  # of an operation that chooses slots step by step: in more, rounding may decide a near-tie
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}
GRADCHECK = "gradcheck"


class Check(NamedTuple):
    """What is compared, by names and numbers alone, so that another process can run it.

    dtype: "float64", "float32", "bfloat16" or "gradcheck"
    case:  a case of the family; of its fused episode, the name of options, and ``episode`` is its size and length
    where: the shape's name, for a person
    fast:  gradcheck of a random combination of the numbers instead of each of them
    threads: of torch; more than one wait for each other on a busy machine, for minutes in all
    """

    family: str
    backend: str
    device: str
    dtype: str
    case: str
    where: str
    seed: int
    shape: Shape = SMALL
    episode: tuple[str, str] | None = None
    fast: bool = False
    threads: int = 1


class Outcome(NamedTuple):
    """The errors of a check's results, and the seconds that the check took."""

    errors: dict[str, Error]
    seconds: float


def run(check: Check) -> Outcome:
    """Run a check. A kernel that does not compile or run is wrong, whatever it raises: its error is infinite."""
    begin = time.perf_counter()
    before = torch.get_num_threads()
    torch.set_num_threads(check.threads)
    try:
        errors = _episode(check) if check.episode else _gradcheck(check) if check.dtype == GRADCHECK else _errors(check)
    except Exception as error:
        message = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]}"
        errors = {f"{message}: result": Error(float("inf"), 1.0)}
    finally:
        torch.set_num_threads(before)
    return Outcome(errors, time.perf_counter() - begin)


def _episode(check: Check) -> dict[str, Error]:
    episode = FAMILIES[check.family].episode
    assert episode is not None
    assert check.episode is not None
    return episode_errors(
        episode, check.backend, check.device, check.case, *check.episode, dtype=DTYPES[check.dtype], seed=check.seed
    )


def _errors(check: Check) -> dict[str, Error]:
    case, shape, dtype = FAMILIES[check.family].cases[check.case], check.shape, DTYPES[check.dtype]
    n = min(shape.n, shape.N)
    if case.operation.is_settled is not None:
        shape = shape._replace(B=min(shape.B, SETTLED_EPISODES))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for attempt in range(ATTEMPTS):
        tensors = cast(case, arguments(case, shape, wide, check.seed + attempt), dtype)
        if case.operation.is_settled is None or case.operation.is_settled(case, tensors, n):
            gradients = cotangents(case, shape, wide, check.seed + 1)
            return measure(case, _to(tensors, check.device), _to(gradients, check.device), check.backend, n)[1]
    raise RuntimeError(f"{shape}: no inputs of {ATTEMPTS} that keep the choices of slots apart")


def _to(tensors: Tensors, device: str) -> Tensors:
    return {name: x.to(device) for name, x in tensors.items()}


def _gradcheck(check: Check) -> dict[str, Error]:
    """No errors where gradients agree with finite differences; otherwise the kernel's other rows say more."""
    case: Case = FAMILIES[check.family].cases[check.case]
    tensors = _to(arguments(case, SMALL, torch.float64, check.seed), check.device)
    names = [name for name, x in tensors.items() if x.is_floating_point()]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(run_case(case, tensors | dict(zip(names, values)), check.backend, SMALL.n).values())

    values = [tensors[name].requires_grad_() for name in names]
    good = torch.autograd.gradcheck(outputs, values, raise_exception=False, fast_mode=check.fast)
    return {} if good else {"gradient": Error(float("inf"), 1.0)}
