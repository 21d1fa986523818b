"""``mannkern.load``: runs of each kind and the models that come with mannkern, and what they predict."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread

import pytest
import torch
from torch import Tensor

import mannkern
from mannkern.experiments import registry
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.memories.cell import MemoryCell
from mannkern.tasks import Copy, glyphs
from mannkern.training.errors import CommandError
from mannkern.training.exported import trained_models, write_exported
from tests.commands.calls import COPY, FEW_SHOT, SIZES, run
from tests.docs.markdown import ROOT

DRAWINGS = glyphs.load(num_train=1, num_test=5, drawings=12).test  # (5, 12, 20, 20)
LABELS = torch.arange(5).repeat_interleave(3)


def trained(folder: Path, command: str) -> mannkern.TrainedModel:
    assert run("train", command, "--no-evaluate --steps 1 --run", folder) == 0
    return mannkern.load(folder)


def ask(model: mannkern.TrainedModel, classes: int = 5, shots: int = 3, drawings: Tensor = DRAWINGS) -> Tensor:
    """The share of right answers to new drawings of the first ``classes`` characters."""
    support = drawings[:classes, :shots].flatten(0, 1)
    queries = drawings[:classes, shots:].flatten(0, 1)
    labels = torch.arange(classes)
    answers = model.predict(support, labels.repeat_interleave(shots), queries)
    return (answers == labels.repeat_interleave(12 - shots)).double().mean()


def test_the_model_that_comes_with_mannkern_names_characters_it_never_saw() -> None:
    """Chance is 20%. Its settings are those of its training, and it is ready for use."""
    model = mannkern.load("mann-glyphs")
    assert (model.settings.task, model.settings.model, model.model.training) == ("glyphs", "mann", False)
    assert ask(model) > 0.7
    assert all(p.dtype == torch.float32 for p in model.model.parameters())


@pytest.mark.parametrize("name", trained_models())
def test_every_model_that_comes_with_mannkern_predicts_and_has_a_line(name: str) -> None:
    """Of characters: it names glyphs, whatever it learned from. Its line is in the table of its model's page."""
    model = mannkern.load(name)
    if model.settings.task == "copy":
        sequences = Copy().sample(2, torch.Generator().manual_seed(0), (120,))  # six times the longest of training
        answers = model.predict(sequences.inputs)[sequences.mask]
        assert torch.equal(answers, sequences.targets[sequences.mask])
    else:
        large = DRAWINGS.repeat_interleave(2, 2).repeat_interleave(2, 3)  # for models of 28 x 28 pixels too
        assert ask(model, drawings=large) > 0.3, "chance is 20%"
    pages = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "models").glob("*.md"))]
    assert any(f"\n| `{name}` |" in page for page in pages)


def test_a_query_is_answered_by_itself() -> None:
    """Neither the other queries nor their order change an answer, nor does the type of the pixels."""
    model = mannkern.load("mann-glyphs")
    support, queries = DRAWINGS[:, :3].flatten(0, 1), DRAWINGS[:, 3:5].flatten(0, 1)
    answers = model.predict(support, LABELS, queries)
    assert torch.equal(model.predict(support, LABELS, queries.flip(0)).flip(0), answers)
    assert torch.equal(model.predict(support / 255, LABELS, queries / 255), answers)
    doubled = queries.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(model.predict(support, LABELS, doubled), answers), "larger drawings are reduced"
    assert set(model.predict(support[:6], LABELS[:6], queries).tolist()) <= {0, 1}, "only classes that were shown"


def test_a_support_set_is_shown_class_after_class_in_turn() -> None:
    """As in training, where classes are mixed: examples sorted by class, as folders list them, change no answer."""
    model = mannkern.load("mann-glyphs")
    queries = DRAWINGS[:, 3:7].flatten(0, 1)
    by_class = model.predict(DRAWINGS[:, :3].flatten(0, 1), LABELS, queries)
    in_turn = model.predict(DRAWINGS[:, :3].transpose(0, 1).flatten(0, 1), torch.arange(5).repeat(3), queries)
    assert torch.equal(by_class, in_turn)


