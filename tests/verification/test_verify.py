"""``python -m mannkern verify``: it checks every operation, its seed repeats it, and it finds wrong results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mannkern import functional
from mannkern.__main__ import main
from mannkern.backends import BACKENDS
from mannkern.memories import registry
from mannkern.memories.cases import Shape, arguments, cast
from mannkern.memories.lrua.verification import keeps_gap
from mannkern.verification import episodes
from mannkern.verification import verify as module
from mannkern.verification.verify import Row, available_backends, verify
from tests.helpers import CASES, EVERY_CASE, operations


def test_example() -> None:
    """Twice the error that is allowed is not good, half of it is."""
    row = Row("step", "cpp", "cpu", "float32", error=2e-6, allowed=1e-6, where="", seconds=0.0)
    assert not row.good
    assert row._replace(error=5e-7).good


def replace_function(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    """Put ``function`` in the place of LRUA's operation ``name``."""
    family = registry.FAMILIES["lrua"]
    harmed = {k: op._replace(function=function) if k == name else op for k, op in family.operations.items()}
    cases = {k: case._replace(operation=harmed[case.operation.name]) for k, case in family.cases.items()}
    monkeypatch.setitem(registry.FAMILIES, "lrua", family._replace(operations=harmed, cases=cases))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Check few shapes, and only the kernels for the CPU. Nothing is written to the user's home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SHAPES", {"odd": Shape(3, 33, 17, 3, 3), "one": Shape(1, 1, 1, 1, 1)})
    monkeypatch.setattr(module, "BATCH", {})
    monkeypatch.setattr(module, "LONG", {})
    monkeypatch.setattr(episodes, "SIZES", {"odd": (7, 13, 33, 17, 3)})
    monkeypatch.setattr(episodes, "LENGTHS", {"spans": (5, 4)})
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_every_operation_is_verified() -> None:
    assert {case.operation.name for case in EVERY_CASE.values()} == set(operations())
    rows = list(verify("cpp", "cpu", 1))
    assert {row.operation for row in rows} == set(operations()) | {"MANN", "NTM"}
    dtypes = {"float64", "float32", "bfloat16"}
    for operation in operations():
        expected = dtypes if operation == "least_used_mask" else dtypes | {"gradcheck"}
        assert {row.dtype for row in rows if row.operation == operation} == expected
    assert all(row.good for row in rows), [row for row in rows if not row.good]


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["output", "memory", "gradient"])
@pytest.mark.parametrize("name", ["lrua", "ntm"])
def test_a_wrong_episode_is_found(name: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = registry.FAMILIES[name]
    fused = family.cell.fused_episode

    def harmed(*arguments: Any) -> Any:
        output, state = fused(*arguments)
        if wrong == "output":
            return output * (1 + 1e-4), state
        if wrong == "memory":
            return output, state._replace(memory=state.memory.flip(1))
        return output.detach() + 1.001 * (output - output.detach()), state

    monkeypatch.setattr(family.cell, "fused_episode", harmed)
    rows = [row for row in verify("cpp", "cpu", 1) if row.operation == family.episode.sequence.__name__]
    assert [row.dtype for row in rows] == ["float64", "float32"]
    assert not any(row.good for row in rows)


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["verify", "--seed", "5", "--json", str(tmp_path / "new" / "verify.json")]) == 0
    said = capsys.readouterr().out
    assert "--seed 5" in said
    assert "triton: absent: Triton runs on a GPU" in said
    assert "39 of 39 rows are right" in said
    content = json.loads((tmp_path / "new" / "verify.json").read_text())
    assert content["seed"] == 5
    assert len(content["rows"]) == 39
    assert all(row["good"] for row in content["rows"])
    assert set(content["absent"]) == {"triton", "cuda"}


def test_single_operations_of_another_family_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend ``cuda`` has LRUA's step in float32; on the CPU its overload is the C++ kernel."""
    takes = {"lrua_step": lambda sizes, dtype, device: "" if dtype == torch.float32 and sizes.N > 1 else "not these"}
    cuda = BACKENDS["cuda"]._replace(devices=("cpu",), why_not=lambda *_: "", operations=takes)
    monkeypatch.setitem(BACKENDS, "cuda", cuda)
    (row,) = (row for row in verify("cuda", "cpu", 1) if row.operation == "lrua_step")
    assert (row.dtype, row.good) == ("float32", True)
    assert "odd" in row.where


