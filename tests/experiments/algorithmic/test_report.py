"""Tables and pictures of the algorithmic tasks, of runs that have hardly begun."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch

from mannkern.experiments.algorithmic.config import ALGORITHMIC_CONFIGS, AlgorithmicConfig, CopyConfig, NGramsConfig
from mannkern.experiments.algorithmic.experiment import SizeScores
from mannkern.experiments.algorithmic.pictures import _used_slots, bits_by_size, draw_all, learning_curve, sequence
from mannkern.experiments.algorithmic.report import Evaluation, evaluate, table
from mannkern.experiments.registry import train

COPY = CopyConfig(
    bits=2, max_length=3, hidden_size=4, memory_slots=6, memory_width=3, lstm_size=4, batch_size=2, log_every=2,
    validate_every=3, threads=1, steps=5,
)  # fmt: skip
NGRAMS = NGramsConfig(
    context=2, length=12, hidden_size=4, memory_slots=6, memory_width=3, num_writes=2, batch_size=2, log_every=2,
    validate_every=3, threads=1, steps=3,
)  # fmt: skip


def scores(size: tuple[int, ...], bits: float, optimal: float | None = None) -> SizeScores:
    return SizeScores(size, 1000, 909, bits, 0.25, 1.5, optimal)


def test_example() -> None:
    """12 steps of 32 sequences are 384; training has lengths up to 10, so that 20 x 10 gets a star."""
    config = ALGORITHMIC_CONFIGS["repeat-copy"]()
    sizes = [(10, 10), (20, 10)]
    runs = [
        Evaluation(Path(model), replace(config, model=model), 12, [scores(size, bits) for size in sizes])
        for model, bits in (("ntm", 0.5), ("lstm", 400.0))
    ]
    lines = table(runs).splitlines()
    assert "1,000 sequences of each size" in lines[0]
    assert lines[1:3] == [f"{name}: 12 steps, 384 sequences of training" for name in ("NTM", "LSTM")]
    assert lines[4].split() == "length x repeats NTM bits wrong LSTM bits wrong guessing".split()  # noqa: SIM905
    assert lines[5].split() == "10 x 10 0.50 ± 0.25 1.50 400.00 ± 0.25 1.50 909".split()  # noqa: SIM905
    assert lines[6].split()[:3] == ["20", "x", "10*"]
    assert lines[-1] == "*: larger than any in training"


def trained(run: Path, config: AlgorithmicConfig) -> Evaluation:
    run.mkdir()
    train(config, run)
    return evaluate(run, config, 4)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Evaluation]:
    folder = tmp_path_factory.mktemp("runs")
    return [trained(folder / model, replace(COPY, model=model)) for model in ("ntm", "lstm")]


@pytest.fixture(scope="module")
def ngrams(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return trained(tmp_path_factory.mktemp("runs") / "ngrams", NGRAMS)


def test_the_record_has_every_size(results: list[Evaluation]) -> None:
    record = json.loads((results[0].run / "evaluation.json").read_text())
    assert [size["size"] for size in record["sizes"]] == [[3], [10], [20], [30], [50], [120]]
    assert (record["task"], record["model"], record["step"], record["training_sequences"]) == ("copy", "ntm", 5, 10)
    assert (record["size_is"], record["largest_in_training"]) == ("length", [3])
    first = record["sizes"][0]
    assert (first["sequences"], first["answer_bits"], first["optimal_bits_per_sequence"]) == (4, 6, None)
    assert first["bits_per_sequence"] == pytest.approx(6, abs=1.5)
    assert first["interval_95"] > 0


def test_the_optimum_stands_beside_the_n_grams(ngrams: Evaluation) -> None:
    lines = table([ngrams]).splitlines()
    assert lines[3].split() == ["bits", "NTM", "bits", "wrong", "optimal", "guessing"]
    assert float(lines[4].split()[-2]) == pytest.approx(ngrams.scores[0].optimal, abs=0.006)
    assert lines[4].split()[-1] == "10"
    assert len(lines) == 5
    labels = [text.get_text() for text in learning_curve([ngrams]).axes[0].get_legend().get_texts()]
    assert "optimal, on the same sequences" in labels
    assert "optimal" in [line.get_label() for line in sequence(ngrams, "NTM", (12,)).axes[2].lines]


@pytest.mark.slow
def test_all_pictures_are_written(results: list[Evaluation], ngrams: Evaluation) -> None:
    paths = draw_all(results)
    assert [str(path.relative_to(results[0].run.parent)) for path in paths] == [
        "ntm/pictures/learning_curve.png", "ntm/pictures/bits_by_size.png",
        "ntm/pictures/sequence-3.png", "ntm/pictures/sequence-120.png",
        "lstm/pictures/learning_curve.png", "lstm/pictures/sequence-3.png", "lstm/pictures/sequence-120.png",
    ]  # fmt: skip
    for path in paths:
        height, width, _ = matplotlib.image.imread(path).shape
        assert min(height, width) > 300
    assert [path.name for path in draw_all([ngrams])] == ["learning_curve.png", "sequence-12.png"]


def test_runs_are_overlaid(results: list[Evaluation]) -> None:
    labels = [text.get_text() for text in learning_curve(results).axes[0].get_legend().get_texts()]
    assert labels == [
        "NTM, training batches", "NTM, length: 3", "LSTM, training batches", "LSTM, length: 3", "guessing",
    ]  # fmt: skip
    labels = [text.get_text() for text in bits_by_size(results).axes[0].get_legend().get_texts()]
    assert sorted(labels) == ["LSTM", "NTM", "guessing", "largest in training"]


def test_a_run_without_metrics_has_a_learning_curve(ngrams: Evaluation, tmp_path: Path) -> None:
    assert learning_curve([ngrams._replace(run=tmp_path)]).axes


def test_a_sequence_shows_every_step(results: list[Evaluation], ngrams: Evaluation) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    axes = sequence(results[0], "NTM", (3,)).axes
    assert torch.equal(torch.get_rng_state(), state)
    assert [panel.images[0].get_array().shape for panel in axes[:4]] == [(3, 7), (2, 7), (2, 7), (2, 7)]
    assert [panel.get_title(loc="left") for panel in axes[4:]] == ["write weights", "read weights"]
    assert all(panel.images[0].get_array().shape[1] == 7 for panel in axes[4:])
    assert "of 6 wrong" in axes[2].texts[0].get_text()
    assert len(sequence(results[1], "LSTM", (3,)).axes) == 4
    assert "of 2 heads" in sequence(ngrams, "NTM", (12,)).axes[3].get_title(loc="left")


@pytest.mark.parametrize(
    ("used", "arc"),
    [([3], (3, 1)), ([2, 3, 5], (2, 4)), ([0, 7], (7, 2)), ([6, 7, 1], (6, 4)), (list(range(8)), (0, 8))],
)
def test_the_slots_in_use_are_one_arc_of_the_circle(used: list[int], arc: tuple[int, int]) -> None:
    weights = torch.full((2, 8), 0.01)
    weights[1, used] = 0.9
    first, count = _used_slots(weights)
    assert count == arc[1]
    assert first == arc[0] or count == 8