@pytest.mark.parametrize(
    ("support", "labels", "message"),
    [
        (DRAWINGS[0, :2], [0, 1], "^labels: got list, need a tensor of torch.int64$"),
        (DRAWINGS[0, :2], torch.tensor([0]), r"^labels: got shape \(1,\), need \(2,\) as in support$"),
        (DRAWINGS[0, :2], torch.tensor([0, 5]), "^labels: got 0 to 5, need 0 to 4$"),
        (DRAWINGS[0, :0], torch.tensor([], dtype=torch.int64), "^support: got no drawings, need at least one$"),
        (DRAWINGS[0, :2].long(), torch.tensor([0, 1]), "^support: got torch.int64, need a tensor of torch.uint8"),
        (DRAWINGS[0, 0], torch.tensor([0, 1]), r"^support: got shape \(20, 20\), need \(n, 20, 20\), or larger"),
        (
            DRAWINGS[0, :2].float(),
            torch.tensor([0, 1]),
            "^support: got 0 to 249, need 0 to 1, full ink; divide by 255 or pass torch.uint8$",
        ),
    ],
    ids=["list", "number", "range", "none", "integers", "rank", "values"],
)
def test_wrong_arguments_are_named(support: Tensor, labels: Tensor, message: str) -> None:
    model = mannkern.load("mann-glyphs")
    with pytest.raises((ValueError, TypeError), match=message):
        model.predict(support, labels, DRAWINGS[0])


@pytest.mark.parametrize(
    "command",
    [
        f"glyphs {SIZES}",
        f"glyphs {SIZES} --labels strings",
        f"glyphs {SIZES} --model ntm --shots 3".replace("--length 6 ", ""),
        f"few-shot-glyphs {FEW_SHOT}",
        f"few-shot-glyphs {FEW_SHOT} --model meta-memory",
    ],
    ids=["mann", "strings", "queries-last", "matching", "meta-memory"],
)
@pytest.mark.usefixtures("_few_glyphs")
def test_every_classifier_predicts(tmp_path: Path, command: str) -> None:
    model = trained(tmp_path / "run", command)
    support, labels = DRAWINGS[:2, :3].flatten(0, 1), torch.tensor([0, 0, 0, 1, 1, 1])
    answers = model.predict(support, labels, DRAWINGS[:2, 3])
    assert answers.shape == (2,)
    assert set(answers.tolist()) <= {0, 1}
    assert torch.equal(answers, mannkern.load(tmp_path / "run").predict(support, labels, DRAWINGS[:2, 3]))
    assert model.predict(support, labels, DRAWINGS[:0, 0]).shape == (0,)


@pytest.fixture
def _few_glyphs(monkeypatch: pytest.MonkeyPatch) -> None:
    split = glyphs.load(num_train=6, num_test=4)
    monkeypatch.setattr(glyphs, "load", lambda: split)


def test_sinusoids_and_bits_are_predicted(tmp_path: Path) -> None:
    small = "--width 4 --hidden-size 4 --threads 1 --batch-size 2"
    sinusoids = trained(tmp_path / "sinusoids", f"sinusoids {small}")
    assert sinusoids.predict(torch.zeros(3), torch.ones(3), torch.zeros(7)).shape == (7,)
    with pytest.raises(ValueError, match=r"^y: got 2 points, need 3 as in x$"):
        sinusoids.predict(torch.zeros(3), torch.ones(2), torch.zeros(7))
    copy = trained(tmp_path / "copy", f"copy {COPY} --backend reference")
    backends = [part.backend for part in copy.model.modules() if isinstance(part, MemoryCell)]
    assert (copy.settings.backend, backends) == (None, [None]), "the fastest, whatever it was trained with"
    inputs = Copy(2, 1, 3).sample(4, torch.Generator(), (3,)).inputs
    bits = copy.predict(inputs)
    assert bits.shape == (7, 4, 2)
    assert set(bits.unique().tolist()) <= {0.0, 1.0}
    with pytest.raises(ValueError, match=r"^inputs: got shape \(7, 4, 2\), need \(T, B, 3\)$"):
        copy.predict(bits)
    with pytest.raises(TypeError, match=r"^inputs: got torch.int64"):
        copy.predict(inputs.long())
    nan = torch.tensor([0.0, 1.0, float("nan")])
    with pytest.raises(ValueError, match=r"^inputs: got NaN or infinity"):
        copy.predict(nan.view(1, 1, 3))
    with pytest.raises(ValueError, match=r"^x: got NaN or infinity"):
        sinusoids.predict(nan, torch.ones(3), torch.zeros(7))
    with pytest.raises(TypeError, match=r"^y: got torch.int64"):
        sinusoids.predict(torch.zeros(3), torch.ones(3).long(), torch.zeros(7))
    for odd in (inputs.to("meta"), inputs.to_sparse()):
        with pytest.raises(TypeError, match=r"^argument 1: got a tensor of torch.*, need a dense one"):
            copy.predict(odd)
    copy.model.train()
    with pytest.raises(ValueError, match=r"^inputs"):
        copy.predict(bits)
    assert copy.model.training, "also after an error the mode is as before"


