"""Which backend runs: explicit requests that are met or raise, the environment, and what `auto` falls back to."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch

import mannkern
from mannkern import backends, functional, native
from tests.helpers import CASES, MISSING, SMALL, arguments, call

pytestmark = pytest.mark.usefixtures("no_choice_yet")

CPU = torch.device("cpu")
ALL_OPERATIONS = {name for names in backends.OPERATIONS.values() for name in names}


def test_auto_on_a_cpu_is_cpp() -> None:
    assert backends.choose(None, CPU) == "cpp"
    assert backends.choose("auto", CPU) == "cpp"


@pytest.mark.parametrize("name", ["reference", "cpp"])
def test_explicit_request(name: str) -> None:
    assert backends.choose(name, CPU) == name


@pytest.mark.parametrize("name", ["numpy", "", "CPP", "Auto"])
def test_unknown_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"^backend: got '{name}', need 'auto' or one of 'reference', 'cpp'"):
        backends.choose(name, CPU)
    monkeypatch.setenv("MANNKERN_BACKEND", name)
    with pytest.raises(ValueError, match=f"^MANNKERN_BACKEND: got '{name}', need 'auto' or one of"):
        backends.choose(None, CPU)


@pytest.mark.usefixtures("without_library")
def test_request_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=f"backend='cpp' cannot be met: {re.escape(MISSING)}"):
        backends.choose("cpp", CPU)
    monkeypatch.setenv("MANNKERN_BACKEND", "cpp")
    with pytest.raises(RuntimeError, match=f"MANNKERN_BACKEND='cpp' cannot be met: {re.escape(MISSING)}"):
        backends.choose(None, CPU)


def test_request_on_another_device() -> None:
    for device in ("cuda", "meta"):
        with pytest.raises(RuntimeError, match=f"backend='cpp' cannot be met: .*CPU.*'{device}'"):
            backends.choose("cpp", torch.device(device))
    assert backends.choose("reference", torch.device("meta")) == "reference"


@pytest.mark.parametrize("name", [name for name in backends.BACKENDS if backends.unavailable(name, "cpu")])
def test_request_that_cannot_be_met(name: str) -> None:
    """Says what is missing; never runs something else."""
    with pytest.raises(RuntimeError, match=f"backend='{name}' cannot be met: .+"):
        functional.least_used_mask(torch.zeros(1, 2), 1, backend=name)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANNKERN_BACKEND", "reference")
    assert backends.choose(None, CPU) == "reference"
    assert backends.choose("cpp", CPU) == "cpp"
    monkeypatch.setenv("MANNKERN_BACKEND", "auto")
    assert backends.choose(None, CPU) == "cpp"


def test_device_that_auto_does_not_know() -> None:
    assert backends.choose(None, torch.device("meta")) == "reference"
    step = call(CASES["step"], {k: x.to("meta") for k, x in arguments(CASES["step"], SMALL).items()}, None)
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
    asked: list[str | None] = []

    def choose(requested: str | None, device: torch.device, *sizes: int, **others: Any) -> str:
        asked.append(requested)
        return "reference"

    for family in (functional.lrua, functional.ntm):
        monkeypatch.setattr(family, "choose", choose)
    for name, case in CASES.items():
        asked.clear()
        call(case, arguments(case, SMALL), "this one")
        assert set(asked) == {"this one"}, name
    functional.least_used_mask(torch.rand(2, 4), 2, backend="that one")
    assert asked[-1] == "that one"


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


@pytest.mark.usefixtures("without_library")
def test_backend_info_without_the_library() -> None:
    info = mannkern.backend_info()
    assert set(info.used["cpu"].values()) == {"reference"}
    assert info.missing["cpp"] == MISSING
    assert f"cpp: {MISSING}" in str(info)
    assert str(info).startswith("cpu: reference for least_used_mask, ")


def test_operations_are_the_functions() -> None:
    """Every public operation takes `backend` and is in what backend_info tells."""
    public = {
        name for name, f in vars(functional).items() if callable(f) and "backend" in getattr(f, "__annotations__", {})
    }
    assert public == ALL_OPERATIONS
