"""The jobs of the GPU check that several processes run side by side: checks, ``verify``, correctness of contestants."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from bench import gpu_contests
from mannkern.verification import checks as verification
from mannkern.verification.verify import MOST_PROCESSES, Row, available_backends, row_of, rows_of
from tests.gpu import checks

Job = tuple[str, str, Callable[..., Any], tuple[Any, ...]]  # stage, name, function, its arguments
LATER = ("accuracy", "sanitizer")  # the first is ``verify``, the second comes after the benchmarks
UNFINISHED = "not run: no time was left"


def jobs(device: str, stages: Sequence[str], contests: Sequence[str], tiny: bool) -> list[Job]:
    """What the stages run, the longest first."""
    found: list[Job] = []
    if "bench" in stages:
        found += [("bench", name, gpu_contests.check, (name, device, tiny)) for name in contests]
        if device == "cuda":
            every = gpu_contests.contests()
            found += [
                ("compile", f"{name}, {title}, B = {B}", gpu_contests.compile_ahead, (name, title, B, device))
                for name in contests
                for title in every[name].problems
                for B in every[name].batches[:2]
            ]
    if "checks" in stages and device == "cuda":
        found += [("checks", name, checks.run, ([name],)) for name in checks.CHECKS if name not in LATER]
    if "verify" in stages and not tiny:
        seed = int(time.time())
        for backend, on in available_backends([device]):
            for operation, dtype, several in rows_of(backend, on, seed):
                found += [("verify", f"{backend} {operation} {dtype}", verification.run, (check,)) for check in several]
    return found


def run(jobs: Sequence[Job], deadline: float) -> list[tuple[Job, Any]]:
    """The jobs with their results, in order; ``UNFINISHED`` where the deadline came first."""
    pool = ProcessPoolExecutor(min(MOST_PROCESSES, os.cpu_count() or 1), multiprocessing.get_context("spawn"))
    futures: list[Future[Any]] = [pool.submit(function, *arguments) for _, _, function, arguments in jobs]
    pending = set(futures)
    while pending and time.monotonic() < deadline:
        done, pending = wait(pending, timeout=10, return_when=FIRST_COMPLETED)
        for future in done:
            stage, name, *_ = jobs[futures.index(future)]
            if stage in ("checks", "bench"):
                print(f"{stage}, {name}: {future.exception() or 'done'}", flush=True)
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=not pending, cancel_futures=True)
    for process in processes if pending else []:
        process.kill()  # a compiler may run on for minutes
    return [(job, _result(future)) for job, future in zip(jobs, futures, strict=True)]


def _result(future: Future[Any]) -> Any:
    if not future.done() or future.cancelled():
        return UNFINISHED
    return future.exception() or future.result()


def summary(found: Sequence[tuple[Job, Any]]) -> dict[str, Any]:
    """The results by stage: checks, rows of verify, contestants that may be timed, and why others may not."""
    content: dict[str, Any] = {
        "checks": {},
        "verify": [],
        "may_be_timed": {},
        "unfit": [],
        "differs": [],
        "crashed": [],
    }
    rows: dict[str, list[Any]] = {}
    for (stage, name, _, arguments), result in found:
        if isinstance(result, BaseException) and stage != "compile":  # what needs it compiles it then
            content["crashed"].append(f"{stage} {name}: {type(result).__name__}: {result}")
        if stage == "checks":
            content["checks"] |= result if isinstance(result, dict) else {name: str(result)}
        elif stage == "verify":
            rows.setdefault(name, []).append((arguments[0], result))
        elif stage == "bench" and isinstance(result, tuple):
            content["may_be_timed"][name], unfit, differs = result
            content["unfit"] += unfit
            content["differs"] += [name] if differs else []
        elif stage == "bench":
            content["unfit"].append({"what": name, "name": "all", "reason": str(result)})
    for name, checked in rows.items():
        backend, operation, dtype = name.split()
        finished = [(check, outcome) for check, outcome in checked if isinstance(outcome, verification.Outcome)]
        if finished:
            row: Row = row_of(operation, backend, checked[0][0].device, dtype, finished)
            content["verify"].append(row._asdict() | {"good": row.good, "of_checks": [len(finished), len(checked)]})
    right, whole = sum(row["good"] for row in content["verify"]), sum(len(checked) for checked in rows.values())
    ran = sum(row["of_checks"][0] for row in content["verify"])
    print(f"verify: {right} of {len(content['verify'])} rows are right; {ran} of {whole} checks were run", flush=True)
    return content


def sanitizer() -> dict[str, str]:
    """The check by compute-sanitizer."""
    return checks.run(["sanitizer"])


def failures(content: dict[str, Any]) -> list[str]:
    """What is wrong, in words."""
    return [
        *(f"check {k}" for k, found in content["checks"].items() if not found.startswith(("holds", "not run"))),
        *(f"verify {row['backend']} {row['operation']} {row['dtype']}: {row['where']}"
          for row in content["verify"] if not row["good"]),
        *(f"crashed: {what}" for what in content["crashed"]),
        *(f"bench: a contestant of {name} differs from the reference" for name in content["differs"]),
    ]  # fmt: skip
