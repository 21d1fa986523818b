"""Rows of docs/pytorch.md: compilers and exported programs."""

from __future__ import annotations

import io
import warnings
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.func import functional_call, grad, vmap

from tests.docs.pytorch.feature import COMPILED, STEPS, UNTESTED, Feature, build, close, draw, trained, twin
from tests.memories.sequences import SCAN_IS_RIGHT

EXPORTS = "tests/memories/test_pytorch_export.py"
T, B = Dim("T", min=3), Dim("B")
SIZES = {0: T, 1: B}


def compiled(module: Any, backend: str) -> None:
    torch._dynamo.reset()
    model = build(module, backend)
    dynamic = backend == "cpp"
    run = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for shape in ((4, 2, 3), (7, 5, 3), (20, 130, 3)) if dynamic else ((2, 2, 3),):
            x = draw(*shape)
            close(trained(model, x, run), trained(twin(model), x))


def compiled_twice_differentiable(module: Any, backend: str) -> None:
    torch._dynamo.reset()
    run = torch.compile(build(module, backend), fullgraph=True, backend="aot_eager")
    x = draw(1, 2, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(run(x)[0].square().sum(), x, create_graph=True)
    gradient.square().sum().backward()


def compiled_transforms(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(2, 2, 1, 3)
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, parameters, (x,))[0].square().sum()

    mapped, each = vmap(loss, (None, 0)), vmap(grad(loss), (None, 0))
    expected = [grad(loss)(parameters, one) for one in x]
    torch._dynamo.reset()
    got = torch.compile(each, fullgraph=True, backend="aot_eager")(parameters, x)
    close(got, {name: torch.stack([one[name] for one in expected]) for name in parameters})
    of_model = dict(model.named_parameters())
    torch.compile(mapped, fullgraph=True, backend="aot_eager")(of_model, x).sum().backward()
    close([p.grad for p in of_model.values()], [got[name].sum(0) for name in of_model])


def compiled_autograd(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(2 if backend == "cpp" else 1, 2, 3)  # a step of the reference takes 10 s
    expected = trained(twin(model), x)
    torch._dynamo.reset()
    with warnings.catch_warnings(), torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        warnings.simplefilter("ignore")  # PyTorch reads .grad of what is no leaf
        close(trained(model, x), expected)


def exported(module: Any, backend: str) -> None:
    model, file = build(module, backend), io.BytesIO()
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (draw(6, 4, 3),), dynamic_shapes=(SIZES,)), file)
    file.seek(0)
    program = torch.export.load(file).module()
    plain, x = twin(model), draw(3, 2, 3)
    loss = program(x)[0].square().sum()
    got = torch.autograd.grad(loss, [program.get_parameter(name) for name, _ in model.named_parameters()])
    if backend == "cpp" or SCAN_IS_RIGHT:
        close(got, torch.autograd.grad(plain(x)[0].square().sum(), list(plain.parameters())))
    for shape in ((3, 2, 3), (9, 150, 3)):
        x = draw(*shape)
        close(program(x)[0], plain(x)[0])


def exported_strictly(module: Any, backend: str) -> None:
    model, x = build(module, backend), draw(9, 3, 3)
    program = torch.export.export(model, (draw(6, 4, 3),), dynamic_shapes=(SIZES,), strict=True).module()
    close(program(x)[0], twin(model)(x)[0])


def exported_with_lengths(module: Any, backend: str) -> None:
    model, x, lengths = build(module, backend), draw(9, 3, 3), torch.tensor([9, 0, 4])
    sizes = {"input": SIZES, "lengths": {0: B}}
    ends = {"lengths": torch.tensor([6, 2, 0, 3])}
    with torch.no_grad():
        program = torch.export.export(model, (draw(6, 4, 3),), ends, dynamic_shapes=sizes).module()
    close(program(x, lengths=lengths)[0], twin(model)(x, lengths=lengths)[0])


def packaged(module: Any, backend: str) -> None:
    model, x = build(module, backend, (1, 2, 3, 2, 1)), draw(5, 3, 1)
    with torch.no_grad(), TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's compiler
        program = torch.export.export(model, (draw(6, 4, 1),), dynamic_shapes=(SIZES,))
        package = torch._inductor.aoti_compile_and_package(program, package_path=f"{folder}/model.pt2")
        close(torch._inductor.aoti_load_package(package)(x)[0], twin(model)(x)[0])


