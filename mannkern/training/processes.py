"""The processes that train one model together: their ranks, what they tell each other, and how an error ends them all.

``torchrun`` starts them; without it there is one, of rank 0. Rank 0 decides and writes, the others follow.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from mannkern.training.errors import CommandError

T = TypeVar("T")
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun sets them
MEETING = timedelta(minutes=10)  # between the start of the first process and that of the last one
PATIENCE = timedelta(minutes=30)  # rank 0 may validate for so long while the others wait
FAILED = "mannkern/failed"
FATAL = "mannkern/fatal"
BEGUN = "mannkern/begun"
GRACE = 10.0  # seconds for the agent of torchrun to see which process failed first
_stores: list[Any] = []  # that of torchrun, which outlives a restart of the processes
_signals: list[int] = []  # that asked this process to end


def rank() -> int:
    """The rank of this process, 0 where it trains alone."""
    return dist.get_rank() if _is_joined() else 0


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _is_joined() else 1


def local_rank() -> int:
    """The rank of this process among those of its machine, and so the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0)) if _is_joined() else 0


def local_size() -> int:
    """How many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", size())) if _is_joined() else 1


def _is_joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _are_launched() -> bool:
    return dist.is_available() and all(os.environ.get(name) for name in VARIABLES)


def _check_launch() -> None:
    """Raises ``CommandError`` where the variables of ``torchrun`` are there in part, or are none that it sets."""
    if any(os.environ.get(name) for name in ("RANK", "WORLD_SIZE")):
        missing = [name for name in VARIABLES if not os.environ.get(name)]
        if missing:
            raise CommandError(
                f"{', '.join(missing)}: got nothing, need all of {', '.join(VARIABLES)} as torchrun sets them; unset "
                "RANK and WORLD_SIZE to train in one process"
            )
        count = _variable("WORLD_SIZE", 1, 1 << 31)
        _variable("RANK", 0, count)
        _variable("MASTER_PORT", 0, 1 << 16)
        for name, least in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1)):
            if name in os.environ:
                _variable(name, least, count + least)


def _variable(name: str, least: int, below: int) -> int:
    text = os.environ[name]
    # Python reads no number of more than 4,300 digits
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) < below):
        raise CommandError(f"{name}: got {text!r:.80}, need a number from {least} to {below - 1}")
    return int(text)


def _meet() -> tuple[Any, int, int]:
    """The store that the processes share, the rank of this one, and how many they are."""
    try:
        store, own, count = next(dist.rendezvous("env://", timeout=MEETING))  # type: ignore[attr-defined]
    except (RuntimeError, ValueError, OSError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise CommandError(f"MASTER_ADDR, MASTER_PORT: the processes cannot meet at {where}: {reason}") from None
    store.set_timeout(PATIENCE)
    return store, own, count


@contextmanager
def said_once() -> Iterator[None]:
    """A context for what all processes do alike before they are a group: one on each machine prints, and objects."""
    if not _are_launched() or os.environ.get("LOCAL_RANK", "0") == "0":
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            yield
        except CommandError:
            raise SystemExit(2) from None


def check_alone(command: str) -> None:
    """Raises ``CommandError`` where ``torchrun`` started several processes, which only ``train`` can use."""
    with said_once():
        if _are_launched() and os.environ["WORLD_SIZE"] != "1":
            raise CommandError(f"{command} runs in one process: start it without torchrun")


def share(value: T) -> T:
    """The ``value`` of rank 0, for all."""
    if size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gather(value: T) -> list[T]:
    """The values of all ranks, for all."""
    values: list[Any] = [value] * size()
    if size() > 1:
        dist.all_gather_object(values, value)
    return values


def check_alike(values: Mapping[str, Any]) -> None:
    """Raises ``CommandError`` where a rank has other ``values`` than rank 0, such as another version of a package."""
    first, *others = gather(dict(values))
    for number, theirs in enumerate(others, 1):
        for name in first | theirs:
            if first.get(name) != theirs.get(name):
                raise CommandError(
                    f"{name}: got {theirs.get(name)} on rank {number}, need {first.get(name)} as on rank 0"
                )


def largest(*numbers: int) -> list[int]:
    """The largest of each of the ``numbers`` over all ranks, for all. They travel between processors, not GPUs."""
    if size() == 1:
        return list(numbers)
    together = torch.tensor(numbers, dtype=torch.int64)
    dist.all_reduce(together, dist.ReduceOp.MAX)
    return together.tolist()


def add(tensor: Tensor) -> Tensor:
    """Replace ``tensor`` by its sum over all ranks, and return it."""
    if size() > 1:
        dist.all_reduce(tensor)
    return tensor


def note_signal(number: int) -> None:
    """Say that signal ``number`` has asked this process to end, so that after an error it does not wait for another."""
    _signals.append(number)


def has_begun() -> bool:
    """Whether these processes came back for others that had begun the run, after one of them had ended too early."""
    return bool(_stores) and bool(_stores[-1].check([BEGUN]))


def note_begun() -> None:
    """Let ``has_begun`` be true from now on."""
    for store in _stores:
        store.set(BEGUN, "")


@contextmanager
def joined() -> Iterator[None]:
    """A context in which the processes of ``torchrun`` are one group; without ``torchrun`` it does nothing.

    Where one fails, all end, and only the first one says why. Ranks above 0 print nothing on stdout.
    Raises ``CommandError`` where they cannot meet or another has ended, and SystemExit where another has said why.
    """
    _check_launch()
    if not _are_launched():
        yield
        return
    store, own, count = _meet()
    number = os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)
    attempt = dist.PrefixStore(f"mannkern/{number}", store)  # type: ignore[attr-defined]
    if store.check([FATAL]):  # it would fail again
        raise SystemExit(2)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    _stores.append(store)
    _signals.clear()
    try:
        dist.init_process_group(backend, store=attempt, rank=own, world_size=count, timeout=PATIENCE)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere) if own > 0 else nullcontext():
            yield
    except (Exception, KeyboardInterrupt) as error:
        _end(error, store, attempt, own, count)
        raise
    finally:
        _stores.remove(store)
    dist.destroy_process_group()


def leave(code: int) -> None:
    """End this process with ``code`` at once if an error kept it from leaving its group; else return.

    The group's threads still wait for a process that has ended, and C++ would abort because of them.
    """
    if _is_joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(error: BaseException, store: Any, attempt: Any, own: int, count: int) -> None:
    """Raise what this process ends with after ``error``; return where that is ``error`` itself."""
    waits = not _signals  # for the agent, which has not ended this process yet
    try:
        is_first = attempt.add(FAILED, 1) == 1
        if is_first and isinstance(error, CommandError):
            store.set(FATAL, "")
    except RuntimeError:  # the store's own process has ended
        is_first, waits = own == 0, False
    if not is_first:
        # The agent reports the first process that it sees end, and ends the others with a signal. Without this wait it
        # would see this one, which says nothing, together with the one that says why, or before that has said it.
        end = time.monotonic() + GRACE
        with suppress(KeyboardInterrupt):
            while waits and not _signals and time.monotonic() < end:
                time.sleep(0.01)
        raise SystemExit(1) from None
    if count > 1 and _is_lost(error):
        raise CommandError("another process of this training has ended, so this one ends too") from None
    if count > 1 and isinstance(error, CommandError):
        raise CommandError(f"rank {own} on {socket.gethostname()}: {error}") from None


def _is_lost(error: BaseException) -> bool:
    """Whether ``error`` says that a process does not answer."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "Gloo", "NCCL"))
    )
