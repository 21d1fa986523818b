"""The plan of all runs is carried out, resumed, compared and written down, here with runs of a few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.science import runner
from bench.science.plan import Planned, plan
from bench.science.records import episodes_to_pass, over_seeds, percents, scores_by_test
from bench.science.runner import carry_out, collect, evaluate_again, is_finished
from bench.science.tables import by_test, cell
from mannkern.commands.options import check_apply, check_used, with_recipe
from mannkern.experiments.registry import config_classes
from mannkern.training import loop
from tests.bench.science.records import SIZES, record


def test_seeds_by_hand() -> None:
    """94, 95 and 96 have the mean 95 and the deviation 1; Student's t for three is 4.30, so the interval is 2.48."""
    assert over_seeds([94, 95, 96]) == pytest.approx((95, 4.30 / 3**0.5))
    assert over_seeds([95.0])[1] != over_seeds([95.0])[1], "one seed has no interval"
    for count, quantile in ((6, 2.57), (31, 2.04), (32, 1.96), (100, 1.96)):
        values = [95.0] * (count - 2) + [94.0, 96.0]
        deviation = (2 / (count - 1)) ** 0.5
        assert over_seeds(values) == pytest.approx((95, quantile * deviation / count**0.5))


def test_when_a_run_has_passed_by_hand() -> None:
    """A mean of five validations counts, and none behind it may be below."""

    def curve(*levels: float) -> dict[str, Any]:
        lines = [record(10 * place, level)["curve"][1] for place, level in enumerate(levels, 1)]
        return {"curve": lines}

    assert episodes_to_pass(curve(*[0.9] * 8), (80,) * 6) == 50
    assert episodes_to_pass(curve(*[0.9] * 8), (80, 80, 80, 95, 80, 80)) is None, "at one presentation it is below"
    assert episodes_to_pass(curve(*[0.9] * 4), (80,) * 6) is None, "too few to say"
    assert episodes_to_pass(curve(0.5, *[0.9] * 5), (80,) * 6) == 50, "0.82 in the mean"
    assert episodes_to_pass(curve(*[0.9] * 5, 0.1, *[0.9] * 6), (80,) * 6) == 110, "0.74 in the mean of those with it"
    assert episodes_to_pass(curve(*[0.9] * 8, 0.1), (80,) * 6) is None, "the last five are below"


def test_every_test_of_a_row_by_hand() -> None:
    """A row trained on ten of each and one trained on unequal numbers have the same tests under other names."""
    levels = {"unseen": 0.9, "unseen_augmented": 0.8, "unseen_unequal": 0.7, "unseen_augmented_unequal": 0.6}
    equal = record(100, 0.9) | {"settings": {"balanced": True}}
    equal["evaluation"] = {name: record(100, x)["evaluation"]["unseen"] for name, x in levels.items()}
    swapped = dict(zip(levels, ("unseen_equal", "unseen_augmented_equal", "unseen", "unseen_augmented"), strict=True))
    unequal = equal | {
        "settings": {"balanced": False}, "evaluation": {swapped[k]: x for k, x in equal["evaluation"].items()}
    }  # fmt: skip
    wanted = {"": 90.0, "augmented": 80.0, "unequal numbers": 70.0, "the paper's test": 60.0}
    for one in (equal, unequal):
        assert {test: percents(scores)[0] for test, scores in scores_by_test(one).items()} == pytest.approx(wanted)
        assert by_test([one]) == {test: [f"{value:.1f}"] * 6 for test, value in wanted.items()}
    old = record(100, 0.9) | {"settings": {}}
    assert list(by_test([equal, old])) == ["", "augmented"], "what not all seeds have is left out"


