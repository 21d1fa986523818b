"""Which backend runs: explicit requests that are met or raise, the environment, and what `auto` falls back to."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mannkern
from mannkern import backends, functional, native
from tests.helpers import CASES, KERNELS, SMALL, Shape, arguments, assert_same, call

CPU = torch.device("cpu")
ALL_OPERATIONS = {name for names in backends.OPERATIONS.values() for name in names}
ISAS = [isa for backend, isa in KERNELS if backend == "cpp"]
MISSING = "the compiled library was not built; with a C++ compiler: pip install"


@pytest.fixture(autouse=True)
def as_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """No choice in the environment, no warning given yet."""
    monkeypatch.delenv("MANNKERN_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_warned", set())


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "reason", MISSING)


@pytest.fixture
def restored_isa() -> Iterator[None]:
    before = native.isa()
    yield
    native.set_isa(before)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.fixture
def without_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


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


@pytest.mark.usefixtures("without_interpreter")
def test_triton_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "Triton runs on a GPU, not on 'cpu' (for tests, slowly, with TRITON_INTERPRET=1 set from the start)"
    with pytest.raises(RuntimeError, match=f"^backend='triton' cannot be met: {re.escape(reason)}$"):
        functional.least_used_mask(torch.zeros(1, 2), 1, backend="triton")
    monkeypatch.setenv("MANNKERN_BACKEND", "triton")
    with pytest.raises(RuntimeError, match=f"^MANNKERN_BACKEND='triton' cannot be met: {re.escape(reason)}$"):
        functional.least_used_mask(torch.zeros(1, 2), 1)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_triton_that_is_not_installed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_has_triton", False)
    with pytest.raises(RuntimeError, match="cannot be met: Triton is not installed; pip install triton"):
        backends.choose("triton", torch.device(device))
    with pytest.warns(UserWarning, match="reference on 'cuda': Triton is not installed; pip install triton"):
        assert backends.choose(None, torch.device("cuda")) == "reference"
    assert "pip install triton" in mannkern.backend_info().missing["triton"]


def test_triton_on_a_device_it_does_not_know() -> None:
    with pytest.raises(RuntimeError, match="cannot be met: Triton runs on a GPU, not on 'meta'"):
        backends.choose("triton", torch.device("meta"))
    assert backends.choose("auto", torch.device("cuda")) == backends.choose("triton", torch.device("cuda")) == "triton"


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize(
    ("case", "letter", "size"),
    [
        (case, letter, size)
        for case in ("write", "read", "usage", "step", "scan")
        for letter, size in (("N", 65537), ("W", 513), ("R", 17))
        if (case, letter) != ("usage", "W")
    ],
)
def test_sizes_that_triton_does_not_take(case: str, letter: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An explicit request raises; auto takes the reference, and says so once."""
    reason = f"{letter} = {size}, and the Triton kernels take up to {size - 1}"
    tensors = arguments(CASES[case], Shape(1, 2, 2, 1, 1, T=1)._replace(**{letter: size}))
    with pytest.raises(RuntimeError, match=f"^backend='triton' cannot be met: {reason}$"):
        call(CASES[case], tensors, "triton", 1)
    monkeypatch.setitem(backends._preferred["lrua"], "cpu", "triton")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = [call(CASES[case], tensors, None, 1) for _ in range(2)]
    assert [str(warning.message) for warning in seen] == [f"mannkern runs on the reference on 'cpu': {reason}"]
    assert_same(found[1], call(CASES[case], tensors, "reference", 1))


@pytest.mark.usefixtures("interpreter")
def test_slots_that_triton_does_not_search() -> None:
    with pytest.raises(RuntimeError, match="N = 65537, and the Triton kernels take up to 65536"):
        functional.least_used_mask(torch.zeros(1, 65537), 1, backend="triton")


FAMILIES = {
    "triton": ("ntm", "backend 'triton' has no kernels of the NTM; backend 'cuda' has"),
    "cuda": ("lrua", "backend 'cuda' has no kernels of LRUA; backend 'triton' has"),
}


