"""The contests on a GPU: the step of MANN and of the NTM by batch size, the scan, a training step of MANN.

Kernels and networks are also timed as CUDA graphs. The bound is the bytes that must move, at the bandwidth of a large
copy in the same run. Without a GPU the same contests run on the CPU's contestants, as a rehearsal.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import contestants, episode, harness, workloads
from bench.contestants import Contestant
from bench.problems import Problem

CHECKED = 64  # episodes of a step whose results are compared before anything is timed
CHECKED_SCAN = 4  # steps of a scan, and episodes: in more, rounding may decide a near-tie of usage


def run(report: harness.Report, tiny: bool, save: Callable[[], None]) -> None:
    """All contests, the largest sizes first; ``save`` is called after each, since the next may take too long."""
    device = report.device

    def contest(what: str, problem: Problem, entrants: list[Contestant]) -> None:
        report.begin({"what": what, "B": problem.B})
        graphs = contestants.graphs(entrants) if device == "cuda" else []
        report.time(problem, [*entrants, *graphs], bases=[x.name for x in entrants[:1]])
        save()

    report.begin({"what": "check"})
    entrants = report.check(workloads.ntm_step(CHECKED, device), contestants.of("ntm_step", device))
    for B in (2, 3) if tiny else (16384, 256):
        contest("ntm forward", workloads.ntm_step(B, device, gradient=False), entrants)
        contest("ntm with gradient", workloads.ntm_step(B, device), entrants)
    report.begin({"what": "check"})
    entrants = report.check(workloads.lrua_step(CHECKED, device=device), contestants.of("lrua_step", device))
    for B in (2, 3) if tiny else (16384, 4096, 256, 16):
        contest("step forward", workloads.lrua_step(B, device=device, gradient=False), entrants)
        contest("step with gradient", workloads.lrua_step(B, device=device), entrants)
    report.begin({"what": "check"})
    scan = workloads.lrua_scan(CHECKED_SCAN, CHECKED_SCAN, device)
    entrants = report.check(scan, contestants.of("lrua_scan", device))
    T, B = (3, 2) if tiny else (workloads.T, 4096)
    contest(f"scan, T = {T}", workloads.lrua_scan(T, B, device), entrants)
    report.begin({"what": "check"})
    entrants = episode.check_first_steps(report, episode.CHECKED_BATCH, episode.check_whole(report, device), device)
    for B in (2,) if tiny else (4096, 256, 16):
        contest(f"training, T = {T}", workloads.mann(B, T, device), entrants)
