"""A pool of processes for the GPU check, in which a job that crashes or hangs costs no other job its result.

A kernel that reads outside its memory spoils the CUDA context of its process, so that everything fails there from
then on; an assertion of a compiler ends the process; and a kernel whose blocks wait for one another may never end.
Such a process is replaced, and its job alone has failed.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function of a module, and its arguments
ROOT = Path(__file__).resolve().parents[1]
UNFINISHED = "not run: no time was left"
LINES = 3  # of an error's message
MOST_SECONDS = 120.0  # of a job, with its imports and compilers
SECONDS_TO_END = 5  # that a process which was killed may take; a driver may hold it for longer


class Failure(NamedTuple):
    """In place of a job's result: why there is none."""

    why: str

    def __str__(self) -> str:
        return self.why


class Worker:
    """A process and its job; no other job is sent before the result of this one has come."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use the GPU
        self.pipe, other_end = context.Pipe()
        self.process = context.Process(target=_work, args=(other_end,), daemon=True)
        self.process.start()
        other_end.close()  # so that the pipe ends with the process
        self.job = -1
        self.until = math.inf

    def give(self, job: int, call: Call, until: float) -> None:
        """Send a job, which may run until then. Where the process has ended already, ``result`` says so."""
        self.job, self.until = job, until
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(call)

    def is_ready(self, ready: Collection[Any]) -> bool:
        """Whether ``ready``, of ``wait``, has the pipe or the end of the process."""
        return self.pipe in ready or self.process.sentinel in ready

    def result(self) -> tuple[Any, bool]:
        """The result of the job, once ``is_ready``; and whether the process can take another job."""
        try:
            if not self.pipe.poll():  # a process that it has started holds the other end
                raise EOFError
            result, usable = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.process.join(SECONDS_TO_END)
            return Failure(f"its process ended with exit code {self.process.exitcode}"), False
        return result, usable

    def kill(self) -> None:
        """End the process at once, and a compiler that it has started, which may run on for minutes."""
        assert self.process.pid is not None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended, or has not come to ``setsid`` yet
            self.process.kill()
        self.pipe.close()


def run(
    calls: Sequence[Call],
    processes: int,
    deadline: float,
    done: Callable[[int, Any], None] = lambda job, result: None,
    most_seconds: float = MOST_SECONDS,
) -> list[Any]:
    """The results of ``calls``, in order; ``UNFINISHED`` where the deadline, of time.monotonic, came first.

    done: is called with the number of each job and its result, as they come, and for those that the deadline stops.
    most_seconds: of a job; one that takes longer is a ``Failure``.
    """
    results: list[Any] = [UNFINISHED] * len(calls)
    waiting = list(reversed(range(len(calls))))
    workers: list[Worker] = []
    killed: list[Worker] = []
    try:
        while time.monotonic() < deadline:
            while waiting and len(workers) < processes:
                workers.append(Worker())
                workers[-1].give(job := waiting.pop(), calls[job], time.monotonic() + most_seconds)
            if not workers:
                break
            ends = [end for worker in workers for end in (worker.pipe, worker.process.sentinel)]
            ready = wait(ends, max(0, min(deadline, *(worker.until for worker in workers)) - time.monotonic()))
            now = time.monotonic()
            late = [worker for worker in workers if worker.until <= now < deadline and not worker.is_ready(ready)]
            for worker in [worker for worker in workers if worker.is_ready(ready)] + late:
                too_long = Failure(f"took more than {most_seconds:g} s, so it was ended"), False
                results[worker.job], usable = too_long if worker in late else worker.result()
                done(worker.job, results[worker.job])
                if usable and waiting:
                    worker.give(job := waiting.pop(), calls[job], time.monotonic() + most_seconds)
                else:
                    workers.remove(worker)
                    killed.append(worker)
                    worker.kill()
    finally:
        for worker in workers:
            worker.kill()
        for worker in [*killed, *workers]:  # so that the benchmarks have the GPU alone
            worker.process.join(SECONDS_TO_END)
    for worker in workers:
        done(worker.job, UNFINISHED)
    return results


def run_command(
    command: Sequence[str], seconds: float | None, environment: Mapping[str, str]
) -> tuple[int | None, str]:
    """The exit code of a command in the root of the project, and what it printed.

    The code is None where it took longer than so many seconds: then it is killed, and what it has started too.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=None if seconds is None else max(0, seconds))
        return process.returncode, said
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        if process.returncode is None:  # also where this process is told to stop
            os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=SECONDS_TO_END)


def failure(error: BaseException) -> Failure:
    """An exception in words, since not every exception can be sent to another process."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Failure(f"{type(error).__name__}: {' '.join(lines[:LINES]) or '-'}")


def _work(pipe: Connection) -> None:
    """Run the jobs that come, each to its end, and send its result."""
    os.setsid()  # a process group of its own, which ``kill`` ends
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = pipe.recv()
            try:
                result = function(*arguments)
            except Exception as error:
                result = failure(error)
            broken = _broken_context()
            if broken:
                result = Failure(f"it broke its CUDA context, {broken}; its result: {result}")
            try:
                answer = pickle.dumps((result, not broken))
                pickle.loads(answer)
            except Exception as error:
                answer = pickle.dumps((failure(error), not broken))
            pipe.send_bytes(answer)


def _broken_context() -> str:
    """The error that every call of CUDA gives from now on, or "". It also waits for the job's last kernels."""
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except Exception as error:
            return str(failure(error))
    return ""
