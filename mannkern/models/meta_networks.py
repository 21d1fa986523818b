"""Meta Networks (Munkhdalai and Yu 2017): fast weights made from the loss gradients of the support set."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern.functional import cosine_read
from mannkern.models.layer_augmentation import AugmentedNetwork, Weights

CUTOFF = 7.0
"""p of :func:`preprocess`: gradients under e^-7 are small (the authors' code; Andrychowicz et al. use 10)."""


def preprocess(gradients: Tensor) -> Tensor:
    """(...) -> (2, ...): (log|g| / p, sign g), or (-1, e^p g) where \\|g\\| < e^-p; Andrychowicz et al. 2016, appendix A."""
    size = gradients.abs()
    large = size >= math.exp(-CUTOFF)
    log = torch.where(large, torch.where(large, size, 1.0).log() / CUTOFF, -1.0)  # no log of 0 in the gradient
    return torch.stack([log, torch.where(large, gradients.sign(), gradients * math.exp(CUTOFF))])


class ExampleWeights(nn.Module):
    """m with Z: the fast weight of every coordinate from its gradient alone, by one MLP for all of them."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(2, hidden_size), nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, 1)]
        )
        _initialize(*self.layers)

    def forward(self, gradients: Tensor) -> Tensor:
        """gradients (...) -> weights (...)."""
        x = preprocess(gradients).flatten(1)
        for k, layer in enumerate(self.layers):  # coordinates last: long rows
            x = torch.addmm(layer.bias[:, None], layer.weight, F.relu(x) if k else x)
        return x.view(gradients.shape)


class TaskWeights(nn.Module):
    """d with G: the fast weight of every coordinate from its T gradients in a row, by one LSTM for all of them."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, hidden_size)
        self.output = nn.Linear(hidden_size, 1)
        _initialize(self.output)

    def forward(self, gradients: Tensor) -> Tensor:
        """gradients (T, ...) -> weights (...), of the LSTM's last output."""
        lstm = self.lstm
        bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0)[:, None]
        hidden = cell = None
        for x in preprocess(gradients).flatten(2).unbind(1):  # nn.LSTM's equations, coordinates last: half its time
            gates = torch.addmm(bias, lstm.weight_ih_l0, x)
            if hidden is not None:
                gates = torch.addmm(gates, lstm.weight_hh_l0, hidden)
            i, f, g, o = gates.chunk(4)
            new = torch.sigmoid(i) * torch.tanh(g)
            cell = new if cell is None else torch.addcmul(new, torch.sigmoid(f), cell)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
        return torch.addmm(self.output.bias[:, None], self.output.weight, hidden).view(gradients.shape[1:])


def _initialize(*layers: nn.Module) -> None:
    """Normal with the variance of one over the inputs, as Chainer's default; the last a tenth of it: fast weights start small."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5 * (0.1 if layer is layers[-1] else 1.0))
        nn.init.zeros_(layer.bias)


class MetaNetwork(nn.Module):
    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 64,
        blocks: int = 4,
        augmented_blocks: int = 0,
        steps: int = 5,
        meta_size: int = 20,
        second_order: bool = True,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.embedding = AugmentedNetwork(num_classes, width, blocks, augmented_blocks)
        self.learner = AugmentedNetwork(num_classes, width, blocks, augmented_blocks)
        kinds = ("convolutions", "linear") if augmented_blocks else ("linear",)
        self.task_weights = nn.ModuleDict({kind: TaskWeights(meta_size) for kind in kinds})
        self.example_weights = nn.ModuleDict({kind: ExampleWeights(meta_size) for kind in kinds})
        self.steps, self.second_order, self.backend = steps, second_order, backend

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        N, Q = labels.shape[1], queries.shape[1]
        images = torch.cat([support, queries], 1)
        embedded, learned = self.embedding.features(images), self.learner.features(images)

        names = self.embedding.augmented()[:-1]
        fast = {}
        for name, gradient in self._gradients(self.embedding, names, embedded[:, :N], labels).items():
            groups = gradient.tensor_split(min(self.steps, N), 1)
            fast[name] = self.task_weights[kind(name)](torch.stack([group.mean(1) for group in groups]))
        keys = self.embedding.embed(embedded, fast)
        _, weights = cosine_read(keys[:, :N], keys[:, N:], backend=self.backend)

        names = self.learner.augmented()
        fast = {}
        for name, gradient in self._gradients(self.learner, names, learned[:, :N], labels).items():
            memory = self.example_weights[kind(name)](gradient)
            fast[name] = (weights @ memory.flatten(2)).view(-1, *gradient.shape[2:])
        return self.learner.classify(learned[:, N:].flatten(0, 1).unsqueeze(1), fast).view(-1, Q, self.learner.output.out_features)

    def _gradients(self, network: AugmentedNetwork, names: list[str], features: Tensor, labels: Tensor) -> Weights:
        weights = {name: network.get_parameter(name) for name in names}

        def loss(weights: Weights, x: Tensor, y: Tensor) -> Tensor:
            logits = torch.func.functional_call(network, weights, (x[None, None],))
            return F.cross_entropy(logits[0], y[None])

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        if not self.second_order:
            features = features.detach()
        with torch.set_grad_enabled(self.second_order and torch.is_grad_enabled()):
            gradients = each(weights, features.flatten(0, 1), labels.flatten())
        return {name: gradient.unflatten(0, labels.shape) for name, gradient in gradients.items()}


def kind(name: str) -> str:
    return name.split(".")[0] if name.startswith("convolutions") else "linear"
