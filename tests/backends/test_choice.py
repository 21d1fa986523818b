"""The choice of the backend: explicit requests are met or raise, the environment is the default, `auto` falls back."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

import mannkern
from mannkern import functional
from mannkern.backends import BACKENDS, REFERENCE, Backend, choose, native, why_not
from mannkern.memories.lrua import functional as lrua
from mannkern.memories.ntm import functional as ntm
from tests.helpers import CASES, EVERY_CASE, MISSING, SMALL, arguments, operations, pretend_gpu, run_case


def test_example() -> None:
    """Two slots on the CPU: nobody asks, so the compiled kernels run; and the reference, where it is requested."""
    usage = torch.tensor([[2.0, 1.0]])
    assert choose("lrua", None, usage.device).name == "cpp"
    assert choose("lrua", "reference", usage.device).name == "reference"
    for backend in (None, "reference", "cpp"):
        assert functional.least_used_mask(usage, 1, backend=backend).tolist() == [[0, 1]]


pytestmark = pytest.mark.usefixtures("no_choice_yet")

CPU = torch.device("cpu")
ALL_OPERATIONS = set(operations())


def name_of(requested: str | None, device: torch.device) -> str:
    """The name of the backend that is chosen for LRUA's operations."""
    return choose("lrua", requested, device).name


def test_auto_on_a_cpu_is_cpp() -> None:
    assert name_of(None, CPU) == "cpp"
    assert name_of("auto", CPU) == "cpp"


@pytest.mark.parametrize("name", ["reference", "cpp"])
def test_explicit_request(name: str) -> None:
    assert name_of(name, CPU) == name


@pytest.mark.parametrize("name", ["numpy", "", "CPP", "Auto"])
def test_unknown_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"^backend: got '{name}', need 'auto' or one of 'reference', 'cpp'"):
        name_of(name, CPU)
    monkeypatch.setenv("MANNKERN_BACKEND", name)
    with pytest.raises(ValueError, match=f"^MANNKERN_BACKEND: got '{name}', need 'auto' or one of"):
        name_of(None, CPU)


@pytest.mark.usefixtures("without_library")
def test_request_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=f"backend: got 'cpp', need another: {re.escape(MISSING)}"):
        name_of("cpp", CPU)
    monkeypatch.setenv("MANNKERN_BACKEND", "cpp")
    with pytest.raises(RuntimeError, match=f"MANNKERN_BACKEND: got 'cpp', need another: {re.escape(MISSING)}"):
        name_of(None, CPU)


def test_request_on_another_device() -> None:
    for device in ("cuda", "meta"):
        with pytest.raises(RuntimeError, match=f"backend: got 'cpp', need another: .*CPU.*'{device}'"):
            name_of("cpp", torch.device(device))
    assert name_of("reference", torch.device("meta")) == "reference"


@pytest.mark.parametrize("name", [name for name, backend in BACKENDS.items() if why_not(backend, "lrua", "cpu")])
def test_request_that_cannot_be_met(name: str) -> None:
    """The error says what is missing; nothing else runs instead."""
    with pytest.raises(RuntimeError, match=f"backend: got '{name}', need another: .+"):
        functional.least_used_mask(torch.zeros(1, 2), 1, backend=name)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANNKERN_BACKEND", "reference")
    assert name_of(None, CPU) == "reference"
    assert name_of("cpp", CPU) == "cpp"
    monkeypatch.setenv("MANNKERN_BACKEND", "auto")
    assert name_of(None, CPU) == "cpp"


def test_device_that_auto_does_not_know() -> None:
    assert name_of(None, torch.device("meta")) == "reference"
    step = run_case(CASES["step"], {k: x.to("meta") for k, x in arguments(CASES["step"], SMALL).items()}, None)
    assert step["memory"].shape == (SMALL.B, SMALL.N, SMALL.W)


@pytest.mark.usefixtures("without_library")
def test_auto_falls_back_with_one_warning() -> None:
    usage = torch.rand(2, 4)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            functional.least_used_mask(usage, 2)
            functional.usage_update(usage, usage.unsqueeze(1), usage.unsqueeze(1))
    assert [str(warning.message) for warning in seen] == [f"mannkern runs on the reference on 'cpu': {MISSING}"]


@pytest.mark.usefixtures("without_library")
def test_warning_points_at_the_caller() -> None:
    with pytest.warns(UserWarning, match="runs on the reference") as seen:
        functional.least_used_mask(torch.rand(2, 4), 2)
    assert seen[0].filename == __file__


@pytest.mark.usefixtures("without_library")
def test_asking_for_the_reference_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        functional.least_used_mask(torch.rand(2, 4), 2, backend="reference")
        mannkern.backend_info()
        monkeypatch.setenv("MANNKERN_BACKEND", "reference")
        functional.least_used_mask(torch.rand(2, 4), 2)


def test_each_function_runs_on_the_backend_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, str | None]] = []

    def choose(family: str, requested: str | None, *_: object, **__: object) -> Backend:
        requests.append((family, requested))
        return REFERENCE

    for family in (lrua, ntm):
        monkeypatch.setattr(family, "choose", choose)
    for name, case in EVERY_CASE.items():
        requests.clear()
        run_case(case, arguments(case, SMALL), "this one", SMALL.n)
        assert set(requests) == {(case.operation.family, "this one")}, name


def test_backend_info() -> None:
    info = mannkern.backend_info()
    assert set(info.used["cpu"]) == ALL_OPERATIONS
    assert set(info.used["cpu"].values()) == {"cpp"}
    assert "cpp" not in info.missing
    assert info.isa == native.isa()
    first, *others = str(info).splitlines()
    assert first.startswith(f"cpu: cpp ({native.isa()}) for least_used_mask, ")
    assert all(name in first for name in ALL_OPERATIONS)
    for backend, reason in info.missing.items():
        assert f"{backend}: {reason}" in others
        assert reason


def test_backend_info_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """LRUA's step and scan at the paper's size run on the CUDA kernels, its other operations on Triton's."""
    pretend_gpu(monkeypatch)
    used = mannkern.backend_info().used["cuda"]
    assert used["lrua_step"] == used["lrua_scan"] == used["ntm_write"] == "cuda"
    assert used["cosine_read"] == "triton"


@pytest.mark.usefixtures("without_library")
def test_backend_info_without_the_library() -> None:
    info = mannkern.backend_info()
    assert set(info.used["cpu"].values()) == {"reference"}
    assert info.missing["cpp"] == MISSING
    assert f"cpp: {MISSING}" in str(info)
    assert str(info).startswith("cpu: reference for least_used_mask, ")


def test_operations_are_the_functions() -> None:
    """Every public operation takes `backend` and is listed by backend_info."""
    public = {
        name for name, f in vars(functional).items() if callable(f) and "backend" in getattr(f, "__annotations__", {})
    }
    assert public == ALL_OPERATIONS


def test_a_clone_is_told_to_install_in_its_own_folder(tmp_path: Path) -> None:
    package = tmp_path / "mannkern"
    assert native.build_command(package) == "pip install --no-build-isolation ."
    (tmp_path / "setup.py").touch()
    assert native.build_command(package) == "pip install --no-build-isolation -e ."
