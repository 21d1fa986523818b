"""An error of one rank ends all with one line; a folder has one training; what cannot be split is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torch.utils.tensorboard.writer  # noqa: F401 - so that the ranks need not import it
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from mannkern.__main__ import main
from mannkern.experiments import registry
from mannkern.experiments.sinusoids.config import SinusoidConfig
from mannkern.training import lock, loop, processes
from mannkern.training.checkpoint import load_checkpoint
from mannkern.training.config import RunConfig
from mannkern.training.errors import CommandError
from tests.training.launch import command, launch, printed
from tests.training.line import LINE, Line, train_line
from tests.training.parabola import Parabola


class Failing(Line):
    """Rank 1 fails at step 2 in the way that its name says."""

    def __init__(self, how: str) -> None:
        self.how = how

    def loss_and_sums(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        loss, sums = super().loss_and_sums(model, batch)
        self.step = getattr(self, "step", 0) + 1
        if self.step == 2 and processes.rank() == 1:
            if self.how == "command":
                raise CommandError("the camel is tired")
            if self.how == "kill":
                os.kill(os.getpid(), 9)
            if self.how == "bug":
                raise KeyError("a bug")
        if self.step >= 2 and processes.rank() == 1 and self.how == "nan":
            loss = loss + (0 * model.weight.sum()).log()  # type: ignore[operator,union-attr]
        return loss, sums


def command_errors(folder: Path, how: str, config: RunConfig) -> None:
    """As ``main`` does it: a line for a CommandError."""
    try:
        train_line(folder, lambda: Failing(how), config)
    except CommandError as error:
        print(f"mannkern: {error}", file=sys.stderr, flush=True)
        os._exit(2)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("command", "mannkern: rank 1 on HOST: the camel is tired"),
        ("kill", "mannkern: another process of this training has ended, so this one ends too"),
        ("nan", "the loss is not finite at step 2: the first operation that gave such a number is aten::log, in the "
         "forward pass, on rank 1; docs/learning.md says what to try"),
    ],
)  # fmt: skip
def test_an_error_of_one_rank_ends_all_with_one_line(how: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ChildFailedError):
        launch(3, tmp_path / "logs", command_errors, tmp_path, how, LINE, restarts=1 if how != "kill" else 0)
    (line,) = printed(tmp_path / "logs")
    assert said.replace("HOST", os.uname().nodename) in line
    assert (saved := load_checkpoint(tmp_path)) is not None
    assert saved["step"] == 0


def test_a_rank_says_its_line_before_the_agent_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it takes longer to get there than the agent to send its signal."""
    end = processes._end

    def late(*args: Any) -> None:
        time.sleep(0.5)
        end(*args)

    monkeypatch.setattr(processes, "_end", late)
    with pytest.raises(ChildFailedError):
        launch(3, tmp_path / "logs", command_errors, tmp_path, "kill", LINE)
    (line,) = printed(tmp_path / "logs")
    assert "another process of this training has ended" in line


@pytest.mark.parametrize("interval", [0.02, 0.5])
def test_a_bug_of_one_rank_has_one_traceback(interval: float, tmp_path: Path) -> None:
    """Also where the agent looks rarely, and so would find both ranks at their end."""
    with pytest.raises(ChildFailedError, match="KeyError: 'a bug'"):
        launch(2, tmp_path / "logs", command_errors, tmp_path, "bug", LINE, interval=interval)


def test_a_process_that_did_not_leave_its_group_ends_at_once() -> None:
    """With its exit code and what it printed, before C++ could abort. Outside of a group ``leave`` returns."""
    program = """
import atexit
import torch.distributed as dist
from mannkern.training.processes import leave

leave(1)
atexit.register(print, "the usual end")
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
print("said")
leave(3)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "said\n"), done.stderr


def refused_split(folder: Path, config: RunConfig) -> list[str]:
    """What is said of a batch that cannot be split, and of an experiment that has no rows."""
    said = []
    with processes.joined():
        for experiment, size in ((Line(), 5), (Parabola(), 6)):
            with pytest.raises(CommandError) as caught:
                loop.train(experiment, replace(config, batch_size=size), folder)
            said.append(str(caught.value))
        with pytest.raises(CommandError) as caught:
            processes.check_alike({"torch": "2.13" if processes.rank() else "2.11"})
        return [*said, str(caught.value)]


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    results = launch(2, tmp_path / "logs", refused_split, tmp_path, LINE)
    split = "--batch-size: got 5, need a multiple of the 2 processes"
    rows = "Parabola trains in one process: it has no method sample_rows"
    assert results[0] == results[1] == [split, rows, "torch: got 2.13 on rank 1, need 2.11 as on rank 0"]


def test_a_batch_that_cannot_be_split_leaves_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before the folder of a run is made."""
    monkeypatch.setattr(processes, "size", lambda: 3)
    with pytest.raises(CommandError, match=r"^--batch-size: got 25, need a multiple of the 3 processes$"):
        registry.prepare(SinusoidConfig())


