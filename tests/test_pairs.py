"""Which kernels the shared tests run on: a family that is misspelt must fail here, and not lose tests in silence."""

from __future__ import annotations

from collections import Counter

import pytest

from mannkern.backends import BACKENDS, why_not
from mannkern.memories.registry import FAMILIES
from tests.helpers import CASES, CPP, EVERY_CASE, MAIN_CASES, kernels_of, pairs

INTERPRETER = [] if why_not(BACKENDS["triton"], "lrua", "cpu") else ["triton"]


def test_example() -> None:
    """The NTM's write has compiled kernels on the CPU, one for each instruction set, and no Triton kernel."""
    assert pairs(["ntm_write"]) == [("ntm_write", kernel) for kernel in CPP]
    assert pairs(["ntm_write"], reference=True)[0] == ("ntm_write", ("reference", ""))


@pytest.mark.parametrize(
    ("cases", "lrua", "ntm"),
    [(EVERY_CASE, 12, 3), (CASES, 11, 3), (MAIN_CASES, 6, 3)],
    ids=["every", "differentiable", "main"],
)
def test_number_of_pairs_of_each_family_and_backend(cases: list[str], lrua: int, ntm: int) -> None:
    cases = [name for name in cases if EVERY_CASE[name].operation.family in ("lrua", "ntm")]
    counted = Counter((EVERY_CASE[name].operation.family, backend) for name, (backend, _) in pairs(cases))
    expected = {("lrua", "cpp"): lrua * len(CPP), ("ntm", "cpp"): ntm * len(CPP)}
    assert counted == expected | {("lrua", backend): lrua for backend in INTERPRETER}
    with_reference = Counter(backend for _, (backend, _) in pairs(cases, reference=True))
    assert with_reference["reference"] == lrua + ntm
    compiled = Counter(backend for _, (backend, _) in pairs(cases, interpreted=False))
    assert compiled == {"cpp": (lrua + ntm) * len(CPP)}


def test_every_family_has_cases() -> None:
    assert {case.operation.family for case in EVERY_CASE.values()} == FAMILIES.keys()


def test_an_unknown_family_is_an_error() -> None:
    """Fixtures ask for the kernels of the family that a test's folder is named after."""
    for family in ("lrau", "", "memories"):
        with pytest.raises(ValueError, match=f"^family: got '{family}', need one of {', '.join(FAMILIES)}$"):
            kernels_of(family)
