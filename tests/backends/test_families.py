"""A backend has kernels for some families, devices and sizes; for the others requests raise and `auto` falls back."""

from __future__ import annotations

import ctypes
import re
import warnings

import pytest
import torch

import mannkern
from mannkern import MANNCell, functional
from mannkern.backends import BACKENDS, choice, choose, native, triton
from mannkern.memories import registry
from tests.helpers import CASES, MISSING, SMALL, Shape, arguments, assert_same, pretend_gpu, run_case


def test_example() -> None:
    """The NTM's write has kernels on the CPU, 3 (1 - 1/2 1) + 1/2 2 = 2.5; Triton has none of the NTM's."""
    arguments = torch.tensor([[[3.0]]]), torch.tensor([[[0.5]]]), torch.tensor([[[1.0]]]), torch.tensor([[[2.0]]])
    assert functional.ntm_write(*arguments, backend="cpp").item() == 2.5
    with pytest.raises(RuntimeError, match="backend 'triton' has no kernels for 'ntm'"):
        functional.ntm_write(*arguments, backend="triton")


pytestmark = pytest.mark.usefixtures("no_choice_yet")


def name_of(family: str, requested: str | None, device: torch.device, *sizes: int) -> str:
    """The name of the backend that is chosen."""
    return choose(family, requested, device, *sizes).name


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.fixture
def without_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


@pytest.mark.usefixtures("without_interpreter")
def test_triton_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "Triton runs on a GPU, not on 'cpu' (for tests, slowly, with TRITON_INTERPRET=1 set from the start)"
    with pytest.raises(RuntimeError, match=f"^backend: got 'triton', need another: {re.escape(reason)}$"):
        functional.least_used_mask(torch.zeros(1, 2), 1, backend="triton")
    monkeypatch.setenv("MANNKERN_BACKEND", "triton")
    with pytest.raises(RuntimeError, match=f"^MANNKERN_BACKEND: got 'triton', need another: {re.escape(reason)}$"):
        functional.least_used_mask(torch.zeros(1, 2), 1)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_triton_that_is_not_installed(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton, "has_triton", False)
    with pytest.raises(RuntimeError, match="need another: Triton is not installed; pip install triton"):
        name_of("lrua", "triton", torch.device(device))
    with pytest.warns(UserWarning, match="reference on 'cuda': Triton is not installed; pip install triton"):
        assert name_of("lrua", None, torch.device("cuda")) == "reference"
    assert "pip install triton" in mannkern.backend_info().missing["triton"]


