"""``write="key"``: the key itself is written, as in the paper, in a step and in the compiled loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mannkern import MANN
from tests.memories.sequences import check, episode


def build(write: str, **options: object) -> MANN:
    torch.manual_seed(0)
    return MANN(3, 5, 8, 4, 2, write=write, dtype=torch.float64, **options)  # type: ignore[arg-type]


def test_example() -> None:
    """One slot is read, least used and set to zero, so both halves of its write weight add the key to it."""
    mann = MANN(3, 5, 1, 2, 1, write="key")
    mann.cell.interface.weight.data.zero_()
    mann.cell.interface.bias.data.copy_(torch.tensor([1.0, -2.0, 0.0]))
    _, state = mann(torch.zeros(1, 1, 3))
    assert mann.cell.interface.out_features == 3
    torch.testing.assert_close(state.memory.flatten(), torch.tensor([1.0, -2.0]).tanh())


@pytest.mark.parametrize("controller", ["lstm", "feedforward"])
@pytest.mark.parametrize("key_strength", [False, True])
@pytest.mark.parametrize("T", [1, 9])
def test_the_compiled_loop_is_the_loop(controller: str, key_strength: bool, T: int) -> None:
    model = build("key", controller=controller, key_strength=key_strength, backend="cpp")
    output, _ = model(episode(model, T, B=3)[0])
    assert "MANNEpisode" in type(output.grad_fn).__name__
    check(model, *episode(model, T, B=3))


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_it_is_an_add_with_the_weights_of_the_key(backend: str) -> None:
    """An ordinary MANN whose rows of the add equal those of the key does the same; its two gradients add up."""
    model, ordinary = build("key", backend=backend), build("add", backend=backend)
    weights = model.state_dict()
    for name in ("cell.interface.weight", "cell.interface.bias"):
        weights[name] = torch.cat([weights[name][:8], weights[name]])
    ordinary.load_state_dict(weights)
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    gradients: list[Tensor] = []
    for m in (model, ordinary):
        output, _ = m(x)
        gradients.append(torch.autograd.grad(output.square().sum(), m.cell.interface.weight)[0])
    torch.testing.assert_close(model(x), ordinary(x), rtol=1e-12, atol=1e-12)
    key, add, rest = gradients[1].split([8, 8, 2])
    torch.testing.assert_close(gradients[0], torch.cat([key + add, rest]), rtol=1e-10, atol=1e-12)
