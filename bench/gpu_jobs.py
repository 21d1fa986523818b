"""The jobs of the GPU check that several processes run side by side: checks, ``verify``, correctness of contestants."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench import gpu_contests, gpu_pool
from bench.gpu_pool import UNFINISHED, Failure
from mannkern.benchmark.harness import NO_TIME
from mannkern.verification import checks as verification
from mannkern.verification.verify import MOST_PROCESSES, Row, available_backends, row_of, rows_of
from tests.gpu import checks, sanitizer

Job = tuple[str, str, Callable[..., Any], tuple[Any, ...]]  # stage, name, function, its arguments
LATER = ("accuracy", "sanitizer")  # the first is ``verify``, the second comes after the benchmarks
NEEDS = "not run: needs "  # how a check begins whose machine lacks something


def jobs(device: str, stages: Sequence[str], contests: Sequence[str], tiny: bool) -> list[Job]:
    """What the stages run, in this order, which begins with what a GPU alone can show.

    CUDA's kernels have run nowhere but in an emulator, and are compiled already. Compiling Triton's takes minutes, and
    its ``verify`` is nearly the one that runs on compiled kernels without a GPU.
    """
    found: list[Job] = []
    if "checks" in stages and device == "cuda":
        found += [("checks", name, checks.run, ([name],)) for name in checks.CHECKS if name not in LATER]
    if "bench" in stages:
        found += [("bench", name, gpu_contests.check, (name, device, tiny)) for name in contests]
    verify = list(_verify(device)) if "verify" in stages and not tiny else []
    found += [job for job in verify if job[3][0].backend == "cuda"]
    if "bench" in stages and device == "cuda":
        every = gpu_contests.contests(tiny)
        found += [
            ("compile", f"{name}, {title}, B = {B}", gpu_contests.compile_ahead, (name, title, B, device, tiny))
            for name in contests
            for title in every[name].problems
            for B in every[name].batches[:2]
        ]
    return found + [job for job in verify if job[3][0].backend != "cuda"]


def _verify(device: str) -> Sequence[Job]:
    seed = int(time.time())
    return [
        ("verify", f"{backend} {operation} {dtype}", verification.run, (check,))
        for backend, on in available_backends([device])
        for operation, dtype, several in rows_of(backend, on, seed)
        for check in several
    ]


def run(jobs: Sequence[Job], deadline: float) -> list[tuple[Job, Any]]:
    """The jobs with their results, in order: a ``Failure`` where one raised or crashed, or ``UNFINISHED``."""

    def done(number: int, result: Any) -> None:
        stage, name, *_ = jobs[number]
        if result == UNFINISHED:
            print(f"{stage}, {name}: stopped, because the time is over", flush=True)
        elif stage in ("checks", "bench") or isinstance(result, Failure):
            print(f"{stage}, {name}: {result if isinstance(result, Failure) else 'done'}", flush=True)

    calls = [(function, arguments) for _, _, function, arguments in jobs]
    return list(zip(jobs, gpu_pool.run(calls, min(MOST_PROCESSES, os.cpu_count() or 1), deadline, done), strict=True))


def finished(found: Sequence[tuple[Job, Any]]) -> set[str]:
    """The jobs that came to their end, as "stage name": of those that share a name, all have to."""
    names = {f"{stage} {name}" for (stage, name, *_), _ in found}
    return names - {f"{stage} {name}" for (stage, name, *_), result in found if result == UNFINISHED}


def summary(found: Sequence[tuple[Job, Any]]) -> dict[str, Any]:
    """The results by stage: checks, rows of verify, contestants that may be timed, and why others may not.

    crashed, unfinished: the jobs that ended with an error, or not at all, as "stage name: more".
    """
    content: dict[str, Any] = {
        "checks": {},
        "verify": [],
        "may_be_timed": {},
        "unfit": [],
        "differs": [],
        "crashed": [],
        "unfinished": [],
    }
    rows: dict[str, list[Any]] = {}
    for (stage, name, _, arguments), result in found:
        if isinstance(result, Failure):
            content["crashed"].append(f"{stage} {name}: {result}")
        if result == UNFINISHED and stage in ("checks", "bench"):  # without "compile" the timing compiles
            content["unfinished"].append(f"{stage} {name}")
        if stage == "checks":
            content["checks"] |= result if isinstance(result, dict) else {name: str(result)}
        elif stage == "verify":
            rows.setdefault(name, []).append((arguments[0], result))
        elif stage == "bench" and isinstance(result, tuple) and not isinstance(result, Failure):
            content["may_be_timed"][name], unfit, differs = result
            content["unfit"] += unfit
            content["differs"] += [name] if differs else []
        elif stage == "bench":
            content["unfit"].append({"what": name, "name": "all", "reason": str(result)})
    content["crashed"] += _not_compiled(found, content["may_be_timed"])
    for name, checked in rows.items():
        backend, operation, dtype = name.split()
        of_checks = [(check, outcome) for check, outcome in checked if isinstance(outcome, verification.Outcome)]
        if of_checks:
            row: Row = row_of(operation, backend, checked[0][0].device, dtype, of_checks)
            content["verify"].append(row._asdict() | {"good": row.good, "of_checks": [len(of_checks), len(checked)]})
        ended = sum(outcome != UNFINISHED for _, outcome in checked)
        if ended < len(checked):
            content["unfinished"].append(f"verify {name}: {ended} of {len(checked)} checks")
    right, whole = sum(row["good"] for row in content["verify"]), sum(len(checked) for checked in rows.values())
    ran = sum(row["of_checks"][0] for row in content["verify"])
    print(f"verify: {right} of {len(content['verify'])} rows are right; {ran} of {whole} checks were run", flush=True)
    return content


def _not_compiled(found: Sequence[tuple[Job, Any]], good: dict[str, list[str]]) -> list[str]:
    """Contestants that are right at the sizes that were checked, and raised at those that are timed."""
    return [
        f"compile {name}: {entrant}: {why}"
        for (stage, name, _, arguments), result in found
        if stage == "compile" and isinstance(result, dict)
        for entrant, why in result.items()
        if entrant in good.get(arguments[0], [entrant])  # what cannot run here at all is in "unfit"
    ]


def run_sanitizer(seconds: float) -> dict[str, str]:
    """The check by compute-sanitizer, which may take so long."""
    if seconds <= 0:
        return {"sanitizer": UNFINISHED}
    return {"sanitizer": checks.answer("sanitizer", partial(sanitizer.sanitizer, min(seconds, sanitizer.SECONDS)))}


def failures(content: dict[str, Any]) -> list[str]:
    """What is wrong, in words."""
    return [
        *(f"check {k}" for k, found in content["checks"].items() if not found.startswith(("holds", "not run"))),
        *(f"verify {row['backend']} {row['operation']} {row['dtype']}: {row['where']}"
          for row in content["verify"] if not row["good"]),
        *(f"crashed: {what}" for what in content["crashed"]),
        *(f"bench: a contestant of {name} differs from the reference" for name in content["differs"]),
    ]  # fmt: skip


def not_run(content: dict[str, Any]) -> list[str]:
    """What did not come to its end, in words, also of the benchmarks; not what this machine lacks something for."""
    found = list(content["unfinished"])
    for name, answer in content["checks"].items():
        if answer.startswith("not run") and not answer.startswith(NEEDS) and f"checks {name}" not in found:
            found.append(f"checks {name}: {answer.removeprefix('not run: ')}")
    late: dict[str, list[str]] = {}
    for row in content.get("not_timed", []):
        if row["reason"] == NO_TIME:
            late.setdefault(f"timing {row['what']}, B = {row['B']}", []).append(row["name"])
    found += [f"{what}: {', '.join(names)}" for what, names in late.items()]
    return found + ([f"counts: {content['no_counts']}"] if "no_counts" in content else [])
