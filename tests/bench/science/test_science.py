"""The plan of all runs is carried out, resumed, compared and written down, here with runs of a few steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.science import __main__ as command
from bench.science import page, quick, runner
from bench.science.plan import Planned, plan
from bench.science.records import episodes_to_pass, over_seeds, percents, read_records, scores_by_test
from bench.science.runner import carry_out, collect, evaluate_again, is_finished
from bench.science.tables import by_test
from mannkern.commands.options import check_apply, check_used, with_recipe
from mannkern.experiments.registry import config_classes
from mannkern.tasks import glyphs
from mannkern.training import loop

SIZES: dict[str, Any] = {
    "task": "glyphs",
    "length": 50,
    "hidden_size": 8,
    "memory_slots": 6,
    "memory_width": 4,
    "num_reads": 2,
    "batch_size": 2,
    "log_every": 2,
    "validate_every": 2,
    "validation_episodes": 4,
    "steps": 4,
}


@pytest.fixture(autouse=True)
def few_glyphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    split = glyphs.load(num_train=6, num_test=6)
    monkeypatch.setattr(glyphs, "load", lambda: split)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def record(episodes: int, level: float, study: str = "table-1", row: str = "MANN", seed: int = 0) -> dict[str, Any]:
    """A finished run whose accuracy is ``level`` in the middle and at the end."""
    scores = {"accuracy": level, "interval_95": 0.002, "accuracy_by_instance": {str(k): level for k in range(1, 11)}}
    evaluation = {"unseen": scores, "unseen_augmented": scores}
    curve = [{"episodes": episodes // 2, **scores}, {"episodes": episodes, **scores}]
    names = {"study": study, "row": row, "seed": seed, "finished": True, "settings": {}}
    return names | {"examples": episodes, "curve": curve, "evaluation": evaluation}


def write_record(results: Path, **settings: Any) -> None:
    content = record(**settings)
    file = results / Planned(content["study"], content["row"], content["seed"], 0).name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_name(f"{file.name}.json").write_text(json.dumps(content))


def test_seeds_by_hand() -> None:
    """94, 95 and 96 have the mean 95 and the deviation 1; Student's t for three is 4.30, so the interval is 2.48."""
    assert over_seeds([94, 95, 96]) == pytest.approx((95, 4.30 / 3**0.5))
    assert over_seeds([95.0])[1] != over_seeds([95.0])[1], "one seed has no interval"


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
    file.write_text(json.dumps(result))
    before = file.read_bytes()
    assert carry_out(planned, tmp_path / "gone", tmp_path / "results", Path("nowhere"))
    assert file.read_bytes() == before
    assert not (tmp_path / "gone").exists()


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


def test_the_page_shows_means_of_seeds_and_the_papers_figures(tmp_path: Path) -> None:
    for seed, level in enumerate((0.96, 0.97, 0.98)):
        write_record(tmp_path / "r", episodes=1600, level=level, seed=seed)
    write_record(tmp_path / "r", episodes=1600, level=0.5, row="LSTM")
    for row, level in (("the paper's", 0.4), ("key strength", 0.6)):
        write_record(tmp_path / "r", episodes=1600, level=level, study="factors", row=row)
    write_record(tmp_path / "r", episodes=16000, level=0.7, study="factors-full", row="key strength")
    page.write_page(tmp_path / "r", tmp_path / "docs" / "results.md")
    lines = (tmp_path / "docs" / "results.md").read_text().splitlines()
    mann = next(line for line in lines if line.startswith("| MANN |"))
    assert mann.split(" | ")[1:5] == ["3", "1,600", "-, -, -", "97.0 ± 2.5"], "98.1 is the paper's at the 10th"
    assert next(line for line in lines if line.startswith("| LSTM |")).split(" | ")[4] == "50.0"
    assert "| *the paper's MANN* |  |  |  | *36.4* | *82.8* | *91.0* | *92.6* | *94.9* | *98.1* |" in lines
    assert lines.index("## What matters") > lines.index(mann)
    full = next(line for line in lines if line.startswith("| key strength | 1 | 16,000 |"))
    assert lines.index(full) > lines.index(page.FULL.splitlines()[0]) > lines.index("## What matters")
    for name in ("table-1.png", "factors.png"):
        assert (tmp_path / "docs" / "results" / name).stat().st_size > 1000
        assert any(f"(results/{name})" in line for line in lines)


