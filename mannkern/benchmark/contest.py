"""A contest at a user's own sizes: the contestants of a model are checked at those sizes, then timed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mannkern.benchmark import contestants
from mannkern.benchmark.contestants import Contestant
from mannkern.benchmark.harness import Report
from mannkern.benchmark.problems import Training
from mannkern.benchmark.workloads import CHECKED_EPISODES, CHECKED_STEPS, EpisodeSizes, episode
from mannkern.memories.core import CORES
from mannkern.memories.registry import FAMILIES

CHECKED_BATCH = 4  # episodes of the check in float32, fewer where the timed batch has fewer
MOST_CHECKED_STEPS = 100  # of the check in float64: over more, a recurrence enlarges even that rounding
DRAWS = 10


def run(
    report: Report,
    model: str,
    sizes: EpisodeSizes,
    batches: Sequence[int],
    threads: Sequence[int],
    backend: str | None = None,
    gradient: bool = True,
) -> None:
    """Check the contestants of ``model``, and time those that are right at each batch size and number of threads.

    Results can depend on the number of threads, so each number has its own check.
    backend: the only one of mannkern's backends that takes part (default: all that run here)
    """
    device = report.device
    where: dict[str, Any] = {"model": model, **sizes._asdict(), "device": device, "gradient": gradient}
    entrants = entrants_of(model, report.device_type, backend)
    whole = episode(model, CHECKED_EPISODES, sizes._replace(T=min(sizes.T, MOST_CHECKED_STEPS)), device, gradient)
    start = first_steps(model, min(max(batches), CHECKED_BATCH), sizes, device, gradient)
    right: dict[int, list[Contestant]] = {}
    for count in dict.fromkeys(threads):
        report.begin({**where, "threads": count})
        right[count] = report.check(start, report.check(whole.double(), entrants))
    for B in batches:
        for count in threads:
            report.begin({**where, "batch": B, "B": B, "threads": count})

            def problem(B: int) -> Training:
                return episode(model, B, sizes, device, gradient)

            bases = [entrant.name for entrant in right[count] if entrant.fused][:1] or ["reference"]
            report.time(problem(B), right[count], bases, smaller=problem)


def entrants_of(model: str, device: str, backend: str | None = None) -> list[Contestant]:
    """The contestants of a model that can run here; of mannkern's backends only ``backend``, if it is given.

    device: its type
    """
    found = contestants.of(model, device)
    return [
        entrant
        for entrant in (*found, *(contestants.graphs(found) if device == "cuda" else ()))
        if not contestants.missing(entrant, device)
        and (backend is None or not entrant.fused or entrant.name.partition(",")[0] == backend)
    ]


def first_steps(model: str, B: int, sizes: EpisodeSizes, device: str, gradient: bool = True) -> Training:
    """The first steps of B episodes, of several drawn ones those whose choices of slots lie furthest apart.

    With many slots usages lie so close to each other that rounding of float32 may choose another slot.
    """
    first = sizes._replace(T=min(sizes.T, CHECKED_STEPS))
    choice_gap = _choice_gap(model)
    if choice_gap is None:
        return episode(model, B, first, device, gradient)
    draws = [episode(model, B, first, device, gradient, seed) for seed in range(DRAWS)]
    return max(draws, key=lambda draw: _gap(draw, choice_gap))


def _choice_gap(model: str) -> Any:
    family = FAMILIES.get(CORES[model].family or "")
    return family.episode.choice_gap if family is not None and family.episode is not None else None


@torch.no_grad()
def _gap(problem: Training, choice_gap: Any) -> float:
    """The smallest distance between the numbers that chose slots, the first step apart, where all are equal."""
    network: Any = problem.double().network
    cell, state = network.body.cell, network.body.initial_state(problem.B)
    cell.backend, smallest = "reference", float("inf")
    for t, x in enumerate(problem.inputs[0].double()):
        smallest = min(smallest, choice_gap(cell, state)) if t else smallest
        _, state = cell(x, state)
    return smallest