def test_a_run_leaves_one_file_and_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned("study", "MANN, a row", 3, 1, SIZES, 4)
    assert planned.name == "study/mann-a-row-3"
    file = tmp_path / "results" / "study" / "mann-a-row-3.json"
    assert carry_out(planned, tmp_path / "runs", tmp_path / "results", Path("nowhere"))
    result = json.loads(file.read_text())
    assert (result["study"], result["row"], result["seed"], result["finished"]) == ("study", "MANN, a row", 3, True)
    assert (result["settings"]["seed"], result["settings"]["hidden_size"], result["threads"]) == (3, 8, 1)
    assert not {"data", "device"} & set(result["settings"])
    assert {"commit", "machine", "versions", "date"} <= set(result)
    assert (result["step"], result["examples"]) == (4, 8)
    assert [line["step"] for line in result["curve"]] == [2, 4]
    tests = ("unseen", "unseen_augmented", "unseen_equal", "unseen_augmented_equal")
    assert [result["evaluation"][test]["episodes"] for test in tests] == [4] * 4
    file.write_text(json.dumps(result | {"evaluation": {}}))
    with monkeypatch.context() as patch:
        patch.setattr(runner, "surroundings", lambda: {"commit": "later"})
        assert evaluate_again(planned, tmp_path / "runs", tmp_path / "results", Path("nowhere"), threads=2)
    assert torch.get_num_threads() == 2
    assert json.loads(file.read_text()) == result | {"evaluation_commit": "later"}
    file.write_text(json.dumps(result | {"step": 2}))
    assert not evaluate_again(planned, tmp_path / "runs", tmp_path / "results", Path("nowhere")), "another model"
    file.write_text(json.dumps(result | {"settings": result["settings"] | {"hidden_size": 9}}))
    assert not evaluate_again(planned, tmp_path / "runs", tmp_path / "results", Path("nowhere")), "other settings"
    file.write_text(json.dumps(result))
    before = file.read_bytes()
    assert carry_out(planned, tmp_path / "gone", tmp_path / "results", Path("nowhere"))
    assert file.read_bytes() == before
    assert not (tmp_path / "gone").exists()


