"""The contests on a GPU: a training step of MANN, its memory step, the scan; a training step of the NTM, its step.

Kernels and networks are also timed as CUDA graphs. The bound is the bytes that must move, at the bandwidth of a large
copy in the same run. Without a GPU the same contests run on the CPU's contestants, as a rehearsal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch

from bench.gpu_pool import failure
from mannkern.benchmark import contestants, harness, workloads
from mannkern.benchmark.problems import Problem
from mannkern.triton.tiling import FEW_EPISODES

COMPILE_NOTHING = ("reference", "lstm")
CHECKED = 64  # episodes of a step whose results are compared before anything is timed
CHECKED_MANY = FEW_EPISODES + 1, 2  # episodes and steps of a MANN: with more episodes products take other blocks
CHECKED_SCAN = 4  # steps of a scan, and episodes: in more, rounding may decide a near-tie of usage


class Contest(NamedTuple):
    """Contestants of one workload at several batch sizes.

    checked:  the problems, by device, whose results are compared before anything is timed
    problems: what is timed: a title -> the problem, by batch size and device
    """

    workload: str
    batches: tuple[int, ...]
    checked: tuple[Callable[[str], Problem], ...]
    problems: Mapping[str, Callable[[int, str], Problem]]


def contests(tiny: bool = False) -> dict[str, Contest]:
    """All contests, those that users ask for first; with ``tiny``, those of a rehearsal."""
    T = 3 if tiny else workloads.T

    def with_and_without_gradient(what: str, make: Callable[..., Problem]) -> dict[str, Callable[[int, str], Problem]]:
        def timed(B: int, device: str, gradient: bool) -> Problem:
            return make(B, device=device, gradient=gradient)

        return {
            f"{what} with gradient": partial(timed, gradient=True),
            f"{what} forward": partial(timed, gradient=False),
        }

    every = {
        "mann": Contest(
            "mann",
            (16, 256),
            (
                lambda device: workloads.mann(workloads.CHECKED_EPISODES, T, device).double(),
                lambda device: workloads.mann(workloads.CHECKED_BATCH, min(T, workloads.CHECKED_STEPS), device),
                lambda device: workloads.mann(*CHECKED_MANY, device),
            ),
            {f"training, T = {T}": lambda B, device: workloads.mann(B, T, device)},
        ),
        "step": Contest(
            "lrua_step",
            (16384, 256),
            (lambda device: workloads.lrua_step(CHECKED, device=device),),
            with_and_without_gradient("step", workloads.lrua_step),
        ),
        "scan": Contest(
            "lrua_scan",
            (4096,),
            (lambda device: workloads.lrua_scan(CHECKED_SCAN, CHECKED_SCAN, device),),
            {f"scan, T = {T}": lambda B, device: workloads.lrua_scan(T, B, device)},
        ),
        "copy": Contest(
            "copy",
            (16, 256),
            (lambda device: workloads.copy_task(workloads.CHECKED_EPISODES, device),),
            {f"copy task, T = {2 * workloads.LENGTH + 1}": workloads.copy_task},
        ),
        "ntm": Contest(
            "ntm_step",
            (16384, 256),
            (lambda device: workloads.ntm_step(CHECKED, device),),
            with_and_without_gradient("ntm", workloads.ntm_step),
        ),
    }
    every["large"] = every["mann"]._replace(batches=(4096,))  # last, because others take seconds of it
    return {k: c._replace(batches=(2, 3)[: len(c.batches)]) for k, c in every.items()} if tiny else every


def check(name: str, device: str, tiny: bool = False) -> tuple[list[str], list[dict[str, str]], bool]:
    """Names of the contest's contestants that may be timed; why the others may not; whether one differs."""
    report = harness.Report("gpu", repeats=1)  # of a CPU: it measures no bandwidth
    report.begin({"what": f"check of {name}"})
    contest = contests(tiny)[name]
    entrants = contestants.of(contest.workload, device)
    for problem in contest.checked:
        entrants = report.check(problem(device), entrants)
    return [entrant.name for entrant in entrants], report.not_timed, report.differs


def compile_ahead(name: str, title: str, B: int, device: str, tiny: bool = False) -> dict[str, str]:
    """Run what compiles for its sizes once, so that timing finds it in the compilers' caches.

    Returns why a contestant could not run, by name. Too little memory is no reason: the other processes have it now.
    """
    contest, wrong = contests(tiny)[name], {}
    for entrant in contestants.of(contest.workload, device):
        if (entrant.graph or entrant.name == "compiled") and entrant.name not in COMPILE_NOTHING:
            try:
                entrant.build(contest.problems[title](B, device))()
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
            except Exception as error:  # whatever a compiler raises
                wrong[entrant.name] = str(failure(error))
    return wrong


def run(
    report: harness.Report, save: Callable[[], object], good: Mapping[str, list[str]], tiny: bool = False
) -> None:  # fmt: skip
    """Time the contests that ``good`` names, each between the contestants that it lists; none where the list is empty.

    ``save`` is called after each batch size.
    """
    every = contests(tiny)
    for name, right in good.items():
        if not right:
            continue
        contest, entrants = every[name], contestants.of(every[name].workload, report.device, right)
        for B in contest.batches:
            for title, make in contest.problems.items():
                report.begin({"what": title, "B": B})
                graphs = contestants.graphs(entrants) if report.device == "cuda" else []
                problem = make(B, report.device)
                report.time(problem, [*entrants, *graphs], bases=[x.name for x in entrants[:1]])
                save()