def test_quick_runs_stand_beside_the_spread_of_ours(tmp_path: Path) -> None:
    write_record(tmp_path / "here", episodes=100, level=0.8, study="quick")
    for seed, level in enumerate((0.7, 0.75, 0.9)):
        write_record(tmp_path / "ours", episodes=100, level=level, study="quick", seed=seed)
    lines = [line.split() for line in quick.compare(tmp_path / "here", tmp_path / "ours").splitlines()]
    assert lines[2] == ["MANN", "2nd", "instance,", "%", "80.0", "70.0", "to", "90.0"]
    assert "not measured yet" in quick.compare(tmp_path / "here", tmp_path / "none")


def test_the_command_carries_out_what_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = [Planned("quick", "MANN", 0, 1, SIZES, 4), Planned("table-1", "MANN", 0, 1, SIZES, 4)]
    monkeypatch.setattr(command, "plan", lambda: iter(planned))
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    places = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"), "--data", "nowhere"]
    assert command.main([*places, "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["quick/mann-0: 1 minutes", "table-1/mann-0: 1 minutes"]
    assert command.main([*places, "--only", "table"]) == 0
    assert list(read_records(tmp_path / "results", "table-1")) == ["MANN"]
    assert "| MANN | 1 | 8 |" in (tmp_path / "docs" / "results.md").read_text()
    assert command.main([*places, "--quick", "--only", "table"]) == 0
    assert "quick/mann-0" not in capsys.readouterr().out
    assert command.main([*places, "--quick"]) == 0
    assert "not measured yet" in capsys.readouterr().out
    assert not (tmp_path / "results" / "quick").exists()


def test_the_page_has_a_section_for_each_study_with_results(tmp_path: Path) -> None:
    results, page_file = tmp_path / "r", tmp_path / "docs" / "results.md"
    write_record(results, episodes=1600, level=0.9, study="strings-15")
    write_record(results, episodes=800, level=0.7, study="persistent", row="MANN, not wiped")
    write_record(results, episodes=400, level=0.5, study="curriculum")
    write_record(results, episodes=0, level=0.6, study="autoencoder", row="kNN, autoencoder")
    write_record(results, episodes=320, level=0.0, study="gaussian-processes", row="MANN, 2 variables")
    scores = record(0, 0.4)["evaluation"]["unseen"]
    added: dict[str, dict[str, Any]] = {
        "persistent/mann-not-wiped-0": {"unseen_wiped": scores, "unseen_by_place": [0.5, 0.6]},
        "curriculum/mann-0": {"unseen_by_classes": {"15": scores, "50": scores}},
        "autoencoder/knn-autoencoder-0": {"unseen_by_classes": {"15": scores}},
        "gaussian-processes/mann-2-variables-0": {
            "mean_log_likelihood": 0.25, "exact_mean_log_likelihood": 0.5, "dimensions": 2, "log_likelihood": [0, 0.5],
            "exact": [0, 1],
        },
    }  # fmt: skip
    for name, values in added.items():
        file = results / f"{name}.json"
        content = json.loads(file.read_text())
        content["evaluation"] |= values
        file.write_text(json.dumps(content))
    page.write_page(results, page_file)
    lines = page_file.read_text().splitlines()
    for start in (
        "### 15 classes",
        "| MANN | 1 | 1,600 | 90.0 |",
        "| kNN, autoencoder, unequal numbers | 1 | 0 | 40.0 |",
        "| *the paper's MANN* |  |  | *0.1* | *62.6* |",
        "| 50 | 40.0 |",
        "| MANN, not wiped, wiped for the test, unequal numbers | 1 | 800 | 40.0 |",
        "| MANN, 2 variables | 1 | 320 | 0.25 | 0.50 |",
    ):
        assert any(line.startswith(start) for line in lines), start
    for name in ("strings-15", "curriculum-400", "persistent", "persistent-training", "gaussian-processes"):
        assert (tmp_path / "docs" / "results" / f"{name}.png").stat().st_size > 1000
        assert any(f"(results/{name}.png)" in line for line in lines)


@pytest.mark.parametrize("study", ["start", "search", "quick", "factors"])
@pytest.mark.parametrize("curve", [[], [{"step": 2, "loss": 0.1}]], ids=["none", "of another task"])
def test_a_page_with_runs_that_have_just_begun(study: str, curve: list[Any], tmp_path: Path) -> None:
    write_record(tmp_path / "results", episodes=100, level=0.8, study=study)
    begun = record(100, 0.8, study, "begun") | {"finished": False, "curve": curve, "evaluation": None}
    (tmp_path / "results" / study / "begun-0.json").write_text(json.dumps(begun))
    page.write_page(tmp_path / "results", tmp_path / "results.md")
    assert "| MANN |" in (tmp_path / "results.md").read_text()


def test_every_study_of_the_plan_has_its_place_on_the_page() -> None:
    placed = {"strings-5", "strings-15", "curriculum", "persistent", "gaussian-processes", "autoencoder"}
    placed |= {"ntm", "few-shot"}
    assert {planned.study for planned in plan()} == page.ONE_SHOT | placed


def test_the_page_has_the_ntm_by_size_and_few_shot_by_row(tmp_path: Path) -> None:
    results, page_file = tmp_path / "r", tmp_path / "docs" / "results.md"
    write_record(results, episodes=400, level=0.0, study="ntm", row="NTM, copy", seed=3)
    write_record(results, episodes=200, level=0.0, study="quick", row="NTM, copy", seed=2)
    write_record(results, episodes=400, level=0.9812, study="few-shot", row="Matching Networks, 5-way 1-shot")
    known: dict[str, Any] = {"wrong_bits": 0, "optimal_bits_per_sequence": None}
    write_record(results, episodes=400, level=0.0, study="few-shot", row="meta-memory network, three families")
    sizes = [known | {"size": [n], "bits_per_sequence": n / 10, "answer_bits": 8 * n} for n in (10, 20, 120)]
    added: dict[str, dict[str, Any]] = {
        "ntm/ntm-copy-3": {"task": "copy", "largest_in_training": [20], "sizes": sizes},
        "quick/ntm-copy-2": {"task": "copy", "largest_in_training": [20], "sizes": sizes},
        "few-shot/meta-memory-network-three-families-0": {
            "unseen_by_family": {"description": {"accuracy": 0.5}, "one": {"accuracy": 0.75}}
        },
        "few-shot/matching-networks-5-way-1-shot-0": {"model": "matching", "classes": 5, "shots": 1},
    }
    for name, values in added.items():
        file = results / f"{name}.json"
        content = json.loads(file.read_text())
        content["evaluation"] |= values
        file.write_text(json.dumps(content))
    page.write_page(results, page_file)
    lines = page_file.read_text().splitlines()
    assert "| NTM, copy | 3 | 400 | 20: 2.00 / 120*: 12.00 | 20: 0.00 / 120*: 0.00 | 0 | 160 |" in lines
    assert "| NTM, copy | 2 | 200 | 20: 2.00 / 120*: 12.00 | 20: 0.00 / 120*: 0.00 | 0 | 160 |" in lines
    assert "| Matching Networks, 5-way 1-shot | 1 | 400 | 98.12 ± 0.20 | *98.10* |" in lines
    assert "| meta-memory network, three families: by one example | 1 | 400 of each | 75.00 |  |" in lines
    assert "![Accuracy against episodes of training](results/few-shot.png)" in lines
    assert (page_file.parent / "results" / "few-shot.png").stat().st_size > 5000
