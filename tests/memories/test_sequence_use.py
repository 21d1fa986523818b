"""MANN and NTM in use: losses of some results, truncation, hooks, other controllers, torch.func, opcheck."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mannkern import MANN, NTM
from mannkern.memories.cell import FeedForward
from tests.helpers import Tensors, same
from tests.memories.sequences import (
    BOTH,
    MODULES,
    MOST,
    OPTIONS,
    SIZES,
    Sequence,
    apply,
    assert_close,
    build,
    episode,
    gradients,
    loop,
    named,
    squares,
    zero_interface,
)
from tests.recorder import Recorder


def test_example() -> None:
    """The read is the mean of a slot and of one that is set to zero, so its gradients are 1/2 and 0."""
    mann = zero_interface(MANN(3, 5, 2, 1, 1, memory_init="learned"))
    mann(torch.randn(1, 1, 3))[1].read.sum().backward()
    assert mann.cell.initial_memory.grad.flatten().tolist() == [0.5, 0]


@BOTH
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_gradients(module: type[Sequence], context: Any) -> None:
    model = build(module)
    input, state = episode(model, 7, B=2)
    with context():
        output, last = model(input, state)
    assert not output.requires_grad
    assert not last.memory.requires_grad
    with_gradients = model(input, state)
    assert same(output.clone(), with_gradients[0].detach())
    for name, x in named(with_gradients[1]).items():
        assert same(named(last)[name].clone(), x.detach()), name


@BOTH
def test_nothing_is_kept_without_gradients(module: type[Sequence]) -> None:
    model = build(module)
    input, state = episode(model, 9, B=2)
    with Recorder() as recorder:
        model(input, state)[0].sum().backward()
    forward, backward = (getattr(torch.ops.mannkern, name) for name in recorder.calls)
    ((*arguments, keep), _), (saved, _) = (call for (call,) in recorder.calls.values())
    assert keep
    kept, dropped = forward(*arguments, True), forward(*arguments, False)
    assert sum(x.numel() for x in dropped) < sum(x.numel() for x in kept) / 2
    copies, rows = (i for i, x in enumerate(saved) if isinstance(x, Tensor) and x.dim() == 4)
    with pytest.raises(RuntimeError, match="saved nothing for a backward pass"):
        backward(*saved[:copies], *(x for x in dropped if x.dim() == 4), *saved[rows + 1 :])


PARTS = {MANN: "usage", NTM: "write_weights"}


@pytest.mark.parametrize(
    ("module", "part"),
    [(m, part) for m in MODULES for part in ("output", "memory", PARTS[m], "read_weights", "read", "h", "c")],
)
def test_loss_of_one_result(module: type[Sequence], part: str) -> None:
    model = build(module)
    input, state = episode(model, 7, B=2)
    grads = []
    for run in (model, lambda *arguments: loop(model, *arguments)):
        x = input.clone().requires_grad_()
        output, last = run(x, state)
        results = ({"output": output} | named(last))[part]
        grads.append(gradients(results.square().sum(), {"input": x} | dict(model.named_parameters())))
    assert_close(*grads)


@BOTH
def test_two_segments_are_one_episode(module: type[Sequence]) -> None:
    model = build(module)
    input, state = episode(model, 12, B=2)
    x = input.clone().requires_grad_()
    first, middle = model(x[:5], state)
    second, _ = model(x[5:], middle)
    loss = first.square().sum() + second.square().sum()
    assert_close(gradients(loss, {"input": x} | dict(model.named_parameters())), squares(model, input, state))


@BOTH
def test_a_detached_state_truncates(module: type[Sequence]) -> None:
    model = build(module)
    input, state = episode(model, 12, B=2)
    x = input.clone().requires_grad_()
    _, middle = model(x[:5], state)
    middle = apply(middle, Tensor.detach)
    got = gradients(model(x[5:], middle)[0].square().sum(), {"input": x} | dict(model.named_parameters()))
    early, late = got["grad input"].split([5, 7])
    assert early.count_nonzero() == 0
    expected = squares(model, input[5:], middle)
    assert_close(got | {"grad input": late}, expected, 1e-14)


class Doubled(FeedForward):
    """A controller of the caller's own, so that the fused loop cannot know what it computes."""

    def forward(self, input: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        hidden, state = super().forward(input, state)
        return 2 * hidden, state


def nodes(last: Any) -> set[str]:
    """The names of the last two nodes of a graph: behind the operation there may be a conversion of its output."""
    return {type(last).__name__, *(type(node).__name__ for node, _ in last.next_functions)}


@BOTH
def test_where_the_loop_is_compiled(module: type[Sequence]) -> None:
    def compiled(model: Any) -> bool:
        output, _ = model(torch.zeros(2, 1, SIZES[0], dtype=model.cell.interface.weight.dtype))
        return any(f"{module.__name__}Episode" in name for name in nodes(output.grad_fn))

    assert compiled(build(module))
    assert all(compiled(build(module, **options)) for options in OPTIONS[module].values())
    assert not compiled(build(module, backend="reference"))
    assert not compiled(build(module, controller=nn.GRUCell(11, 5, dtype=torch.float64)))
    assert not compiled(build(module, controller=nn.LSTMCell(11, 5, bias=False, dtype=torch.float64)))
    assert not compiled(build(module, controller=Doubled(11, 5, dtype=torch.float64)))
    without_bias = build(module, controller="feedforward")
    without_bias.cell.controller.linear.bias = None
    assert not compiled(without_bias)
    assert compiled(build(module, dtype=torch.float16))
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled(build(module, dtype=torch.float32))


HOOKS = ("register_forward_pre_hook", "register_forward_hook", "register_full_backward_hook")


@BOTH
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("where", ["controller", "interface", "controller.linear"])
def test_hooks_are_called(module: type[Sequence], where: str, hook: str) -> None:
    """Pruning and spectral norm live in hooks, so a loop that skips them would be silently wrong."""
    model, calls = build(module, controller="feedforward" if "linear" in where else "lstm"), []
    getattr(model.cell.get_submodule(where), hook)(lambda *_: calls.append(1))
    input, state = episode(model, 3, B=2)
    model(input.requires_grad_(), state)[0].sum().backward()
    assert calls == [1, 1, 1]


@BOTH
def test_second_gradients_are_the_reference(module: type[Sequence]) -> None:
    model, plain = build(module), build(module, backend="reference")
    input, state = episode(model, 3, B=2)
    results = []
    for run in (plain, model, lambda *arguments: loop(model, *arguments)):
        x = input.clone().requires_grad_()
        loss = run(x, state)[0].sum()
        (penalty,) = torch.autograd.grad(loss, x, create_graph=True)
        (loss + penalty.square().sum()).backward()
        results.append(x.grad)
    for got in results[1:]:
        torch.testing.assert_close(got, results[0], rtol=1e-11, atol=1e-11)


@BOTH
def test_other_controllers_equal_the_loop(module: type[Sequence]) -> None:
    model = build(module, controller=nn.GRUCell(11, 5, dtype=torch.float64))
    input = torch.randn(6, 3, SIZES[0], dtype=torch.float64)
    got, last = model(input)
    expected, wanted = loop(model, input, None)
    assert same(got, expected)
    assert same(last.memory, wanted.memory)


@BOTH
def test_torch_func_gradients(module: type[Sequence]) -> None:
    model = build(module)
    input, state = episode(model, 5, B=2)
    parameters = dict(model.named_parameters())

    def loss(parameters: Tensors) -> Tensor:
        return torch.func.functional_call(model, parameters, (input, state))[0].square().sum()

    expected = squares(model, input, state)
    del expected["grad input"]
    assert_close({f"grad {name}": g for name, g in torch.func.grad(loss)(parameters).items()}, expected)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("options", ["plain", "most", "layer"])
@pytest.mark.parametrize(("T", "B"), [(1, 2), (5, 2), (3, 0)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck(module: type[Sequence], T: int, B: int, options: str) -> None:
    """The episode's operation and its backward, with and without optional arguments, as the module calls them."""
    model = build(module, dtype=torch.float32, **(OPTIONS[module] | {"plain": {}, "most": MOST[module]})[options])
    input, state = episode(model, T, B)
    with Recorder() as recorder:
        for wants_input in (False, True):
            for whole in (False, True):
                output, last = model(input.clone().requires_grad_(wants_input), state)
                results = named(last) | {"output": output} if whole else {"memory": last.memory}
                sum(x.square().sum() for x in results.values()).backward()
    forward, backward = recorder.calls
    assert (len(recorder.calls[forward]), len(recorder.calls[backward])) == (4, 4)
    check_operations(recorder)


def check_operations(recorder: Recorder) -> None:
    for name, calls in recorder.calls.items():
        for call in calls[:1] if "backward" not in name else calls:
            torch.library.opcheck(getattr(torch.ops.mannkern, name).default, call.args)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("options", ["most", "layer"])
@pytest.mark.parametrize(("T", "B"), [(1, 2), (5, 3), (3, 0)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_opcheck_with_lengths_and_resets(module: type[Sequence], T: int, B: int, options: str) -> None:
    model = build(module, dtype=torch.float32, **(OPTIONS[module] | {"most": MOST[module]})[options])
    input, state = episode(model, T, B)
    lengths, reset = torch.arange(T, T - B, -1), torch.ones(T, B, dtype=torch.bool)
    with Recorder() as recorder:
        for ends in ({"lengths": lengths}, {"reset": reset}, {"lengths": lengths, "reset": reset}):
            model(input, state, **ends)[0].square().sum().backward()
    assert sum(map(len, recorder.calls.values())) == 6
    check_operations(recorder)
