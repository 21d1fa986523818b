"""The examples in docstrings do what they show, and the reference has every public name."""

from __future__ import annotations

import doctest
import re
from typing import Any

import pytest
import torch

import mannkern
import mannkern.models
import mannkern.viz
from tests.docs.markdown import ROOT

WITHOUT = {  # records that the others return or take, parts of a model, and what docs/your-own-task.md has examples of
    "mannkern.TrainedModel",
    "mannkern.experiments.plain.plain_kind",
    "mannkern.experiments.registry.register_task",
    "mannkern.experiments.sequences.sequence_task",
    "mannkern.load",
    "mannkern.MANNState",
    "mannkern.NTMState",
    "mannkern.backend_info",  # depends on the machine
    "mannkern.backends.info.BackendInfo",
    "mannkern.functional",
    "mannkern.functional.LRUAScan",
    "mannkern.functional.LRUAStep",
    "mannkern.models.AdaptedNetwork",
    "mannkern.models.ConvEmbedding",
    "mannkern.models.Core",
    "mannkern.models.CoreSettings",
    "mannkern.models.NearestNeighbours",
    "mannkern.models.build_core",
    "mannkern.models.register_core",
    "mannkern.tasks.Episodes",
    "mannkern.tasks.FewShotEpisodes",
    "mannkern.tasks.OneHotLabels",
    "mannkern.tasks.StringLabels",
    "mannkern.tasks.characters.omniglot.load",  # needs the data
    "mannkern.viz.Recording",
    "mannkern.viz.animate",  # its tests have one
    "mannkern.viz.draw",
}
NAMES = [
    name
    for path in sorted((ROOT / "docs" / "api").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
]


def found(name: str) -> Any:
    thing: Any = mannkern
    for part in name.split(".")[1:]:
        thing = getattr(thing, part)
    return thing


# those of mannkern.functional have the examples of mannkern.reference
@pytest.mark.parametrize(
    "name", [name for name in NAMES if name not in WITHOUT and not name.startswith("mannkern.reference")]
)
def test_examples(name: str) -> None:
    torch.manual_seed(0)
    test = doctest.DocTestParser().get_doctest(
        found(name).__doc__, {"mannkern": mannkern, "torch": torch}, name, None, None
    )
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    assert doctest.DocTestRunner().run(test, out=said.append).failed == 0, "".join(said)


def test_the_reference_is_whole() -> None:
    """Every public name has its place in docs/api/."""
    public = {f"mannkern.{name}" for name in mannkern.__all__ if name != "functional"}
    public |= {f"mannkern.functional.{name}" for name in mannkern.functional.__all__}
    public |= {f"mannkern.viz.{name}" for name in mannkern.viz.__all__}
    public |= {f"mannkern.reference.{name}" for name in mannkern.reference.__all__}
    assert public <= set(NAMES)
    assert set(NAMES) >= WITHOUT
    assert len(NAMES) == len(set(NAMES))
