"""The runtime of a run: optimizers, devices that do not work, and the evaluation mode."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mannkern.backends import native
from mannkern.experiments.algorithmic.config import CopyConfig, NGramsConfig, PrioritySortConfig, RepeatCopyConfig
from mannkern.experiments.algorithmic.experiment import AlgorithmicExperiment
from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.gaussian_processes.config import GaussianProcessConfig
from mannkern.experiments.one_shot.config import OneShotConfig
from mannkern.training.errors import CommandError
from mannkern.training.runtime import (
    eval_mode,
    learning_rate,
    load_model,
    make_optimizer,
    set_learning_rate,
    train_step,
    usable_device,
    use_threads,
)
from tests.helpers import pretend_gpu
from tests.training.parabola import Parabola

CPU = torch.device("cpu")
COSINE = [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0]


def test_a_step_of_adam_by_hand() -> None:
    """Adam's first step is the learning rate, by default 1e-3, against the sign of the gradient."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = make_optimizer(OneShotConfig(optimizer="adam"), model)
    model(torch.tensor([[5.0]])).backward()
    optimizer.step()
    assert model.weight.item() == pytest.approx(1 - 1e-3)


@pytest.mark.parametrize(("clip", "step"), [(0.0, 6), (2.0, 2), (10.0, 6)])
def test_a_gradient_longer_than_the_limit_is_shortened_to_it(clip: float, step: int) -> None:
    """At w = 0 the gradient of (w - 3)^2 is -6; SGD with the rate 1 steps by as much. The norm is that before."""
    model = Parabola().make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss, norm, _ = train_step(Parabola(), model, optimizer, torch.ones(1, 1), clip)
    assert (loss.item(), norm.item()) == (9, 6)
    assert model.weight.item() == pytest.approx(step, abs=1e-5)


def test_the_learning_rate_falls_to_zero() -> None:
    """Over four steps from 1e-2, in both groups: linearly in quarters; by a cosine 1, 0.854, 0.5, 0.146; then 0."""
    optimizer = make_optimizer(OneShotConfig(), nn.Linear(1, 1))
    for decay, shares in (("none", [1, 1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25, 0]), ("cosine", COSINE)):
        config = OneShotConfig(lr_decay=decay, steps=4)
        rates = []
        for step in range(5):
            set_learning_rate(config, optimizer, step)
            assert len({group["lr"] for group in optimizer.param_groups}) == 1
            rates.append(optimizer.param_groups[0]["lr"])
        assert rates == pytest.approx([1e-2 * share for share in shares], abs=1e-12)
    longer = OneShotConfig(lr_decay="linear", decay_steps=8, steps=4, lr=0.5)
    set_learning_rate(longer, optimizer, 2)
    assert optimizer.param_groups[0]["lr"] == 0.375


def test_the_default_rate_is_that_of_the_optimizer_and_the_task() -> None:
    assert learning_rate(OneShotConfig()) == 1e-2
    assert learning_rate(CopyConfig()) == learning_rate(RepeatCopyConfig()) == 2e-3
    assert learning_rate(GaussianProcessConfig()) == 2e-2
    assert learning_rate(CopyConfig(optimizer="rmsprop")) == 1e-4
    assert (learning_rate(NGramsConfig()), learning_rate(PrioritySortConfig())) == (5e-4, 1e-3)
    assert learning_rate(GaussianProcessConfig(optimizer="adam")) == 1e-3
    assert learning_rate(CopyConfig(lr=0.5)) == 0.5


def test_rmsprop_is_centered_on_the_algorithmic_tasks_alone() -> None:
    model = nn.Linear(1, 1)
    forms = []
    for config in (OneShotConfig(optimizer="rmsprop"), NGramsConfig(), CopyConfig(optimizer="rmsprop", lr=0.1)):
        options = make_optimizer(config, model).param_groups[0]
        forms.append([options[name] for name in ("lr", "alpha", "momentum", "centered", "eps")])
    assert forms == [[1e-4, 0.95, 0.9, False, 1e-8], [5e-4, 0.95, 0.9, True, 1e-4], [0.1, 0.95, 0.9, True, 1e-4]]


@pytest.mark.parametrize(("device", "backend"), [("nonsense", None), ("cpu", "nonsense"), ("cpu", "cuda")])
def test_a_device_that_does_not_work_is_named(device: str, backend: str | None) -> None:
    at_fault = f"--device {device}" if backend is None else "--backend"
    with pytest.raises(CommandError, match=f"^{at_fault}: ") as caught:
        usable_device(OneShotConfig(device=device, backend=backend))
    assert "\n" not in str(caught.value)
    assert usable_device(OneShotConfig()) == CPU


def test_a_backend_that_has_the_episode_alone_may_train_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """``cuda`` has none of LRUA's other operations, and takes the sizes that its kernel takes."""
    asked = []
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(native, "persistent_why_not", lambda device, *sizes: asked.append(sizes) or "")
    monkeypatch.setattr(torch, "empty", lambda *args, **options: None)
    device = usable_device(OneShotConfig(device="cuda", backend="cuda", hidden_size=100))
    assert (device.type, asked) == ("cuda", [(100, 128, 40, 4)])
    for model in ("lstm", "ntm"):
        usable_device(OneShotConfig(device="cuda", backend="reference", model=model))
    with pytest.raises(CommandError, match=r"^--backend: got 'cuda', need another: backend 'cuda' has no kernels"):
        usable_device(FewShotConfig(device="cuda", backend="cuda"))
    assert len(asked) == 1


def test_evaluation_mode_ends() -> None:
    model = nn.Dropout().train()
    drawn = []
    for seed in range(2):
        state = torch.manual_seed(seed).get_state()
        with eval_mode(model, CPU):
            assert not model.training
            assert not torch.is_grad_enabled()
            drawn.append(torch.rand(()).item())
    assert drawn[0] == drawn[1], "every evaluation draws the same"
    assert model.training
    with eval_mode(model.eval(), CPU):
        pass
    assert not model.training, "a model is put back into the mode that it was in"
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_without_a_checkpoint_has_no_model(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=f"^{tmp_path} has no checkpoint yet"):
        load_model(tmp_path, AlgorithmicExperiment(CopyConfig()), CPU)


def test_threads(threads: Callable[[int], None]) -> None:
    """A run without a number has that of the process, also behind a run that had its own."""
    threads(4)
    taken = []
    for number in (None, 3, None, 1, 2, None):
        use_threads(OneShotConfig(threads=number))
        taken.append(torch.get_num_threads())
    assert taken == [4, 3, 4, 1, 2, 4]
    threads(5)
    use_threads(OneShotConfig())
    assert torch.get_num_threads() == 5, "what others set later counts"
