"""torch.export with T and B symbolic, run from its file; AOTInductor; ONNX."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim
from torch.utils._pytree import tree_map_only

from mannkern import MANN, NTM
from mannkern.backends import REFERENCE, choose
from tests.memories.sequences import SCAN_IS_RIGHT, apply

MODULES = pytest.mark.parametrize("module", [MANN, NTM])
CONTROLLERS = pytest.mark.parametrize("controller", ["lstm", pytest.param("feedforward", marks=pytest.mark.slow)])
BACKENDS = pytest.mark.parametrize("backend", ["cpp", pytest.param("reference", marks=pytest.mark.slow)])
HOW = pytest.mark.parametrize(
    ("with_state", "gradients"),
    [
        pytest.param(False, True, id="no_state"),
        pytest.param(True, False, id="state_no_grad", marks=pytest.mark.slow),
    ],
)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of an autograd Function
B, T = Dim("B", max=128), Dim("T")
SHAPES = ((6, 4), (1, 1), (2, 7), (30, 128))


def build(module: Any, controller: str, backend: str) -> Any:
    torch.manual_seed(0)
    return module(3, 5, 8, 4, 2, controller=controller, backend=backend, dtype=torch.float64)


def draw(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64)


def through_a_file(model: Any, x: Tensor, sizes: dict[int, Any], with_state: bool) -> Any:
    """The exported model, saved and loaded again."""
    arguments: tuple[Any, ...] = (x,)
    shapes: tuple[Any, ...] = (sizes,)
    if with_state:
        state = apply(model(x)[1], lambda part: part.detach().contiguous())
        arguments, shapes = (x, state), (sizes, tree_map_only(Tensor, lambda _: {0: B}, state))
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, arguments, dynamic_shapes=shapes), file)
    file.seek(0)
    return torch.export.load(file).module()


def check(exported: Any, model: Any, x: Tensor, with_state: bool, gradients: bool = True) -> None:
    x = x.requires_grad_()
    arguments = (x, apply(model(x)[1], Tensor.detach)) if with_state else (x,)
    (output, state), (expected, expected_state) = exported(*arguments), model(*arguments)
    assert type(state) is type(expected_state)
    torch.testing.assert_close((output, state), (expected, expected_state), rtol=1e-9, atol=1e-12)
    if not gradients:
        return
    names = ["x", *(name for name, _ in model.named_parameters())]
    leaves = [x, *(exported.get_parameter(name) for name in names[1:])]
    got = torch.autograd.grad(output.square().sum(), leaves)
    wanted = torch.autograd.grad(expected.square().sum(), [x, *model.parameters()])
    for name, gradient, value in zip(names, got, wanted, strict=True):
        torch.testing.assert_close(gradient, value, rtol=1e-9, atol=1e-12, msg=name)


def sequences() -> list[Any]:
    """Parameters of a test of sequences: all of the compiled backend, and half of the reference, where torch takes ten
    seconds to export a loop: each pair of a module, a controller and a way to call it is there."""
    found = []
    for module, controller, how in product((MANN, NTM), ("lstm", "feedforward"), ("no_state", "state_no_grad")):
        for backend in ("cpp", "reference"):
            state = how == "state_no_grad"
            if backend == "reference" and state != ((module is NTM) == (controller == "lstm")):
                continue
            marks = [pytest.mark.slow] if backend == "reference" or state or controller == "feedforward" else []
            name = f"{how}-{backend}-{controller}-{module.__name__}"
            found.append(pytest.param(module, controller, backend, state, marks=marks, id=name))
    return found


@pytest.mark.parametrize(("module", "controller", "backend", "with_state"), sequences())
def test_a_sequence_of_any_length_and_batch(module: Any, controller: str, backend: str, with_state: bool) -> None:
    """With a state the program is exported without gradients."""
    model = build(module, controller, backend)
    with torch.set_grad_enabled(not with_state):
        exported = through_a_file(model, draw(6, 4, 3), {0: T, 1: B}, with_state)
    for shape in SHAPES:  # PyTorch traces the gradient of a scan anew in each call, for seconds
        gradients = backend == "cpp" or (SCAN_IS_RIGHT and shape == SHAPES[-1])
        with torch.set_grad_enabled(gradients):
            check(exported, model, draw(*shape, 3), with_state, gradients)


@pytest.mark.slow
@MODULES
@CONTROLLERS
@BACKENDS
@HOW
def test_a_cell_of_any_batch(module: Any, controller: str, backend: str, with_state: bool, gradients: bool) -> None:
    cell = build(module, controller, backend).cell
    with torch.set_grad_enabled(gradients):
        exported = through_a_file(cell, draw(4, 3), {0: B}, with_state)
    for _, batch in SHAPES:
        check(exported, cell, draw(batch, 3), with_state)


RUN = """
import sys, torch, mannkern
package, data = sys.argv[1:]
run = torch._inductor.aoti_load_package(package)
for arguments, expected in torch.load(data, weights_only=True):
    torch.testing.assert_close(run(*arguments), expected, rtol=1e-9, atol=1e-12)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "controller", "with_state"), [(MANN, "lstm", True), (NTM, "feedforward", False), (MANN, "layer", False)]
)
@pytest.mark.filterwarnings("ignore")  # what torch's compiler warns of itself
def test_a_package_of_aot_inductor(module: Any, controller: str, with_state: bool, tmp_path: Path) -> None:
    """Another process loads the package and runs it with nothing but ``import mannkern``, which has the operations."""
    if controller == "layer":
        module, controller = (lambda *a, **k: MANN(*a, **k).cell), "feedforward"
    model = build(module, controller, "cpp")
    whole = isinstance(model, MANN | NTM)
    x, sizes = (draw(6, 4, 3), {0: T, 1: B}) if whole else (draw(4, 3), {0: B})
    state = apply(model(x)[1], lambda part: part.detach().contiguous())
    shapes = (sizes, tree_map_only(Tensor, lambda _: {0: B}, state)) if with_state else (sizes,)
    program = torch.export.export(model, (x, state) if with_state else (x,), dynamic_shapes=shapes)
    package = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "model.pt2"))
    calls = []
    for shape in SHAPES if whole else [(batch,) for _, batch in SHAPES]:
        x = draw(*shape, 3)
        with torch.no_grad():
            arguments = (x, model(x)[1]) if with_state else (x,)
            calls.append((arguments, model(*arguments)))
    torch.save(calls, tmp_path / "calls.pt")
    subprocess.run([sys.executable, "-c", RUN, package, str(tmp_path / "calls.pt")], check=True)