def test_neighbours_are_measured_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the planned number of neighbours, on the planned number of episodes of every test; and again."""
    settings = {"task": "glyphs", "length": 20, "model": "knn", "neighbours": 3}
    planned, counts = Planned("study", "kNN", 0, 1, settings, 2), []
    neighbours = runner.NearestNeighbours

    def counted(classes: int, count: int) -> torch.nn.Module:
        counts.append(count)
        return neighbours(classes, count=count)

    monkeypatch.setattr(runner, "NearestNeighbours", counted)
    assert carry_out(planned, tmp_path / "runs", tmp_path, Path("nowhere"))
    file = tmp_path / "study" / "knn-0.json"
    result = json.loads(file.read_text())
    assert result["finished"]
    tests = {"unseen", "unseen_augmented", "unseen_equal", "unseen_augmented_equal"}
    assert {test: scores["episodes"] for test, scores in result["evaluation"].items()} == dict.fromkeys(tests, 2)
    file.write_text(json.dumps(result | {"evaluation": {}}))
    assert evaluate_again(planned, tmp_path / "runs", tmp_path, Path("nowhere"))
    assert json.loads(file.read_text())["evaluation"] == result["evaluation"]
    assert counts == [3] * 8


def test_a_stopped_run_leaves_its_curve_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, runs, results = Planned("study", "row", 0, 1, SIZES, 4), tmp_path / "runs", tmp_path / "results"
    train = runner.registry.train

    def stopped(config: Any, run: Path) -> loop.Outcome:
        return loop.Outcome(
            train(runner.registry.config_classes()["glyphs"](**config.to_dict() | {"steps": 2}), run).step, 15
        )

    commit = "first"
    monkeypatch.setattr(runner, "surroundings", lambda: {"commit": commit, "date": "today"})
    with monkeypatch.context() as patch:
        patch.setattr(runner.registry, "train", stopped)
        assert not carry_out(planned, runs, results, Path("nowhere"))
    file = results / "study" / "row-0.json"
    assert not is_finished(file)
    commit = "second"
    assert collect(planned, runs, results)
    assert json.loads(file.read_text())["commit"] == "first", "no other has trained"
    assert not collect(Planned("study", "not begun", 0, 1), runs, results)
    half = json.loads(file.read_text())
    assert (half["step"], half["evaluation"], len(half["curve"])) == (2, None, 1)
    assert carry_out(planned, runs, results, Path("nowhere"))
    whole = json.loads(file.read_text())
    assert whole["step"] == 4
    assert whole["commit"] == "first, then second"
    assert whole["curve"][0]["loss"] == half["curve"][0]["loss"]
    once = Planned("study", "at once", 0, 1, SIZES, 4)
    assert carry_out(once, runs, results, Path("nowhere"))
    at_once = json.loads((results / "study" / "at-once-0.json").read_text())
    assert at_once["evaluation"] == whole["evaluation"], "resumed bit for bit"


def test_every_planned_run_has_settings_that_apply() -> None:
    names = [planned.name for planned in plan()]
    assert len(names) == len(set(names))
    for planned in plan():
        settings = {name: x for name, x in planned.settings.items() if name != "neighbours"} | {"seed": planned.seed}
        if settings.get("model") == "knn":
            continue
        cls = config_classes()[settings["task"]]
        check_apply(cls, settings)
        check_used(cls, settings)
        assert cls(**with_recipe(cls, settings)).steps == settings["steps"]


def test_all_rows_of_a_study_see_as_many_episodes() -> None:
    """Also those with smaller or larger batches, which have more or fewer steps."""
    seen: dict[str, set[int]] = {}
    for planned in plan():
        if "steps" in planned.settings:  # neighbours are not trained
            episodes = planned.settings["steps"] * planned.settings.get("batch_size", 16)
            seen.setdefault(planned.study, set()).add(episodes)
    wanted = {"table-1": 1_600_000, "efficiency": 200_000, "factors": 160_000, "factors-full": 1_600_000}
    wanted |= {"start": 40_000, "search": 40_000}
    assert {study: seen[study] for study in wanted} == {study: {number} for study, number in wanted.items()}


def test_a_result_stays_until_the_run_has_got_as_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine got to step 3; here the run begins anew, is stopped at step 2, and then is finished."""
    planned, runs, results = Planned("study", "row", 0, 1, SIZES, 4), tmp_path / "runs", tmp_path / "results"
    file, train = results / "study" / "row-0.json", runner.registry.train
    begun = {"step": 3, "finished": False, "commit": "theirs", "curve": [{"step": 2}, {"step": 3}], "evaluation": None}
    theirs = json.dumps(record(6, 0.5, "study", "row") | begun)
    file.parent.mkdir(parents=True)
    file.write_text(theirs)

    def stopped(config: Any, run: Path) -> loop.Outcome:
        assert file.read_text() == theirs, "before any step"
        return loop.Outcome(train(type(config)(**config.to_dict() | {"steps": 2}), run).step, 15)

    commit = "first"
    monkeypatch.setattr(runner, "surroundings", lambda: {"commit": commit})
    with monkeypatch.context() as patch:
        patch.setattr(runner.registry, "train", stopped)
        assert not carry_out(planned, runs, results, Path("nowhere"))
    assert not collect(planned, runs, results)
    assert file.read_text() == theirs, "after two steps"
    commit = "second"
    assert carry_out(planned, runs, results, Path("nowhere"))
    whole = json.loads(file.read_text())
    assert (whole["step"], whole["finished"]) == (4, True)
    assert whole["commit"] == "first, then second", "not theirs, which trained no step of it"


def test_a_run_names_its_commits_in_any_folder_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that began with its results in one folder is published into another."""
    planned, runs = Planned("study", "row", 0, 1, SIZES, 4), tmp_path / "runs"
    commit = "first"
    monkeypatch.setattr(runner, "surroundings", lambda: {"commit": commit})
    assert carry_out(planned, runs, tmp_path / "here", Path("nowhere"))
    commit = "second"
    assert carry_out(planned, runs, tmp_path / "committed", Path("nowhere"))
    published = json.loads((tmp_path / "committed" / "study" / "row-0.json").read_text())
    assert published["commit"] == "first, then second"


def test_a_cell_of_one_two_and_three_seeds() -> None:
    """The interval of three is 4.303 times their standard error, 1 / sqrt(3); of two it would be 12.7 times."""
    assert cell([62.1]) == "62.1"
    assert cell([62.1, 83.9]) == "62.1 and 83.9"
    assert cell([1, 2, 3]) == "2.0 ± 2.5"
