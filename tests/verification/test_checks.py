"""A check of ``verify``: inputs are drawn until their choices are settled, and on the threads that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mannkern.__main__ import main
from mannkern.memories import registry
from mannkern.memories.cases import Shape
from mannkern.verification import checks, verify
from mannkern.verification.checks import Check, Outcome, run

SCAN = Check("lrua", "cpp", "cpu", "float32", "scan", "scan, small", 0, Shape(6, 5, 3, 2, 2, T=2))


def settled(monkeypatch: pytest.MonkeyPatch, answers: list[bool]) -> list[int]:
    """Lets these answers say whether the inputs of a scan are settled; the episodes of each that is asked about."""
    family, asked = registry.FAMILIES["lrua"], []

    def is_settled(case: Any, tensors: dict[str, Any], n: int) -> bool:
        asked.append(len(tensors["memory"]))
        return answers[len(asked) - 1]

    case = family.cases["scan"]
    case = case._replace(operation=case.operation._replace(is_settled=is_settled))
    monkeypatch.setitem(registry.FAMILIES, "lrua", family._replace(cases={**family.cases, "scan": case}))
    return asked


def test_inputs_are_drawn_until_they_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """In few episodes, because in many some choice is always close."""
    asked = settled(monkeypatch, [False, False, True])
    assert all(error.measured <= error.allowed for error in run(SCAN).errors.values())
    assert asked == [checks.SETTLED_EPISODES] * 3


def test_inputs_that_never_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ATTEMPTS", 2)
    asked = settled(monkeypatch, [False, False])
    ((said, error),) = run(SCAN).errors.items()
    assert "no inputs of 2 that keep the choices of slots apart" in said
    assert error.measured > error.allowed
    assert len(asked) == 2


def test_every_check_has_the_threads_of_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seen: set[int] = set()
    monkeypatch.setattr(verify, "run", lambda check: seen.add(check.threads) or Outcome({}, 0.0))
    main(["verify", "--seed", "1", "--threads", "3"])
    assert seen == {3}
    main(["verify", "--seed", "1"])
    assert seen == {1, 2, 3}, "two where a second one has work"


def test_each_shape_has_enough_episodes() -> None:
    shapes = verify._shapes("cpp", "cpu")
    assert {shape.B for name, shape in shapes.items() if name not in (*verify.BATCH, *verify.LONG)} == {0, 8}
