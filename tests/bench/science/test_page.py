"""The page of results: its tables, sections and places, also beside runs that are not at their end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.science import page, page_models, page_others
from bench.science.plan import Planned, plan
from tests.bench.science.records import record, write_record


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


WITHOUT_CURVE: list[tuple[str, list[Any]]] = [(study, []) for study in sorted({planned.study for planned in plan()})]


@pytest.mark.parametrize(
    ("study", "curve"), [*WITHOUT_CURVE, ("quick", [{"step": 2, "loss": 0.1}])]
)  # of the copy task
def test_a_page_with_a_run_that_has_just_begun(study: str, curve: list[Any], tmp_path: Path) -> None:
    results, page_file = tmp_path / "results", tmp_path / "results.md"
    write_record(results, episodes=100, level=0.8, study="table-1")
    if study in page.ONE_SHOT:
        write_record(results, episodes=100, level=0.7, study=study)
    begun = record(100, 0.8, study, "begun") | {"finished": False, "curve": curve, "evaluation": None}
    file = results / study / "begun-0.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(begun))
    page.write_page(results, page_file)
    assert "| MANN |" in page_file.read_text()


def test_every_study_of_the_plan_has_its_place_on_the_page() -> None:
    placed = {*page_others.STUDIES, *page_models.STUDIES}
    assert {planned.study for planned in plan()} == page.ONE_SHOT | placed


def test_a_study_that_was_added_to_the_plan_has_a_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows with an accuracy, of rows by the size of a sequence, and of a run that is not at its end."""
    of_plan = [*plan(), *(Planned("mine", row, 0, 1, {}) for row in ("ring", "ring, copy", "begun"))]
    monkeypatch.setattr(page, "plan", lambda: of_plan)
    results, page_file = tmp_path / "r", tmp_path / "docs" / "results.md"
    for row in ("ring", "ring, copy", "begun"):
        write_record(results, episodes=1600, level=0.9, study="mine", row=row, seed=3)
    size = {"size": [20], "bits_per_sequence": 2.0, "wrong_bits": 0, "optimal_bits_per_sequence": None}
    evaluation = {"task": "copy", "largest_in_training": [20], "sizes": [size | {"answer_bits": 160}]}
    changes: dict[str, dict[str, Any]] = {
        "ring-copy-3": {"evaluation": evaluation},
        "begun-3": {"finished": False, "evaluation": None},
    }
    for name, change in changes.items():
        file = results / "mine" / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    page.write_page(results, page_file)
    lines = page_file.read_text().splitlines()
    assert "## mine" in lines
    assert "| ring | 3 | 1,600 | 90.0 |" in lines
    assert any(line.startswith("| ring, copy | 3 |") and "20: 2.00" in line for line in lines)
    assert not any(line.startswith("| begun") for line in lines)


def test_the_page_has_the_ntm_by_size_and_few_shot_by_row(tmp_path: Path) -> None:
    results, page_file = tmp_path / "r", tmp_path / "docs" / "results.md"
    write_record(results, episodes=400, level=0.0, study="ntm", row="NTM, copy", seed=3)
    write_record(results, episodes=200, level=0.0, study="quick", row="NTM, copy", seed=2)
    write_record(results, episodes=400, level=0.9812, study="few-shot", row="Matching Networks, 5-way 1-shot")
    known: dict[str, Any] = {"wrong_bits": 0, "optimal_bits_per_sequence": None}
    write_record(results, episodes=400, level=0.0, study="few-shot", row="meta-memory network, three families")
    sizes = [known | {"size": [n], "bits_per_sequence": n / 10, "answer_bits": 8 * n} for n in (10, 20, 120)]
    write_record(results, episodes=800, level=0.9734, study="few-shot", row="Meta Networks, 20-way 1-shot")
    added: dict[str, dict[str, Any]] = {
        "ntm/ntm-copy-3": {"task": "copy", "largest_in_training": [20], "sizes": sizes},
        "quick/ntm-copy-2": {"task": "copy", "largest_in_training": [20], "sizes": sizes},
        "few-shot/meta-memory-network-three-families-0": {
            "unseen_by_family": {k: {"accuracy": 0.75, "interval_95": 0.0027} for k in ("description", "one")}
        },
        "few-shot/matching-networks-5-way-1-shot-0": {"model": "matching", "classes": 5, "shots": 1},
        "few-shot/meta-networks-20-way-1-shot-0": {
            "model": "meta-networks",
            "classes": 20,
            "shots": 1,
            "unseen_by_classes": {"5": {"accuracy": 0.9925, "interval_95": 0.0015}},
        },
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
    assert "| Meta Networks, 20-way 1-shot; tested 5-way | 1 | 800 | 99.25 ± 0.15 | *98.95* |" in lines
    assert "| meta-memory network, three families: by one example | 1 | 400 of each | 75.00 ± 0.27 |  |" in lines
    assert "![Accuracy against episodes of training](results/few-shot.png)" in lines
    assert (page_file.parent / "results" / "few-shot.png").stat().st_size > 5000