def traced(module: Any, backend: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, which comes as far as the batch's size
        torch.jit.trace(build(module, backend), draw(4, 2, 3))


def scripted(module: Any, backend: str) -> None:
    torch.jit.script(build(module, backend))


FEATURES = (
    Feature(
        "`torch.compile`",
        "On `cpp` one compilation serves all T from 3 on and all B from 2 on. On the reference the loop is unrolled: "
        "compiling a few steps takes seconds.",
        COMPILED,
        STEPS,
        compiled,
        triton="compiled loop, MANN",
        evidence=("tests/triton/test_episode_operation.py::test_under_torch_compile",),
        slow=("cpp", "reference"),
    ),
    Feature(
        "A gradient of a gradient through `torch.compile`",
        "PyTorch itself refuses it, for every module. Call the module uncompiled for it.",
        "no: PyTorch refuses it",
        "no: PyTorch refuses it",
        compiled_twice_differentiable,
        triton=UNTESTED,
        error="does not currently support double backward",
        slow=("cpp", "reference"),
    ),
    Feature(
        "`torch.compile` of `vmap`, `vmap(grad(...))`",
        "Whatever the backend, the reference is compiled, because PyTorch loses the gradient of an operation that it "
        "maps while it compiles.",
        STEPS,
        STEPS,
        compiled_transforms,
        slow=("cpp", "reference"),
    ),
    Feature(
        "Compiled autograd",
        "A loop over a cell works too. On `cpp` it then computes the gradients of weights at each step, not of many "
        "steps at once.",
        COMPILED,
        STEPS,
        compiled_autograd,
        evidence=("tests/memories/test_weight_gradients.py::test_compiled_autograd",),
        slow=("cpp", "reference"),
    ),
    Feature(
        "`torch.export` for any T and B, `save` and `load`",
        "The program trains too. On `cpp` its forward pass saves its arguments alone, so its backward pass computes "
        "the steps again first. Gradients of weights that autocast rounds to bfloat16 are rounded too, and torch.func "
        "refuses the program. The process that loads it imports mannkern first, which has the operations. On the "
        "reference, and with a GRUCell or RNNCell as controller, the loop is one scan, whose gradients are wrong in "
        "PyTorch 2.10 and right in 2.13. Another module as controller needs a state.",
        COMPILED,
        STEPS,
        exported,
        slow=("cpp", "reference"),
    ),
    Feature(
        "`torch.export` with `strict=True` for any T",
        "On the reference it makes T a constant, and PyTorch refuses the program. Leave `strict` out.",
        COMPILED,
        "no: T becomes a constant",
        exported_strictly,
        error=r"Constraints violated \(T\)",
        slow=("cpp", "reference"),
    ),
    Feature(
        "`torch.export` with `lengths=` for any T",
        "On the reference export it for a fixed T.",
        COMPILED,
        "no: fixed T alone",
        exported_with_lengths,
        error=r"^lengths, reset: got a tensor in an exported program for any T, need None or a fixed T",
        slow=("cpp",),
    ),
    Feature(
        "AOTInductor for any T and B",
        "A process that imports mannkern runs the package. On the reference PyTorch's compiler fails for a scan over "
        "any number of steps.",
        COMPILED,
        "no: PyTorch's compiler fails",
        packaged,
        evidence=(f"{EXPORTS}::test_a_package_of_aot_inductor",),
        error="KeyError",
        slow=("cpp", "reference"),
    ),
    Feature(
        "`torch.onnx.export(dynamo=True)`",
        "It exports the reference, whatever the backend, so that the program has standard operations alone. The "
        "tests call `requires_grad_(False)` on the module first. It needs the packages onnx and onnxscript; without "
        "them, the tests check the program that the exporter is given.",
        STEPS,
        STEPS,
        evidence=(f"{EXPORTS}::test_onnx",),
    ),
    Feature(
        "`torch.jit.trace`",
        "It is refused: use `torch.export`.",
        "no: use `torch.export`",
        "no: use `torch.export`",
        traced,
        error=r"^batch_size: got a Tensor, as torch\.jit traces it, need an int: use torch\.export instead",
    ),
    Feature(
        "`torch.jit.script`",
        "PyTorch's compiler of scripts refuses arguments by keyword, such as `lengths=`.",
        "no: use `torch.export`",
        "no: use `torch.export`",
        scripted,
        error="keyword-only arguments",
    ),
)
