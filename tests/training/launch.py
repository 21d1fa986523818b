"""Several ranks under the elastic agent of ``torchrun``, forked from this process, which spares them the imports."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # DDP needs it, and so takes over a second to import in every rank
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mannkern.__main__ import main


def launch(
    count: int, logs: Path, function: Callable[..., Any], *args: Any, restarts: int = 0, interval: float = 0.02
) -> dict[int, Any]:
    """Call ``function`` on ``count`` ranks; results by rank. Raises ``ChildFailedError`` where one fails too often.

    The agent looks at them every ``interval`` seconds. What they print is in files under ``logs``, see ``printed``.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    config = LaunchConfig(
        run_id=logs.name,
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=restarts,
        monitor_interval=interval,
        start_method="fork",
        logs_specs=DefaultLogsSpecs(str(logs), redirects=Std.ALL),
    )
    try:
        started = multiprocessing.get_context("fork").Barrier(count)
        return dict(elastic_launch(config, _ranked)(started, function, *args))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ranked(started: Barrier, function: Callable[..., Any], *args: Any) -> Any:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # not those of the agent, which a fork inherits
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    torch.set_num_threads(1)
    # A rank that was forked while a thread of the agent looked up an address found glibc's lock held, and waited for
    # ever. Ranks that connect make the agent do so: none connects before all are forked.
    started.wait(60)
    return function(*args)


def command(arguments: Sequence[str]) -> None:
    """``python -m mannkern`` on a rank."""
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)


def printed(logs: Path, stream: str = "stderr") -> list[str]:
    """The lines that the ranks of all attempts printed, without those of progress."""
    lines = [line for file in sorted(logs.rglob(f"{stream}.log")) for line in file.read_text().splitlines()]
    return [line for line in lines if line and "%|" not in line]