def test_triton_on_a_device_it_does_not_know() -> None:
    with pytest.raises(RuntimeError, match="need another: Triton runs on a GPU, not on 'meta'"):
        name_of("lrua", "triton", torch.device("meta"))
    assert name_of("lrua", "auto", torch.device("cuda")) == name_of("lrua", "triton", torch.device("cuda")) == "triton"


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
    with pytest.raises(RuntimeError, match=f"^backend: got 'triton', need another: {reason}$"):
        run_case(CASES[case], tensors, "triton", 1)
    monkeypatch.setattr(choice, "preferred", lambda family, device_type: BACKENDS["triton"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        results = [run_case(CASES[case], tensors, None, 1) for _ in range(2)]
    assert [str(warning.message) for warning in seen] == [f"mannkern runs on the reference on 'cpu': {reason}"]
    assert_same(results[1], run_case(CASES[case], tensors, "reference", 1))


@pytest.mark.usefixtures("interpreter")
def test_slots_that_triton_does_not_search() -> None:
    with pytest.raises(RuntimeError, match="N = 65537, and the Triton kernels take up to 65536"):
        functional.least_used_mask(torch.zeros(1, 65537), 1, backend="triton")


WITHOUT_KERNELS = {
    "triton": ("ntm", "backend 'triton' has no kernels for 'ntm'; 'cpp' and 'cuda' have them"),
    "cuda": ("lrua", "backend 'cuda' has no kernels for 'lrua'; 'cpp' and 'triton' have them"),
}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        (name, backend)
        for backend, (family, _) in WITHOUT_KERNELS.items()
        for name in CASES
        if CASES[name].operation.family == family and CASES[name].operation.name not in BACKENDS[backend].operations
    ],
)
def test_a_backend_without_kernels_of_the_family(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reason, tensors = WITHOUT_KERNELS[backend][1], arguments(CASES[name], SMALL)
    with pytest.raises(RuntimeError, match=f"^backend: got '{backend}', need another: {reason}$"):
        run_case(CASES[name], tensors, backend)
    monkeypatch.setenv("MANNKERN_BACKEND", backend)
    with pytest.raises(RuntimeError, match=f"^MANNKERN_BACKEND: got '{backend}', need another: {reason}$"):
        run_case(CASES[name], tensors, None)


@pytest.mark.parametrize("module", [mannkern.NTM, mannkern.NTMCell])
def test_a_module_on_a_backend_without_its_kernels(module: type) -> None:
    model = module(3, 4, 5, 6, backend="triton")
    with pytest.raises(RuntimeError, match="'triton' has no kernels for 'ntm'; 'cpp' and 'cuda' have them"):
        model(torch.zeros(2, 3) if module is mannkern.NTMCell else torch.zeros(1, 2, 3))


@pytest.mark.parametrize("name", registry.FAMILIES["ntm"].operations)
def test_cuda_on_another_device(name: str) -> None:
    for device in ("cpu", "meta"):
        tensors = {k: x.to(device) for k, x in arguments(CASES[name], SMALL).items()}
        with pytest.raises(
            RuntimeError,
            match=f"^backend: got 'cuda', need another: .* runs on a GPU, not on '{device}'$",
        ):
            run_case(CASES[name], tensors, "cuda")


def test_auto_on_a_gpu_by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each family has its own kernels on a GPU, and falls back independently of the other."""
    gpu = torch.device("cuda")
    pretend_gpu(monkeypatch)
    assert name_of("ntm", None, gpu) == "cuda"
    assert name_of("ntm", None, gpu, 65_536, 9, 9) == "cuda"
    with pytest.warns(UserWarning, match="on the reference on 'cuda': N = 65537, the CUDA kernels take up to 65,536"):
        assert name_of("ntm", None, gpu, 65_537) == "reference"
    monkeypatch.setattr(native, "cuda_reason", "it was not built")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert [name_of("ntm", None, gpu) for _ in range(3)] == ["reference"] * 3
        assert name_of("lrua", None, gpu) == "triton"
    assert [str(warning.message) for warning in seen] == ["mannkern runs on the reference on 'cuda': it was not built"]
    with pytest.raises(RuntimeError, match=r"^backend: got 'cuda', need another: it was not built$"):
        name_of("ntm", "cuda", gpu)


def test_a_gpu_that_the_kernels_were_not_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a T4: ``auto`` falls back, a request says why it cannot be met, and torch.compile can ask."""
    pretend_gpu(monkeypatch, (7, 5))
    gpu, reason = torch.device("cuda"), "the CUDA kernels take GPUs of compute capability 8.0 and above, not 7.5"
    assert choose("lrua", None, gpu, 128, 40, 4, "lrua_step").name == "triton"
    with pytest.warns(UserWarning, match=f"on the reference on 'cuda': {reason}"):
        assert name_of("ntm", None, gpu) == "reference"
    with pytest.raises(RuntimeError, match=f"^backend: got 'cuda', need another: {reason}$"):
        name_of("ntm", "cuda", gpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # else the compiler looks for the GPU
    compiled = torch.compile(lambda x: x + len(name_of("ntm", None, gpu)), backend="eager", fullgraph=True)
    assert compiled(torch.zeros(1)).item() == len("cuda")


def test_a_gpu_that_this_build_has_no_code_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as an A100 with a library for 9.0 alone: a launch would fail, so ``auto`` falls back."""
    pretend_gpu(monkeypatch, (8, 0))
    gpu, asked = torch.device("cuda"), []
    monkeypatch.setattr(native, "has_cuda_kernels", lambda index: bool(asked.append(index)))
    reason = "the CUDA library has no code for GPUs 8.0; TORCH_CUDA_ARCH_LIST=8.0 builds it for them"
    assert choose("lrua", None, gpu, 128, 40, 4, "lrua_step").name == "triton"
    with pytest.warns(UserWarning, match=f"on the reference on 'cuda': {reason}"):
        assert name_of("ntm", None, gpu) == "reference"
    assert asked == [0]  # each GPU once


def test_the_gpu_of_the_tensors_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an older GPU, and where the current device is another."""
    pretend_gpu(monkeypatch)
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0) if device == 1 else (7, 5))
    monkeypatch.setattr(native, "persistent_why_not", lambda index, *sizes: asked.append(index) or "")
    with pytest.warns(UserWarning, match="not 7.5"):
        assert name_of("ntm", None, torch.device("cuda:0")) == "reference"
    assert name_of("ntm", None, torch.device("cuda:1")) == "cuda"
    assert choose("lrua", None, torch.device("cuda:1"), 128, 40, 4, "lrua_step").name == "cuda"
    assert choose("lrua", "cuda", torch.device("cuda:1"), 128, 40, 4, "mann_episode", D=200).name == "cuda"
    assert asked == [1]


