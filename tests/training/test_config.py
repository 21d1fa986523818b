"""The settings of a run: what an option says of itself, names that are evaluated late, and numbers out of range."""

from dataclasses import dataclass, fields

import pytest

from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.experiments.registry import config_classes
from mannkern.training.config import RunConfig, choices_of, only_with, option
from mannkern.training.flags import flag

NAMES = ["a", "b"]


@dataclass(frozen=True)
class Toy(RunConfig):
    model: str = option("a", "the model", choices=lambda: tuple(NAMES))
    size: int = option(3, "a size", only=lambda: tuple(NAMES[1:]))


def test_an_option_by_hand() -> None:
    entries = {entry.name: entry for entry in fields(Toy)}
    size = entries["size"]
    assert (size.default, size.metadata["about"], size.metadata["kind"]("4"), flag("size_x")) == (
        3, "a size", 4, "--size-x",
    )  # fmt: skip
    assert (choices_of(entries["model"]), only_with(size), choices_of(size)) == (("a", "b"), ("b",), ())
    with pytest.raises(ValueError, match="--model: got c, need one of a, b"):
        Toy(model="c")
    NAMES.append("c")  # a model that is registered later
    assert Toy(model="c").model == "c"
    assert only_with(size) == ("b", "c")


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("lr", -1.0), ("clip", -1.0), ("steps", -1), ("minutes", float("nan")), ("threads", 0)],
)
def test_a_number_out_of_range_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name.replace("_", "-")):
        OneShotConfig(**{name: value})


def test_a_number_that_float32_lacks_is_named() -> None:
    """It would be infinite in a tensor: found after a run that is overwritten has been deleted."""
    for name, value in (("lr", 1e300), ("memory_init", 1e39), ("memory_init", -1e39), ("clip", 3.5e38)):
        with pytest.raises(ValueError, match=rf"--{name.replace('_', '-')}: got .*, need at most 3.40e\+38, float32"):
            OneShotConfig(**{name: value})
    assert OneShotConfig(clip=3.4e38).clip == 3.4e38


@pytest.mark.parametrize(
    ("task", "name"),
    [("sinusoids", "inner_steps"), ("few-shot-glyphs", "inner_steps"), ("few-shot-glyphs", "context_steps"),
     ("few-shot-glyphs", "blocks"), ("sinusoids", "layers")],
)  # fmt: skip
def test_a_step_that_would_not_end_is_refused(task: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')}: got 1000000000, need at most 1000"):
        config_classes()[task](**{name: 10**9})


def test_a_learning_rate_that_falls_needs_an_end() -> None:
    assert OneShotConfig(lr_decay="cosine", steps=7).falling_steps == 7
    assert OneShotConfig(lr_decay="cosine", minutes=2, decay_steps=9).falling_steps == 9
    assert OneShotConfig(lr_decay="cosine", steps=0).falling_steps == 1, "a run without a step is a run"
    assert OneShotConfig().falling_steps == float("inf")
    with pytest.raises(ValueError, match="--decay-steps needs --lr-decay linear or cosine"):
        OneShotConfig(decay_steps=9)
    with pytest.raises(ValueError, match=r"--lr-decay needs --decay-steps or --steps$"):
        OneShotConfig(lr_decay="linear", minutes=2)


def test_how_long_a_run_lasts() -> None:
    assert OneShotConfig().step_limit == 6250
    assert OneShotConfig(minutes=2).step_limit == float("inf")
    assert OneShotConfig(minutes=2).second_limit == 120
    assert (OneShotConfig(minutes=2, steps=5).step_limit, OneShotConfig(steps=5).second_limit) == (5, float("inf"))