def test_one_thread_but_where_a_second_has_work(
    monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]
) -> None:
    """Threads that wait for each other take minutes of a busy machine."""
    monkeypatch.setattr(module, "BATCH", {"batch": Shape(170, 33, 17, 3, 3)})
    monkeypatch.setattr(module, "LONG", {})
    checks = [check for _, _, several in module.rows_of("cpp", "cpu", 1) for check in several]
    assert {check.threads for check in checks if "batch" in check.where} == {2}
    assert {check.threads for check in checks if "batch" not in check.where} == {1}
    seen: list[int] = []
    right = functional.usage_update

    def watched(*args: Tensor, **options: float | str) -> Tensor:
        seen.append(torch.get_num_threads())
        return right(*args, **options)

    replace_function(monkeypatch, "usage_update", watched)
    monkeypatch.setattr(module, "BATCH", {})
    monkeypatch.setattr(module, "LONG", {})
    threads(2)
    rows = verify("cpp", "cpu", 1)
    assert next(row for row in rows if row.operation == "usage_update").good
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--threads 0", "--threads: got 0, need 1 to 1024"),
        (f"--threads {10**12}", "--threads: got 1000000000000, need 1 to 1024"),
        ("--seed -1", "--seed: got -1, need 0 to 2**32 - 1"),
        (f"--seed {2**70}", "--seed: got 1180591620717411303424, need 0 to 2**32 - 1"),
        ("--json /dev/null/x", "--json: got /dev/null/x, need a file in a folder that can be written to"),
    ],
)
def test_options_are_checked_before_anything_runs(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", *options.split()]) == 2
    assert capsys.readouterr().err == f"mannkern: {said}\n"


@pytest.mark.slow
def test_seed() -> None:
    def errors(seed: int) -> list[tuple[float, str]]:
        return [(row.error, row.where) for row in verify("cpp", "cpu", seed)]

    assert errors(1) == errors(1)
    assert errors(1) != errors(2)


def test_fresh_seeds_are_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mannkern.commands.verify.available_backends", lambda device_types: [])
    seeds = set()
    for _ in range(2):
        assert main(["verify"]) == 1  # nothing was verified
        said = capsys.readouterr().out
        assert "nothing to verify on this machine" in said
        seeds.add(said.split("--seed ")[1].split()[0])
    assert len(seeds) == 2


def off_by(part: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * (1 + part)


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm", [off_by(1e-4), lambda x: torch.full_like(x, torch.nan), lambda x: x.float().double() + 1e-3 * x.detach()]
)
def test_a_wrong_result_is_found(
    harm: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = functional.usage_update

    def wrong(*args: Tensor, **options: float | str) -> Tensor:
        found = right(*args, **options)
        return found if options["backend"] == "reference" else harm(found)

    replace_function(monkeypatch, "usage_update", wrong)
    assert main(["verify", "--seed", "3"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "WRONG" in line]
    assert lines
    assert all(line.startswith("usage_update") for line in lines)


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = functional.cosine_read

    def wrong(memory: Tensor, key: Tensor, strength: Tensor | None = None, *, backend: str) -> tuple[Tensor, Tensor]:
        if backend != "reference":
            key.register_hook(lambda g: g * 1.001)
        return right(memory, key, strength, backend=backend)

    replace_function(monkeypatch, "cosine_read", wrong)
    failed = {(row.operation, row.dtype) for row in verify("cpp", "cpu", 1) if not row.good}
    assert failed >= {("cosine_read", "float64"), ("cosine_read", "float32")}


def test_a_kernel_that_raises_is_wrong_and_the_rest_is_verified(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = functional.usage_update

    def fails(*args: Tensor, **options: float | str) -> Tensor:
        if options["backend"] != "reference":
            raise ValueError("out of resources\nand more")
        return right(*args, **options)

    replace_function(monkeypatch, "usage_update", fails)
    assert main(["verify", "--seed", "3"]) == 1
    said = capsys.readouterr().out
    assert said.count("WRONG") == 4
    assert "ValueError: out of resources: result of usage, odd" in said
    assert "35 of 39 rows are right" in said


def test_available_backends() -> None:
    assert available_backends(["cpu"]) == [("cpp", "cpu")]


def test_a_row_of_nan_is_not_good() -> None:
    assert not Row("step", "cpp", "cpu", "float32", float("nan"), 1e-6, "", 0.0).good


def test_usages_of_a_scan_keep_a_gap() -> None:
    case, shape = CASES["scan_strength_per_head"], Shape(2, 9, 3, 2, 2, T=4)
    tensors = arguments(case, shape)
    assert keeps_gap(case, tensors, 2)
    assert not keeps_gap(case, tensors | {"usage": torch.zeros(2, 9)}, 2)
    half = cast(case, tensors, torch.bfloat16)
    assert half["usage"].dtype == torch.float32
    assert half["keys"].dtype == torch.bfloat16
