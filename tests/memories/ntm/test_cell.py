"""NTMCell and NTM by hand; the order of their heads, their initial state, their precision, and a task they learn."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import NTM, NTMCell, NTMState
from mannkern.backends import native
from tests.helpers import CPP, same


@torch.no_grad()
def test_example(backend: str) -> None:
    """Two slots of one number, 1; an interface vector of zeros, but for a sharpness of 2; and no shift.

    A key of zero gives content weights 1/2 and the gate is 1/2, so from slot 0 the weights become 3/4 and 1/4, then
    squared 9/10 and 1/10. Erase is 1/2 and add 0: the memory is 1 - 0.45 and 1 - 0.05, the read 0.9 0.55 + 0.1 0.95.
    """
    cell = NTMCell(1, 1, 2, 1, shift_range=0, memory_init=1.0, backend=backend, dtype=torch.float64)
    cell.interface.weight.zero_()
    cell.interface.bias.zero_().split(cell._interface_sizes)[5].fill_(math.log(math.e - 1))  # softplus of it is 1
    _, state = cell(torch.zeros(1, 1, dtype=torch.float64))
    assert state.write_weights.flatten().tolist() == pytest.approx([0.9, 0.1])
    assert state.memory.flatten().tolist() == pytest.approx([0.55, 0.95])
    assert state.read.item() == pytest.approx(0.59)


SIZES = (3, 5, 8, 4)  # F, D, N, W
HEADS: list[dict[str, int]] = [
    {},
    {"shift_range": 0},
    {"num_read_heads": 2, "shift_range": 2},
    {"num_write_heads": 3, "shift_range": 3},
    {"num_read_heads": 2, "num_write_heads": 2, "shift_range": 5},
]


def build(module: type = NTMCell, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(0)
    model = module(*SIZES, dtype=dtype, **options)
    nn.init.normal_((model if module is NTMCell else model.cell).interface.bias)
    return model


def head(memory: Tensor, previous: Tensor, key: Tensor, z: dict[str, Tensor], h: int) -> Tensor:
    """The weights of one head of one episode: content, interpolation, shift, sharpening."""
    content = torch.softmax(F.softplus(z["strength"][h]) * F.cosine_similarity(key, memory, dim=-1), 0)
    gate, shares = z["gate"][h].sigmoid(), z["shift"][h].softmax(0)
    gated = gate * content + (1 - gate) * previous
    shifted = sum(share * gated.roll(j - len(shares) // 2) for j, share in enumerate(shares))
    powers = shifted ** (1 + F.softplus(z["sharpness"][h]))
    return powers / powers.sum()


def by_hand(cell: NTMCell, x: Tensor, state: NTMState) -> tuple[Tensor, NTMState]:
    """The specification, episode by episode and head by head, around a torch.nn.LSTMCell of its own."""
    B, W, R, V = len(x), cell.memory_width, cell.num_read_heads, cell.num_write_heads
    H, S = R + V, 2 * cell.shift_range + 1
    parameters = cell.state_dict()
    lstm = nn.LSTMCell(cell.input_size + R * W, cell.hidden_size, dtype=x.dtype)
    lstm.load_state_dict({k.removeprefix("controller."): p for k, p in parameters.items() if k.startswith("contr")})
    h, c = lstm(torch.cat([x, state.read.reshape(B, R * W)], 1), state.controller)
    z = h @ parameters["interface.weight"].T + parameters["interface.bias"]
    episodes = []
    for e in range(B):
        sizes = {"key": (H, W), "add": (V, W), "erase": (V, W), "gate": (H,), "strength": (H,), "sharpness": (H,)}
        interface, at = {}, 0
        for name, size in (sizes | {"shift": (H, S)}).items():
            count = torch.Size(size).numel()
            interface[name], at = z[e, at : at + count].reshape(size), at + count
        assert at == z.shape[1]
        keys, old = interface["key"], state.memory[e]
        writes = torch.stack([head(old, state.write_weights[e, v], keys[v], interface, v) for v in range(V)])
        memory = old.clone()
        for v in range(V):
            memory = memory * (1 - torch.outer(writes[v], interface["erase"][v].sigmoid()))
        for v in range(V):
            memory = memory + torch.outer(writes[v], interface["add"][v].tanh())
        reads = torch.stack([head(memory, state.read_weights[e, r], keys[V + r], interface, V + r) for r in range(R)])
        episodes.append((memory, reads, writes, reads @ memory))
    memory, reads, writes, read = map(torch.stack, zip(*episodes))
    return torch.cat([h, read.reshape(B, R * W)], 1), NTMState((h, c), memory, reads, writes, read)


@pytest.mark.parametrize("heads", HEADS, ids=str)
@torch.no_grad()
def test_equals_the_specification_by_hand(backend: str, heads: dict[str, int]) -> None:
    """The cell, and the whole of an episode."""
    whole = build(NTM, backend=backend, memory_init="uniform", **heads)
    cell = whole.cell
    input = torch.randn(6, 4, 3, dtype=torch.float64)
    state = expected_state = cell.initial_state(4)
    outputs = []
    for x in input:
        output, state = cell(x, state)
        expected, expected_state = by_hand(cell, x, expected_state)
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(state, expected_state, rtol=1e-10, atol=1e-12)
        outputs.append(expected)
    torch.testing.assert_close(whole(input), (torch.stack(outputs), expected_state), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("module", [NTMCell, NTM])
@torch.no_grad()
def test_what_is_written_in_a_step_is_read_in_it(backend: str, module: type) -> None:
    """Gates are 0, all shares on one shift, sharpness 1: one-hot weights move by the shift; erase 1, add tanh(20) = 1.

    The write head stands at slot 7 and moves up, to slot 0; the read head stands at 1 and moves down, to 0.
    """
    model = build(module, backend=backend, memory_init=0.5)
    cell = model if module is NTMCell else model.cell
    cell.interface.weight.zero_()
    key, add, erase, gate, strength, sharpness, shift = cell.interface.bias.split(cell._interface_sizes)
    for part, value in ((key, 1), (add, 20), (erase, 60), (gate, -60), (strength, 0), (sharpness, -60), (shift, -60)):
        part.fill_(value)
    shift[2] = 60  # the write head's, one up
    shift[3] = 60  # the read head's, one down
    state = cell.initial_state(2)
    places = torch.eye(8, dtype=torch.float64)
    state = state._replace(write_weights=places[7].expand(2, 1, 8), read_weights=places[1].expand(2, 1, 8))
    x = torch.randn(2, 3, dtype=torch.float64)
    output, state = model(x if module is NTMCell else x.unsqueeze(0), state)
    expected = torch.full((2, 8, 4), 0.5, dtype=torch.float64)
    expected[:, 0] = 1
    torch.testing.assert_close(state.write_weights, places[0].expand(2, 1, 8))
    torch.testing.assert_close(state.read_weights, places[0].expand(2, 1, 8))
    torch.testing.assert_close(state.memory, expected)
    torch.testing.assert_close(state.read, torch.ones(2, 1, 4, dtype=torch.float64))  # 0.5 were it read before
    torch.testing.assert_close(output[..., 5:].reshape(2, 4), torch.ones(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("memory_init", [1e-6, 0.5, "uniform", "learned"])
def test_initial_state(memory_init: float | str) -> None:
    cell = build(memory_init=memory_init, num_read_heads=2, num_write_heads=3)
    (h, c), memory, read_weights, write_weights, read = cell.initial_state(7)
    first = F.one_hot(torch.zeros(7, 1, dtype=torch.int64), 8).double()
    assert same(read_weights, first.expand(7, 2, 8))
    assert same(write_weights, first.expand(7, 3, 8))
    assert same(h, torch.zeros(7, 5).double())
    assert same(c, h)
    assert same(read, torch.zeros(7, 2, 4).double())
    assert memory.shape == (7, 8, 4)
    assert (memory == memory[0]).all()
    assert memory.requires_grad == (memory_init == "learned")
    assert ("initial_memory" in cell.state_dict()) == isinstance(memory_init, str)
    if isinstance(memory_init, str):
        assert 0.5 / 12**0.5 < memory.abs().max() <= 1 / 12**0.5
    else:
        assert (memory == memory_init).all()
    assert cell.initial_state(0).memory.shape == (0, 8, 4)


def test_every_parameter_learns_of_a_learned_memory() -> None:
    model = build(NTM, memory_init="learned", num_read_heads=2, num_write_heads=2)
    model(torch.randn(4, 3, 3, dtype=torch.float64))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.count_nonzero() for p in model.parameters())
    assert model.cell.initial_memory.grad.shape == (8, 4)


@pytest.mark.parametrize("value", [-60.0, 0.0, 60.0])
def test_saturated_heads_pass_no_nan(backend: str, value: float) -> None:
    """Interface vectors far from 0: shifts, gates and erases are exactly 0 or 1, sharpness 61, strength 60."""
    for dtype in (torch.float32, torch.float64):
        model = build(NTM, dtype, backend=backend, num_write_heads=2)
        nn.init.constant_(model.cell.interface.bias, value)
        with torch.no_grad():
            model.cell.interface.bias[-9::3] = -value
        input = torch.randn(9, 2, 3, dtype=dtype, requires_grad=True)
        output, state = model(input)
        (output.square().sum() + state.memory.square().sum()).backward()
        for x in (output, *state[1:], input.grad, *(p.grad for p in model.parameters())):
            assert x.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("memory_init", [1e-6, "uniform", "learned"])
def test_half_precision_modules_run_with_a_float32_memory(dtype: torch.dtype, memory_init: float | str) -> None:
    model = build(NTM, torch.float32, memory_init=memory_init, num_write_heads=2).to(dtype)
    inputs = torch.randn(3, 2, 3, dtype=dtype)
    outputs, state = model(inputs)
    outputs, state = model(inputs, state)
    assert outputs.dtype == state.controller[0].dtype == dtype
    assert {x.dtype for x in state[1:]} == {torch.float32}
    outputs.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in model.parameters())
    wide = build(NTM, torch.float32, memory_init=memory_init, num_write_heads=2)
    wide.load_state_dict(model.state_dict(), strict=False)
    expected, _ = wide(inputs.float(), wide(inputs.float())[1])
    torch.testing.assert_close(outputs.float(), expected, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("module", [NTMCell, NTM])
def test_autocast_keeps_a_float32_memory(module: type) -> None:
    model = build(module, torch.float32)
    inputs = torch.randn(2, 3) if module is NTMCell else torch.randn(3, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = model(inputs)
        outputs, state = model(inputs, state)
    assert {x.dtype for x in state[1:]} == {torch.float32}
    torch.testing.assert_close(outputs.float(), model(inputs, model(inputs)[1])[0], rtol=0.05, atol=0.02)
    outputs.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """The block may raise, but only because of another instruction set."""
    try:
        yield
    except RuntimeError as error:
        if "another instruction set" not in str(error):
            raise


def test_a_backward_pass_under_another_instruction_set_raises_or_is_right() -> None:
    """An episode saves tensors in the layout of its instruction set; another one must not read them as its own."""
    isas, before = [isa for _, isa in CPP], native.isa()
    model = build(NTM, backend="cpp")
    input, results = torch.randn(5, 2, 3, dtype=torch.float64), {}
    try:
        for isa in isas:
            native.set_isa(isa)
            loss = model(input)[0].square().sum()
            for other in isas:
                native.set_isa(other)
                with contextlib.nullcontext() if isa == other else refusing():
                    gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
                    results[isa, other] = torch.cat([g.flatten() for g in gradients])
    finally:
        native.set_isa(before)
    for gradient in results.values():
        torch.testing.assert_close(gradient, results[isas[0], isas[0]], rtol=1e-9, atol=1e-12)


def copy_task(B: int) -> tuple[Tensor, Tensor]:
    """Three vectors of 4 bits, a delimiter, then zeros while the vectors are to be returned."""
    g = torch.Generator().manual_seed(3)
    bits = torch.randint(2, (3, B, 4), generator=g).float()
    inputs = torch.zeros(7, B, 5)
    inputs[:3, :, :4], inputs[3, :, 4] = bits, 1
    return inputs, bits


@pytest.mark.parametrize("B", [1, 256])
def test_learns_to_copy(B: int) -> None:
    torch.manual_seed(0)
    model, out = NTM(5, 32, 16, 8, memory_init="uniform"), nn.Linear(40, 4)
    inputs, bits = copy_task(B)
    optimizer, losses = torch.optim.Adam([*model.parameters(), *out.parameters()], 0.02), []
    for _ in range(60):
        loss = F.binary_cross_entropy_with_logits(out(model(inputs)[0][4:]), bits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.6  # log 2 is to guess
    assert losses[-1] < (0.02 if B == 1 else 0.5)  # one episode is learned by heart, 256 only with a memory
