"""MANNCell by hand; and controllers, states, copies and torch.compile of MANNCell, MANN, NTMCell and NTM."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import MANN, NTM, MANNCell, MANNState, NTMCell, functional
from tests.helpers import same
from tests.memories.sequences import zero_interface


@torch.no_grad()
def test_example() -> None:
    """Two slots of one number, 4, and an interface vector of zeros. Usage is (1, 0), so slot 1 is set to zero.

    The gate is 1/2, so write weights are (1, 0) / 2 + (0, 1) / 2; the add is 0. A key of zero reads the mean, 2.
    Usage becomes 0.99 (1, 0) + (1/2, 1/2) + (1/2, 1/2).
    """
    cell = zero_interface(MANNCell(3, 5, 2, 1, 1, memory_init=4.0))
    _, state = cell(torch.randn(1, 3))
    assert state.memory.flatten().tolist() == [4, 0]
    assert state.read.item() == 2
    torch.testing.assert_close(state.usage, torch.tensor([[1.99, 1.0]]))


SIZES = (3, 5, 8, 4, 2)  # F, D, N, W, R
MODULES = {MANNCell: (6, 3), MANN: (4, 6, 3), NTMCell: (6, 3), NTM: (4, 6, 3)}
EVERY = pytest.mark.parametrize(("module", "shape"), MODULES.items(), ids=[module.__name__ for module in MODULES])
CELLS = pytest.mark.parametrize(("cell_type", "sequence"), [(MANNCell, MANN), (NTMCell, NTM)], ids=["MANN", "NTM"])


def build(module: type = MANNCell, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(0)
    return module(*SIZES, dtype=dtype, **options)


def by_hand(cell: MANNCell, x: Tensor, state: MANNState) -> tuple[Tensor, MANNState]:
    """The equations, step by step and episode by episode, around a torch.nn.LSTMCell of its own."""
    B, N, W, R, n = len(x), cell.memory_slots, cell.memory_width, cell.num_reads, cell.num_least_used
    parameters = cell.state_dict()
    lstm = nn.LSTMCell(cell.input_size + R * W, cell.hidden_size, dtype=x.dtype)
    lstm.load_state_dict(
        {k.removeprefix("controller."): p for k, p in parameters.items() if k.startswith("controller.")}
    )
    h, c = lstm(torch.cat([x, state.read.reshape(B, R * W)], 1), state.controller)
    z = h @ parameters["interface.weight"].T + parameters["interface.bias"]
    if cell.write == "key":  # what is written is the key
        z = torch.cat([z[:, : R * W], z], 1)
    k, a, g = z[:, : R * W].tanh(), z[:, R * W : 2 * R * W].tanh(), z[:, 2 * R * W : 2 * R * W + R].sigmoid()
    b = 1 + torch.log1p(z[:, 2 * R * W + R :].exp()) if cell.key_strength else torch.ones(B, R, dtype=x.dtype)
    k, a = k.reshape(B, R, W), a.reshape(B, R, W)
    memory, w_r, usage = state.memory.clone(), torch.zeros_like(state.read_weights), cell.decay * state.usage
    for e in range(B):
        order = sorted(range(N), key=lambda i: (state.usage[e, i].item(), i))[:n]
        memory[e, order[0]] = 0
        for head in range(R):
            w_lu = torch.zeros(N, dtype=x.dtype)
            w_lu[order if cell.least_used == "shared" else order[head % n]] = 1
            w_w = g[e, head] * state.read_weights[e, head] + (1 - g[e, head]) * w_lu
            memory[e] += torch.outer(w_w, a[e, head])
            usage[e] += w_w
        for head in range(R):
            w_r[e, head] = torch.softmax(b[e, head] * F.cosine_similarity(k[e, head], memory[e], dim=-1), 0)
            usage[e] += w_r[e, head]
    read = torch.einsum("brn,bnw->brw", w_r, memory)
    return torch.cat([h, read.reshape(B, R * W)], 1), MANNState((h, c), memory, w_r, usage, read)


@pytest.mark.parametrize(
    "options", [{}, {"key_strength": True}, {"least_used": "per_head"}, {"num_least_used": 1}, {"write": "key"}]
)
@pytest.mark.parametrize("backend", ["cpp", "reference"])
@torch.no_grad()
def test_equals_the_specification_by_hand(backend: str, options: dict[str, Any]) -> None:
    cell = build(backend=backend, decay=0.95, memory_init="uniform", **options)
    nn.init.uniform_(cell.interface.bias)
    state = expected_state = cell.initial_state(4)
    for x in torch.randn(6, 4, 3, dtype=torch.float64):
        output, state = cell(x, state)
        expected, expected_state = by_hand(cell, x, expected_state)
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(state, expected_state, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("memory_init", [1e-6, 0.5, "uniform", "learned"])
def test_initial_state(memory_init: float | str) -> None:
    cell = build(memory_init=memory_init)
    (h, c), memory, read_weights, usage, read = cell.initial_state(7)
    one_hot = F.one_hot(torch.zeros(7, dtype=torch.int64), 8).double()
    assert same(usage, one_hot)
    assert same(read_weights, one_hot.unsqueeze(1).expand(7, 2, 8))
    assert same(h, torch.zeros(7, 5).double())
    assert same(c, h)
    assert same(read, torch.zeros(7, 2, 4).double())
    assert memory.shape == (7, 8, 4)
    assert (memory == memory[0]).all()
    assert memory.requires_grad == (memory_init == "learned")
    assert ("initial_memory" in cell.state_dict()) == isinstance(memory_init, str)
    assert ("initial_memory" in dict(cell.named_parameters())) == (memory_init == "learned")
    if isinstance(memory_init, str):
        assert 0.5 / 12**0.5 < memory.abs().max() <= 1 / 12**0.5
        assert memory.unique().numel() > 8
    else:
        assert (memory == memory_init).all()
    assert cell.initial_state(0).memory.shape == (0, 8, 4)


@EVERY
def test_no_state_is_the_initial_state(module: type, shape: tuple[int, ...]) -> None:
    model, x = build(module), torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(model(x), model(x, model.initial_state(6)), rtol=0, atol=0)


@pytest.mark.parametrize(("module", "interface_size"), [(MANNCell, 18), (NTMCell, 3 * 4 + 2 * 4 + 3 * 6)])
def test_initialisation(module: type, interface_size: int) -> None:
    cell = build(module)
    forget = cell.controller.bias_ih + cell.controller.bias_hh
    assert (forget[5:10] == 1).all()
    assert (cell.controller.bias_ih[:5] != 0.5).all()
    assert (cell.interface.bias == 0).all()
    bound = (6 / (5 + interface_size)) ** 0.5  # Glorot and Bengio
    assert 0.8 * bound < cell.interface.weight.abs().max() <= bound
    before = cell.interface.weight.clone()
    cell.reset_parameters()
    assert not same(cell.interface.weight, before)


class Custom(nn.Module):
    """A controller whose state is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(11, 5, dtype=torch.float64)

    def forward(self, input: Tensor, state: dict[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self.linear(input).tanh()
        total = hidden if state is None else hidden + state["total"]
        return total, {"total": total}


GIVEN: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTMCell(11, 5, dtype=torch.float64),
    "lstm_without_bias": lambda: nn.LSTMCell(11, 5, bias=False, dtype=torch.float64),
    "gru": lambda: nn.GRUCell(11, 5, dtype=torch.float64),
    "rnn": lambda: nn.RNNCell(11, 5, dtype=torch.float64),
    "custom": Custom,
}


@CELLS
@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_given_controllers(make: Callable[[], nn.Module], cell_type: type, sequence: type) -> None:
    controller = make()
    before = copy.deepcopy(controller.state_dict())
    cell = build(cell_type, controller=controller)
    assert cell.controller is controller
    for _ in range(2):
        assert all(same(p, before[name]) for name, p in controller.state_dict().items())  # a trained one stays trained
        cell.reset_parameters()
    state, x = None, torch.randn(3, 4, 3, dtype=torch.float64)
    hidden, memory = None, cell.initial_state(4)
    for t in range(3):
        output, state = cell(x[t], state)
        result = controller(torch.cat([x[t], memory.read.flatten(1)], 1), hidden)
        h, hidden = result if isinstance(controller, Custom) else (result, result)
        h, hidden = (h[0], h) if isinstance(controller, nn.LSTMCell) else (h, hidden)
        if type(controller) is nn.LSTMCell and controller.bias:  # one operation, with sums of its own
            torch.testing.assert_close(output[:, :5], h, rtol=1e-14, atol=1e-15)
        else:
            assert same(output[:, :5], h)
        memory = state
    output.sum().backward()
    assert all(p.grad is not None for p in controller.parameters())
    assert sequence(*SIZES, controller=controller, dtype=torch.float64)(x)[0].shape == (3, 4, 13)


@CELLS
def test_feed_forward_controller(cell_type: type, sequence: type) -> None:
    cell, x = build(cell_type, controller="feedforward"), torch.randn(4, 3, dtype=torch.float64)
    output, state = cell(x)
    output, last = cell(x, state)
    linear = cell.controller.linear
    expected = torch.tanh(torch.cat([x, state.read.flatten(1)], 1) @ linear.weight.T + linear.bias)
    torch.testing.assert_close(output[:, :5], expected)
    assert last.controller == ()
    torch.testing.assert_close(build(sequence, controller="feedforward")(torch.stack([x, x]))[0][1], output)


@EVERY
def test_shapes_dtypes_and_modes(module: type, shape: tuple[int, ...]) -> None:
    module_ = build(module, torch.float32, memory_init="uniform")
    x = torch.randn(shape)
    output, state = module_(x)
    assert output.shape == (*shape[:-1], 13)
    assert module_.output_size == 13
    third = (6, 8) if isinstance(state, MANNState) else (6, 1, 8)
    assert [tuple(s.shape) for s in state[1:]] == [(6, 8, 4), (6, 2, 8), third, (6, 2, 4)]
    assert [tuple(s.shape) for s in state.controller] == [(6, 5), (6, 5)]
    torch.testing.assert_close(module_.eval()(x)[0], module_.train()(x)[0], rtol=0, atol=0)
    wide = copy.deepcopy(module_).double()
    assert wide.initial_state(2).memory.dtype == torch.float64
    torch.testing.assert_close(wide(x.double())[0].float(), output, rtol=1e-4, atol=1e-5)
    assert module_.to("meta")(x.to("meta"))[0].shape == output.shape


@EVERY
@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
def test_copies(module: type, shape: tuple[int, ...], controller: str) -> None:
    original, x = build(module, controller=controller, memory_init="learned"), torch.randn(shape, dtype=torch.float64)
    expected = original(x)[0]
    other = module(*SIZES, controller=controller, memory_init="learned", dtype=torch.float64)
    assert not same(other(x)[0], expected)
    other.load_state_dict(original.state_dict())
    file = io.BytesIO()
    torch.save(original.state_dict(), file)
    file.seek(0)
    loaded = module(*SIZES, controller=controller, memory_init="learned", dtype=torch.float64)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for twin in (other, loaded, copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert same(twin(x)[0], expected)
        assert repr(twin) == repr(original)


MANY_HEADS = {"num_write_heads": 2, "shift_range": 2}
GRADCHECKED: list[tuple[type, dict[str, Any]]] = [
    *((module, {}) for module in MODULES),
    *((module, {"key_strength": True, "least_used": "per_head"}) for module in (MANNCell, MANN)),
    *((module, MANY_HEADS) for module in (NTMCell, NTM)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "options"), GRADCHECKED)
def test_gradcheck(module: type, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    tiny = module(2, 3, 4, 2, 2, memory_init="learned", dtype=torch.float64, backend="cpp", **options)
    x = torch.randn(*MODULES[module][:-2], 2, 2, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*tiny.named_parameters())
    usage = torch.tensor([[0.1, 0.4, 0.2, 0.3]], dtype=torch.float64).expand(2, 4)

    def run(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        state = torch.func.functional_call(tiny, dict(zip(names, parameters)), (x,))[1]
        if isinstance(state, MANNState):
            state = state._replace(usage=usage)  # no near-tie
        output, (hc, *last) = torch.func.functional_call(tiny, dict(zip(names, parameters)), (x, state))
        return output, *hc, *last

    assert torch.autograd.gradcheck(run, (x, *parameters))


COMPILED: list[tuple[type, dict[str, Any]]] = [
    *((module, {}) for module in MODULES),
    *((module, {"key_strength": True, "controller": "feedforward"}) for module in (MANNCell, MANN)),
    *((module, MANY_HEADS | {"controller": "feedforward"}) for module in (NTMCell, NTM)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "options"), COMPILED)
@pytest.mark.filterwarnings("ignore")  # what torch's tracing warns of itself
def test_compile(module: type, options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    module_, x = build(module, backend="cpp", **options), torch.randn(MODULES[module], dtype=torch.float64)
    compiled = torch.compile(module_, fullgraph=True, backend="aot_eager")
    (output, state), (expected, expected_state) = compiled(x), module_(x)
    torch.testing.assert_close((output, state), (expected, expected_state), rtol=1e-12, atol=1e-12)
    output, expected = compiled(x, state)[0], module_(x, expected_state)[0]
    parameters = list(module_.parameters())
    grads = [torch.autograd.grad(y.square().sum(), parameters) for y in (output, expected)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)


def test_threads(threads: Callable[[int], None]) -> None:
    """The memory step gives bit-equal results on any number of threads."""
    cell, results = MANNCell(3, 5, backend="cpp"), []
    ask = [None if x is None else x.detach() for x in cell.interface_vector(torch.randn(16, 5))]
    state = cell.initial_state(16)
    for count in (1, 2):
        threads(count)
        leaves = [x.clone().requires_grad_() for x in (*state[1:4], *ask[:3])]
        step = functional.lrua_step(*leaves, backend="cpp")
        results.append([*step, *torch.autograd.grad(sum(x.square().sum() for x in step), leaves)])
    assert all(map(same, *results))


def test_a_memory_that_is_drawn_lies_within_its_bound() -> None:
    """1 / sqrt(N + W) is 0.1 for 60 slots of 40 numbers."""
    for init in ("uniform", "learned"):
        assert 0.099 < MANNCell(3, 4, 60, 40, memory_init=init).initial_memory.abs().max() <= 0.1