def test_torch_compile_can_ask_about_the_persistent_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question goes to the compiled library through ctypes, which torch.compile cannot trace."""
    monkeypatch.setattr(native, "cuda_reason", "")
    monkeypatch.setattr(native, "persistent_why_not", lambda *asked: "" if ctypes.c_int64(asked[1]).value else "none")
    gpu = torch.device("cuda", 0)

    def name(x: torch.Tensor) -> torch.Tensor:
        return x + len(choose("lrua", "cuda", gpu, 128, 40, 4, "mann_episode", D=200).name)

    assert torch.compile(name, backend="eager", fullgraph=True)(torch.zeros(1)).item() == len("cuda")
    with monkeypatch.context() as patch:
        pretend_gpu(patch)
        assert name(torch.zeros(1)).item() == len("cuda")


def test_an_episode_of_a_controller_without_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The persistent kernel has an LSTM alone: another controller runs step by step."""
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(native, "persistent_why_not", lambda *asked: "")
    cells = (MANNCell(3, 5, 8, 4, 2, controller=kind, backend="cuda") for kind in ("lstm", "feedforward"))
    assert [cell.episode_on(torch.device("cuda")) is not None for cell in cells] == [True, False]


def test_fake_tensors_of_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CUDA library but no GPU they take the backend that a GPU would."""
    monkeypatch.setattr(native, "cuda_reason", "")
    assert name_of("ntm", None, torch.device("cuda")) == "cuda"


@pytest.mark.parametrize("step", ["lrua_step", "lrua_scan"])
def test_auto_takes_one_operation_of_another_backend(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """LRUA's step and scan have CUDA kernels, for some sizes in float32; all else of the family stays with Triton."""
    gpu = torch.device("cuda")
    pretend_gpu(monkeypatch)
    for sizes in ((128, 40, 4), (256, 40, 1), (1, 4, 3), (80, 104, 2)):
        assert choose("lrua", None, gpu, *sizes, step).name == "cuda"
        assert choose("lrua", "cuda", gpu, *sizes, step).name == "cuda"
        assert choose("lrua", "triton", gpu, *sizes, step).name == "triton"
        assert choose("lrua", None, gpu, *sizes, "cosine_read").name == "triton"
        assert choose("lrua", None, gpu, *sizes).name == "triton"
    for reason, sizes, dtype in (
        (f"N = 257, the CUDA kernels of {step} take up to 256", (257, 8, 1), torch.float32),
        (f"W = 132, the CUDA kernels of {step} take up to 128", (8, 132, 1), torch.float32),
        (f"R = 5, the CUDA kernels of {step} take up to 4", (8, 8, 5), torch.float32),
        (f"W = 13, the CUDA kernels of {step} take multiples of 4", (8, 13, 1), torch.float32),
        (f"N = 129 and W = 80, the CUDA kernels of {step} take N * W up to 10,240", (129, 80, 1), torch.float32),
        (f"dtype = float64, the CUDA kernels of {step} take float32", (8, 8, 1), torch.float64),
        (f"dtype = float16, the CUDA kernels of {step} take float32", (8, 8, 1), torch.float16),
    ):
        assert choose("lrua", None, gpu, *sizes, step, dtype).name == "triton"
        with pytest.raises(RuntimeError, match=f"^backend: got 'cuda', need another: {re.escape(reason)}$"):
            choose("lrua", "cuda", gpu, *sizes, step, dtype)
    monkeypatch.setattr(native, "cuda_reason", "it was not built")
    assert choose("lrua", None, gpu, 128, 40, 4, step).name == "triton"
    with pytest.raises(RuntimeError, match=r"^backend: got 'cuda', need another: it was not built$"):
        choose("lrua", "cuda", gpu, 128, 40, 4, step)


def test_the_step_says_what_its_backend_takes() -> None:
    tensors = arguments(CASES["step"], SMALL)
    with pytest.raises(
        RuntimeError, match=r"^backend: got 'cuda', need another: backend 'cuda' runs on a GPU, not on 'cpu'$"
    ):
        run_case(CASES["step"], tensors, "cuda")


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
