"""docs/pytorch.md: every word of its tables on a CPU is run, and the page has these tables."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mannkern import MANN
from tests.docs.markdown import ROOT, text
from tests.docs.pytorch.feature import (
    COMPILED,
    MODULES,
    NONE,
    SAME,
    SIZES,
    STEPS,
    UNTESTED,
    YES,
    Feature,
    build,
    draw,
    found,
)
from tests.docs.pytorch.table import GROUPS, PAGE, written

FEATURES = {feature.name: feature for features in GROUPS.values() for feature in features}


def test_example() -> None:
    """A call on the compiled CPU backend is seen as a compiled loop, and a loop over its cell is not."""

    def whole(module: Any, backend: str) -> None:
        build(module, backend)(draw(2, 1, 3))

    def cell(module: Any, backend: str) -> None:
        build(module, backend).cell(draw(1, 3))

    for module in MODULES:
        assert found(whole, module, "cpp") == COMPILED
        assert found(cell, module, "cpp") == found(whole, module, "reference") == STEPS


def cells() -> Iterator[Any]:
    """Every (feature, backend, module) that a check runs."""
    for feature in FEATURES.values():
        for backend in ("cpp", "reference"):
            if feature.check is not None and getattr(feature, backend) not in (UNTESTED, NONE):
                for module in feature.modules:
                    label = f"{feature.check.__name__}-{backend}-{module.__name__}"
                    marks = [pytest.mark.slow] if backend in feature.slow else []
                    yield pytest.param(feature, backend, module, id=label, marks=marks)


@pytest.mark.parametrize(("feature", "backend", "module"), list(cells()))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of torch.jit and of an autograd Function
def test_word(feature: Feature, backend: str, module: Any) -> None:
    word, check = getattr(feature, backend), feature.check
    assert check is not None
    if word.startswith("no: "):
        with pytest.raises(Exception, match=feature.error):
            check(module, backend)
    else:
        how = found(check, module, backend)
        assert word in (YES, how)


@pytest.mark.slow  # imports Triton
def test_what_the_flop_counter_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def count(model: Any) -> int:
        with FlopCounterMode(display=False) as counter:
            model(draw(4, 2, 3).to(next(model.parameters()).dtype))
        return int(counter.get_total_flops())

    F, D, _, W, R = SIZES
    controller = (F + R * W + D) * 4 * D
    assert count(torch.nn.LSTM(3, 5)) == 0
    compiled, reference = (count(build(MANN, backend)) for backend in ("cpp", "reference"))
    assert compiled == 2 * 4 * 2 * (controller + D * (2 * R * W + R))  # of 4 steps of 2 episodes
    assert reference > compiled


def test_words_are_known() -> None:
    for feature in FEATURES.values():
        for backend in ("cpp", "reference"):
            word = getattr(feature, backend)
            assert word in (COMPILED, STEPS, YES, UNTESTED, NONE) or word.startswith("no: "), feature.name
            assert word in (UNTESTED, NONE) or feature.check or feature.evidence, feature.name
        for word in (feature.triton, feature.cuda):
            assert word in (UNTESTED, NONE, SAME) or feature.evidence, feature.name
        assert any(word.startswith("no: ") for word in feature[2:4]) == bool(feature.error), feature.name
    assert max(Counter(f.check for f in FEATURES.values() if f.check).values()) == 1


@pytest.mark.parametrize("cited", sorted({name for feature in FEATURES.values() for name in feature.evidence}))
def test_evidence_exists(cited: str) -> None:
    path, name = cited.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_page_has_the_tables() -> None:
    assert written(text(PAGE)) == text(PAGE), "run python -m tests.docs.pytorch.table"