def test_the_data_are_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of Omniglot is loaded where Omniglot is not."""
    monkeypatch.setattr(glyphs, "load", None)
    model = mannkern.load("mann-glyphs")
    assert model.step > 0
    needing = [f"{name}omniglot" for name in ("", "few-shot-", "zero-shot-", "families-", "autoencoder-")]
    for task in (*needing, "few-shot-images", "zero-shot-glyphs"):
        cls = registry.config_classes()[task]
        assert registry.kind_of(task).make_model(cls(task=task)) is not None


@pytest.mark.parametrize("size", [10**4, 10**9])
def test_settings_beyond_the_file_are_refused_before_memory_is_taken(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small file may name sizes of gigabytes: 10,000 units take 1.6 GB, far more cannot be counted."""
    path, settings = tmp_path / "model.safetensors", OneShotConfig(hidden_size=size)
    write_exported(path, {"weight": torch.zeros(1)}, settings, 1)
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: self.weight.is_meta or pytest.fail("memory"))
    with pytest.raises(ValueError, match=r"model.safetensors does not fit the settings in it"):
        mannkern.load(path)


def test_a_file_of_an_unknown_task_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "read_config", lambda run: {"task": "parity"})
    with pytest.raises(CommandError, match=r"own.safetensors: --task: got parity, need one of .* register_task"):
        registry.load_config(tmp_path / "own.safetensors")


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    for name, message in ((tmp_path, "no run at"), ("nobody", "no run and no model at nobody")):
        with pytest.raises(ValueError, match=f"^run_or_name: {message}"):
            mannkern.load(name)
    for device, error, message in (
        ("nowhere", ValueError, "got nowhere, need one that can be used: "),
        ("meta", ValueError, "got meta, need one that can be used: holds no numbers"),
        (None, TypeError, "got NoneType"),
    ):
        with pytest.raises(error, match=f"^device: {message}"):
            mannkern.load("mann-glyphs", device=device)  # type: ignore[arg-type]
    (tmp_path / "checkpoint.pt").write_bytes(b"content")
    need = "it is no folder; need the folder of a run, or a file of .safetensors that export wrote"
    with pytest.raises(ValueError, match=rf"^run_or_name: no run at {tmp_path / 'checkpoint.pt'}: {need}$"):
        mannkern.load(tmp_path / "checkpoint.pt")
    (tmp_path / "config.json").write_text('{"task": "parity"}')
    own = "; a task of your own is known after its register_task has run in this process"
    with pytest.raises(ValueError, match=rf"--task: got parity, need one of .*few-shot-glyphs.*{own}$"):
        mannkern.load(tmp_path)
    (tmp_path / "config.json").write_text('{"task": "glyphs", "model": "gru"}')
    own = "; a model of your own is known after its register_core has run in this process"
    with pytest.raises(ValueError, match=rf"--model: got gru, need one of .*lstm.*{own}$"):
        mannkern.load(tmp_path)
    with pytest.raises(TypeError, match=r"^run_or_name: got int"):
        mannkern.load(3)  # type: ignore[arg-type]


def test_threads_that_predict_leave_the_generator_and_the_default_dtype() -> None:
    model = mannkern.load("ntm-copy")
    inputs = Copy().sample(1, torch.Generator().manual_seed(0), (2,)).inputs
    torch.set_default_dtype(torch.float64)
    generator = torch.get_rng_state()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [Thread(target=lambda: [model.predict(inputs) for _ in range(20)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_default_dtype() == torch.float64
    finally:
        sys.setswitchinterval(interval)
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), generator)


def test_another_default_dtype_or_device_changes_nothing() -> None:
    expected = ask(mannkern.load("mann-glyphs"))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = mannkern.load("mann-glyphs")
        assert ask(model) == expected
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)
    assert {p.dtype for p in model.model.parameters()} == {torch.float32}
    with torch.device("meta"):
        model = mannkern.load("mann-glyphs")
    assert ask(model) == expected