@pytest.mark.parametrize(
    ("name", "asked"),
    [(name, asked) for asked, (family, _) in FAMILIES.items() for name in CASES if CASES[name].family == family],
)
def test_a_backend_without_kernels_of_the_family(name: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reason, tensors = FAMILIES[asked][1], arguments(CASES[name], SMALL)
    with pytest.raises(RuntimeError, match=f"^backend='{asked}' cannot be met: {reason}$"):
        call(CASES[name], tensors, asked)
    monkeypatch.setenv("MANNKERN_BACKEND", asked)
    with pytest.raises(RuntimeError, match=f"^MANNKERN_BACKEND='{asked}' cannot be met: {reason}$"):
        call(CASES[name], tensors, None)


@pytest.mark.parametrize("module", [mannkern.NTM, mannkern.NTMCell])
def test_a_module_on_a_backend_without_its_kernels(module: type) -> None:
    model = module(3, 4, 5, 6, backend="triton")
    with pytest.raises(RuntimeError, match="'triton' has no kernels of the NTM; backend 'cuda' has"):
        model(torch.zeros(2, 3) if module is mannkern.NTMCell else torch.zeros(1, 2, 3))


@pytest.mark.parametrize("name", backends.OPERATIONS["ntm"])
def test_cuda_on_another_device(name: str) -> None:
    for device in ("cpu", "meta"):
        tensors = {k: x.to(device) for k, x in arguments(CASES[name], SMALL).items()}
        with pytest.raises(RuntimeError, match=f"^backend='cuda' cannot be met: .* runs on a GPU, not on '{device}'$"):
            call(CASES[name], tensors, "cuda")


def test_auto_on_a_gpu_by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each family takes its own kernels, and falls back on its own."""
    gpu = torch.device("cuda")
    monkeypatch.setattr(native, "cuda_reason", "")
    assert backends.choose(None, gpu, family="ntm") == "cuda"
    assert backends.choose(None, gpu, 65_536, 9, 9, family="ntm") == "cuda"
    with pytest.warns(UserWarning, match="on the reference on 'cuda': N = 65537, the CUDA kernels take up to 65,536"):
        assert backends.choose(None, gpu, 65_537, family="ntm") == "reference"
    monkeypatch.setattr(native, "cuda_reason", "it was not built")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert [backends.choose(None, gpu, family="ntm") for _ in range(3)] == ["reference"] * 3
        assert backends.choose(None, gpu, family="lrua") == "triton"
    assert [str(warning.message) for warning in seen] == ["mannkern runs on the reference on 'cuda': it was not built"]
    with pytest.raises(RuntimeError, match=r"^backend='cuda' cannot be met: it was not built$"):
        backends.choose("cuda", gpu, family="ntm")


@pytest.mark.usefixtures("without_library")
def test_the_ntm_falls_back_with_one_warning() -> None:
    cell = mannkern.NTMCell(3, 4, 5, 6)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        state = None
        for _ in range(3):
            _, state = cell(torch.zeros(2, 3), state)
        mannkern.NTM(3, 4, 5, 6)(torch.zeros(2, 2, 3))
    assert [str(warning.message) for warning in seen] == [f"mannkern runs on the reference on 'cpu': {MISSING}"]


def test_the_ntm_on_a_device_that_auto_does_not_know() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module, shape in ((mannkern.NTMCell, (2, 3)), (mannkern.NTM, (5, 2, 3))):
            assert module(3, 4, 5, 6, device="meta")(torch.zeros(shape, device="meta"))[0].shape == (*shape[:-1], 10)


def test_importing_does_not_import_triton() -> None:
    """It takes seconds, and need not be there."""
    code = "import sys, mannkern; mannkern.backend_info(); print('triton' in sys.modules)"
    assert run(code) == "False\n"


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


@pytest.mark.usefixtures("restored_isa")
def test_instruction_sets() -> None:
    for isa in ISAS:
        assert native.set_isa(isa)
        assert native.isa() == isa
        assert f"({isa})" in str(mannkern.backend_info())
    assert not native.set_isa("none such")
    assert native.isa() == ISAS[-1]


def run(code: str) -> str:
    """What ``code`` prints in a Python of its own."""
    root = Path(mannkern.__file__).parents[1]
    return subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True).stdout


def in_a_copy(tmp_path, break_library: Callable) -> str:
    """What a package with another library says of it."""
    package = Path(mannkern.__file__).parent
    shutil.copytree(package, tmp_path / "mannkern", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    break_library(tmp_path / "mannkern")
    return run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import warnings; warnings.simplefilter('ignore')\n"
        "import torch, mannkern; from mannkern import native, functional\n"
        "print(native.reason, '|', native.isa(), '|', native.set_isa('portable'), '|',"
        "functional.least_used_mask(torch.tensor([[2.0, 1.0]]), 1).tolist())"
    )


def test_a_package_without_the_library(tmp_path) -> None:
    said = in_a_copy(tmp_path, lambda package: None)
    assert said.startswith("the compiled library was not built")
    assert said.endswith("|  | False | [[0.0, 1.0]]\n")


def test_a_library_that_does_not_load(tmp_path) -> None:
    said = in_a_copy(tmp_path, lambda package: (package / "_C.abi3.so").write_bytes(b"not a library"))
    assert said.startswith("the compiled library does not load")
    assert said.endswith("|  | False | [[0.0, 1.0]]\n")


def test_default_isa_is_the_best_that_runs() -> None:
    assert run("from mannkern import native; print(native.isa())").strip() == ISAS[-1]
