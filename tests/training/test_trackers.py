"""The services that a run also sends its numbers to; a module stands in for each."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mannkern.training.errors import CommandError
from mannkern.training.trackers import TRACKERS, Tracker, check_tracker
from tests.commands.calls import SIZES, refused, run


class StandIn(ModuleType):
    """A module with the interface that wandb and trackio share; it notes all calls."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = sys.modules["json"].__spec__  # so that it counts as installed
        self.calls: list[tuple[str, Any]] = []

    def init(self, *, project: str, name: str, config: dict[str, Any]) -> StandIn:
        self.calls.append(("init", (project, name, config)))
        return self

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.calls.append(("log", (step, values)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


@pytest.fixture(params=TRACKERS)
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def test_a_run_is_sent_with_its_settings(tmp_path: Path, service: StandIn) -> None:
    name = service.__name__
    check_tracker(name)
    train = f"train copy --steps 4 --no-evaluate --log {name} --threads 1 --log-every 2 --validate-every 4 --bits 2"
    assert run(train, "--hidden-size 4 --memory-slots 4 --memory-width 3 --max-length 2 --run", tmp_path / "mine") == 0
    kinds = [kind for kind, _ in service.calls]
    assert kinds == ["init", "log", "log", "log", "finish"]
    project, folder, settings = service.calls[0][1]
    assert (project, folder, settings["bits"]) == ("mannkern", "mine", 2)
    assert [step for _, (step, _) in service.calls[1:4]] == [2, 4, 4]
    sent = service.calls[1][1][1]
    assert {"train/loss", "train/gradient_norm", "train_layer/head"} <= sent.keys()
    assert all(isinstance(value, (int, float)) for value in sent.values())
    assert "validation/bits_per_sequence" in service.calls[3][1][1]


def test_a_service_that_is_not_installed_is_named_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in TRACKERS else sys)
    message = refused(capsys, "train glyphs --log wandb --run", tmp_path / "run", SIZES)
    assert message == "mannkern: --log wandb: wandb is not installed: pip install wandb"
    assert not (tmp_path / "run").exists()
    with pytest.raises(CommandError, match="--log trackio: trackio is not installed: pip install trackio"):
        check_tracker("trackio")
    assert "--log: got mlflow, need one of none, wandb, trackio" in refused(capsys, "train glyphs --log mlflow")


def test_without_a_service_nothing_is_sent(tmp_path: Path, service: StandIn) -> None:
    tracker = Tracker("none", tmp_path, {})
    tracker.log({"loss": 1.0}, 1)
    tracker.finish()
    assert service.calls == []