@MODULES
@BACKENDS
@pytest.mark.filterwarnings("ignore")  # what torch's exporter warns of itself
def test_onnx(module: Any, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program for ONNX has no operation of mannkern, whatever backend was asked for."""
    model = build(module, "lstm", backend).float().requires_grad_(False)  # ONNX Runtime lacks some float64
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    program = torch.export.export(model, (torch.randn(6, 4, 3),), dynamic_shapes=({0: T, 1: B},))
    assert "mannkern" not in str(program.graph_module)
    assert choose(model.cell.family, "reference", torch.device("cpu")) is REFERENCE
    monkeypatch.undo()
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="onnxscript"):
            torch.onnx.export(model, (torch.randn(6, 4, 3),), dynamo=True)
        return
    onnx = torch.onnx.export(model, (torch.randn(6, 4, 3),), dynamo=True, dynamic_shapes=({0: T, 1: B},))
    onnx.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in SHAPES:
        x = torch.randn(*shape, 3)
        (output, *_) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(output), model(x)[0], rtol=1e-5, atol=1e-5)


@MODULES
@pytest.mark.filterwarnings("ignore")  # of the tracer, which comes as far as the batch's size
def test_torchscript_is_refused(module: Any) -> None:
    with pytest.raises(TypeError, match=r"^batch_size: got a Tensor, as torch\.jit traces it, need an int: .*export"):
        torch.jit.trace(build(module, "lstm", "cpp"), draw(6, 4, 3))