def contradict(folder: Path) -> None:
    told = ["--seed", "9"] if os.environ["RANK"] == "1" else []
    command(["train", "sinusoids", "--steps", "1", "--batch-size", "4", "--run", str(folder / "run"), *told])


def test_ranks_that_are_told_other_things_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ChildFailedError):
        launch(2, tmp_path / "logs", contradict, tmp_path)
    (line,) = (line for line in printed(tmp_path / "logs") if not line.startswith("warning"))
    assert line.endswith(": --seed: got 9 on rank 1, need 0 as on rank 0")
    assert not (tmp_path / "run").exists()


LAUNCH = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": None}, "^WORLD_SIZE: got nothing, need all of RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"RANK": None, "MASTER_PORT": ""}, "^RANK, MASTER_PORT: got nothing"),
        ({"WORLD_SIZE": "x"}, "^WORLD_SIZE: got 'x', need a number from 1"),
        ({"WORLD_SIZE": "0"}, "^WORLD_SIZE: got '0'"),
        ({"RANK": "1"}, "^RANK: got '1', need a number from 0 to 0$"),
        ({"RANK": "-1"}, "^RANK: got '-1'"),
        ({"RANK": "9" * 5000}, "^RANK: got '9{79}, need a number from 0 to 0$"),
        ({"MASTER_PORT": "65536"}, "^MASTER_PORT: got '65536', need a number from 0 to 65535$"),
        ({"LOCAL_RANK": "x"}, "^LOCAL_RANK: got 'x'"),
        ({"LOCAL_WORLD_SIZE": "0"}, "^LOCAL_WORLD_SIZE: got '0', need a number from 1 to 1$"),
        ({"WORLD_SIZE": "2"}, "^MASTER_ADDR, MASTER_PORT: the processes cannot meet at localhost:0: "),
        (
            {"MASTER_ADDR": "nowhere.invalid"},
            "^MASTER_ADDR, MASTER_PORT: .* cannot meet at nowhere.invalid:0",
        ),
        ({"MASTER_PORT": "in use"}, "^MASTER_ADDR, MASTER_PORT: .*address already in use"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, dict) else None,
)
def test_variables_of_a_launch(variables: dict[str, str | None], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MEETING", timedelta(seconds=0.5))
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        for name, value in (LAUNCH | variables).items():
            if value is not None:
                monkeypatch.setenv(name, str(taken.getsockname()[1]) if value == "in use" else value)
        with pytest.raises(CommandError, match=said), processes.joined():
            pass


def test_commands_for_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (LAUNCH | {"WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    for words in ("evaluate x", "table omniglot", "export x y.safetensors", "bench", "verify"):
        assert main(words.split()) == 2
        assert f"mannkern: {words.split()[0]} runs in one process" in capsys.readouterr().err


def lock_twice(folder: Path) -> str:
    """What a plain process is told, in which rank 1 stands, while rank 0 has the lock."""
    said = ""
    with processes.joined(), lock.locked(folder):
        dist.barrier()
        if processes.rank() == 1:
            with pytest.raises(CommandError) as caught:
                lock._acquire(folder)
            said = str(caught.value)
        dist.barrier()
        return f"{said} {os.getpid()}"


def test_a_plain_process_is_refused_while_ranks_train(tmp_path: Path) -> None:
    results = launch(2, tmp_path / "logs", lock_twice, tmp_path)
    pid = results[0].strip()
    assert f"is in use: process {pid} trains there" in results[1]
