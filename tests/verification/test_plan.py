"""What ``python -m mannkern verify`` says before it runs: on a machine's first use, and with ``--list``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mannkern.__main__ import main
from mannkern.backends import BACKENDS
from mannkern.memories.cases import Shape
from mannkern.verification import episodes, plan
from mannkern.verification import verify as module


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache folder that does not exist yet, few shapes, and only the kernels for the CPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(module, "SHAPES", {"one": Shape(1, 1, 1, 1, 1)})
    monkeypatch.setattr(module, "BATCH", {})
    monkeypatch.setattr(module, "LONG", {})
    monkeypatch.setattr(episodes, "SIZES", {"small": (2, 3, 4, 5, 1)})
    monkeypatch.setattr(episodes, "LENGTHS", {"short": (2, 1)})
    return tmp_path / "cache" / "mannkern" / "verified.json"


def on_a_gpu(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """The backend says that it can run on a GPU."""
    monkeypatch.setitem(BACKENDS, backend, BACKENDS[backend]._replace(why_not=lambda *_: ""))


def test_list_says_what_would_be_run_and_stops(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert main(["verify", "--list"]) == 0
    said = capsys.readouterr().out
    assert "cpp on cpu: " in said
    assert "    usage_update          8 checks: float64, float32, bfloat16, gradcheck\n" in said
    assert "sizes: B=8 N=1 W=1 R=1 n=1; B=2 N=5 W=3 R=2 n=2\n" in said
    assert "sizes of episodes: T=2 B=1 F=2 D=3 N=4 W=5 R=1\n" in said
    assert "compiled first: nothing\n" in said
    assert "worst error" not in said  # nothing was run
    assert not cache.exists()


def test_the_number_of_checks_is_that_of_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--list"]) == 0
    rows = module.rows_of("cpp", "cpu", 0)
    assert f"{len(rows)} rows, {sum(len(checks) for _, _, checks in rows)} checks\n" in capsys.readouterr().out


def test_it_is_said_on_the_first_use_only(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    for first in (True, False):
        assert main(["verify", "--seed", "5"]) == 0
        said = capsys.readouterr().out
        assert ("The first use on this machine." in said) == ("compiled first" in said) == first
    assert len(json.loads(cache.read_text())) == 1
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_other_machines_are_remembered_too(cache: Path) -> None:
    """A home may be shared; a file that cannot be read is as if there were none."""
    plan.remember("one")
    plan.remember("another")
    assert plan.has_run_before("one")
    assert plan.has_run_before("another")
    cache.write_text("{")
    assert not plan.has_run_before("one")
    plan.remember("one")
    assert plan.has_run_before("one")


def test_a_home_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is no error; the next use is the first again. Here the folder would lie in a file."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    plan.remember("one")
    assert not plan.has_run_before("one")


def test_kernels_that_are_compiled_first(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_gpu(monkeypatch, "triton")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    said = plan.plan(["cuda"])
    assert "triton on cuda" in said
    assert "in 8 processes side by side" in said
    assert "if a kernel takes 3 s" in said
    assert "B=8 N=1 W=1 R=1 n=1; B=256 N=128 W=40 R=4 n=4" in said


def test_the_persistent_kernel_is_verified_where_it_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the LSTM, in float32, at the sizes that it takes; here a GPU with room for 100 hidden units."""
    takes = {
        "lrua_step": lambda sizes, dtype, device: "not here",
        "mann_episode": lambda sizes, dtype, device: "" if dtype == torch.float32 and sizes.D <= 100 else "not these",
    }
    cuda = BACKENDS["cuda"]._replace(why_not=lambda *_: "", operations=takes)
    monkeypatch.setitem(BACKENDS, "cuda", cuda)
    (row,) = (row for row in module.rows_of("cuda", "cuda", 0) if row[0] == "MANN")
    assert row[1] == "float32"
    assert {(check.case, check.episode) for check in row[2]} == {("lstm", ("small", "short"))}
    assert "MANN" not in {row[0] for row in module.rows_of("cuda", "cuda", 0) if row[1] == "float64"}
