"""Meta Networks in small, and as plain loops over episodes, examples and queries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mannkern.models import MetaNetwork
from mannkern.models.layer_augmentation import AugmentedNetwork, Weights

SMALL: dict[str, Any] = {"width": 6, "blocks": 2, "meta_size": 6}


def build(num_classes: int = 3, augmented: int = 1, **options: Any) -> MetaNetwork:
    """In float64, in evaluation mode; running statistics that are not the first."""
    torch.manual_seed(0)
    model = MetaNetwork(num_classes, augmented_blocks=augmented, **SMALL | options).double()
    model(*episodes(8, num_classes))
    return model.eval()


def episodes(B: int, C: int = 3, K: int = 1, Q: int = 4, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    support = torch.rand(B, C * K, 8, 8, generator=g, dtype=torch.float64)
    labels = torch.arange(C * K).remainder(C)[torch.rand(B, C * K, generator=g).argsort(1)]
    return support, labels, torch.rand(B, Q, 8, 8, generator=g, dtype=torch.float64)


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def plain_forward(network: AugmentedNetwork, x: Tensor, fast: Weights | None) -> tuple[Tensor, Tensor]:
    """Examples (n, channels, S, S) by shared weights, through F.conv2d: hidden before its ReLU, summed, and logits."""
    other = {name: torch.zeros_like(network.get_parameter(name)) for name in network.augmented()} | (fast or {})
    for k, layer in enumerate(network.convolutions):
        y = F.relu(F.conv2d(x, layer.weight, padding=1)) + F.relu(
            F.conv2d(x, other[f"convolutions.{k}.weight"], padding=1)
        )
        x = F.max_pool2d(y, 2)
    x = x.mean((2, 3))
    slow, quick = x @ network.hidden.weight.T, x @ other["hidden.weight"].T
    h = F.relu(slow) + F.relu(quick)
    return slow + quick, h @ network.output.weight.T + h @ other["output.weight"].T


def plain(model: MetaNetwork, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Algorithm 1 as loops over episodes, parts, examples and queries."""
    u, b = model.embedding, model.learner

    def gradients(network: AugmentedNetwork, images: Tensor, targets: Tensor) -> Weights:
        names = network.augmented()
        logits = plain_forward(network, network.trunk(images.unsqueeze(1)), None)[1]
        weights = [network.get_parameter(name) for name in names]
        found = torch.autograd.grad(F.cross_entropy(logits, targets), weights, create_graph=True)
        return dict(zip(names, found, strict=True))

    def kind(name: str) -> str:
        return "linear" if name in ("hidden.weight", "output.weight") else "convolutions"

    def read(keys: list[Tensor], key: Tensor, memory: list[Weights]) -> Weights:
        a = (model.strength * torch.stack([F.cosine_similarity(key, k, dim=0) for k in keys])).softmax(0)
        return {name: sum(w * m[name] for w, m in zip(a, memory, strict=True)) for name in memory[0]}

    logits = []
    for x, y, q in zip(support, labels, queries, strict=True):
        parts = zip(x.tensor_split(min(model.steps, len(x))), y.tensor_split(min(model.steps, len(y))), strict=True)
        seen = [gradients(u, *part) for part in parts]
        task = {
            name: model.task_weights[kind(name)](torch.stack([g[name] for g in seen])[:, None])[0]
            for name in u.augmented()
            if name != "output.weight"
        }
        keys = [plain_forward(u, u.trunk(image[None, None]), task)[0][0] for image in x]
        memory = []
        for image, label in zip(x, y, strict=True):
            found = gradients(b, image[None], label[None])
            memory.append({name: model.example_weights[kind(name)](g[None, None])[0, 0] for name, g in found.items()})
        answers = []
        for image in q:
            key = plain_forward(u, u.trunk(image[None, None]), task)[0][0]
            answers.append(plain_forward(b, b.trunk(image[None, None]), read(keys, key, memory))[1][0])
        logits.append(torch.stack(answers))
    return torch.stack(logits)
