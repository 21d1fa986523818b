"""Meta Networks (Munkhdalai and Yu 2017): networks whose fast weights come from gradients on the support set."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mannkern import functional
from mannkern.backends import check_name
from mannkern.integers import check_integer
from mannkern.models.checks import check_episode
from mannkern.models.fast_weights import ExampleWeights, TaskWeights
from mannkern.models.layer_augmentation import AugmentedNetwork, Weights
from mannkern.models.pair_loss import pair_gradients


class MetaNetwork(nn.Module):
    """Classes of queries by a base learner that reads its fast weights from a memory (algorithm 1).

    There are four sets of slow weights: Q of the embedding u and W of the base learner b (both
    :class:`AugmentedNetwork`), G of d (:class:`TaskWeights`) and Z of m (:class:`ExampleWeights`). For an episode of N
    examples (x'_i, y'_i):

        Q* = d(G, grad_Q L(u(Q, x'_j), y'_j), j = 1..T)     fast weights of the task
        R_i = u(Q, Q*, x'_i)                                 keys
        M_i = m(Z, grad_W L(b(W, x'_i), y'_i))               fast weights of an example
        W* = sum_i a_i M_i,  a = softmax_i b cos(R_i, u(Q, Q*, x))
        logits = b(W, W*, x)                                 of a query x

    L is cross entropy for u and for b, the authors' choice where a class has one example. For more examples the paper
    has a contrastive loss of pairs for u, ``pairs``: each example with the next of its class and the next of another
    (:mod:`mannkern.models.pair_loss`). The paper samples T examples. As in the authors' code,
    the support set is cut into T parts in its order instead, and the gradients of a part are averaged, so that every
    example counts; with N <= T each example is a part. The order of the parts matters to the LSTM d alone.

    Gradients of a loss on the logits flow into all slow weights, also through the gradients above (second order).
    Without the latter, u's output layer would never learn. The authors' code takes those gradients for constants.

    Three things differ from the authors' code, because ReLUs fall silent early in training without them: fast weights
    are divided by the root of the number of a layer's inputs, d and m start as odd functions of the gradient, and slow
    output layers start small.

    num_classes:      C
    width:            filters of a convolution, and units of the layer after them
    augmented_blocks: how many of the ``blocks``, from the last one back, have fast weights; the two layers after them
        always have. The authors augment all five of their blocks for Omniglot and the last two for mini-ImageNet.
        Every augmented weight costs T steps of an LSTM and an MLP for each example, so on a CPU a network with 0
        augmented blocks learns most in the same time.
    steps:            T
    meta_size:        hidden units of d and m, which exist once for convolutions and once for the other layers
    strength:         b, the sharpness of the attention; 1 in the paper
    pairs:            whether u's loss is that of pairs; u's output layer then has no use
    round_up:         whether pooling rounds odd sides up, as the authors' does: 28 pixels then pass five blocks
    backend:          of :func:`mannkern.functional.cosine_read`, which computes the attention

    In training, batch norm takes its statistics over the support sets and queries of a batch together. In evaluation
    no prediction depends on other queries or episodes.

    Raises ValueError for numbers out of range.

    >>> model = mannkern.models.MetaNetwork(num_classes=5)
    >>> support, labels = torch.rand(2, 5, 28, 28), torch.arange(5).expand(2, 5)
    >>> model(support, labels, torch.rand(2, 3, 28, 28)).shape
    torch.Size([2, 3, 5])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 64,
        blocks: int = 4,
        augmented_blocks: int = 0,
        steps: int = 5,
        meta_size: int = 20,
        strength: float = 1.0,
        pairs: bool = False,
        round_up: bool = False,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("width", width), ("blocks", blocks), ("steps", steps)):
            check_integer(name, value)
        if meta_size < 2 or meta_size % 2:
            raise ValueError(f"meta_size: got {meta_size}, need an even number of at least 2")
        if not 0 <= augmented_blocks <= blocks:
            raise ValueError(f"augmented_blocks: got {augmented_blocks}, need 0 to blocks = {blocks}")
        if not 0 < strength < math.inf:
            raise ValueError(f"strength: got {strength}, need a finite number above 0")
        self.num_classes = num_classes
        self.strength = strength
        self.least_side = 1 if round_up else 2**blocks
        self.gradients = pair_gradients if pairs else example_gradients
        self.steps = steps
        check_name(backend)
        self.backend = backend
        sizes = num_classes, width, blocks, augmented_blocks, round_up
        self.embedding, self.learner = AugmentedNetwork(*sizes), AugmentedNetwork(*sizes)
        kinds = ("convolutions", "linear") if augmented_blocks else ("linear",)
        self.task_weights = nn.ModuleDict({kind: TaskWeights(meta_size) for kind in kinds})
        self.example_weights = nn.ModuleDict({kind: ExampleWeights(meta_size) for kind in kinds})

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        """support (B, N, P, P), labels (B, N) int64 in [0, C), queries (B, Q, P, P) -> logits (B, Q, C).

        Raises ValueError or TypeError for shapes and labels that do not fit (labels on a GPU are not checked).
        """
        check_episode(support, labels, queries, self.num_classes)
        if min(support.shape[2:]) < self.least_side:
            raise ValueError(f"support: got {tuple(support.shape[2:])} pixels, need at least {self.least_side} a side")
        N, Q = support.shape[1], queries.shape[1]
        if support.shape[0] == 0 or Q == 0:  # nothing to answer
            return support.new_zeros(support.shape[0], Q, self.num_classes)
        images = torch.cat((support, queries), 1)  # together, so that one batch norm sees both
        embedded, learned = self.embedding.features(images), self.learner.features(images)
        fast = self.task_level(embedded[:, :N], labels)
        keys = self.embedding.embed(embedded, fast)
        memory = self.example_level(learned[:, :N], labels)
        strength = keys.new_full((len(keys), Q), self.strength)
        _, weights = functional.cosine_read(keys[:, :N], keys[:, N:], strength, backend=self.backend)  # (B, Q, N)
        fast = {name: (weights.to(x.dtype) @ x.flatten(2)).view(-1, *x.shape[2:]) for name, x in memory.items()}
        return self.learner(learned[:, N:].flatten(0, 1).unsqueeze(1), fast).view(-1, Q, self.num_classes)

    def task_level(self, features: Tensor, labels: Tensor) -> Weights:
        """Q*, weights (B, ...), of the embedding's features (B, N, channels, S, S) and labels (B, N)."""
        fast = {}
        for name, gradients in self.gradients(self.embedding, features, labels).items():
            if name != "output.weight":  # keys do not pass through it
                parts = gradients.tensor_split(min(self.steps, labels.shape[1]), 1)
                fast[name] = self.task_weights[_kind(name)](torch.stack([part.mean(1) for part in parts]))
        return fast

    def example_level(self, features: Tensor, labels: Tensor) -> Weights:
        """M, weights (B, N, ...), of the base learner's features (B, N, channels, S, S) and labels (B, N)."""
        gradients = example_gradients(self.learner, features, labels)
        return {name: self.example_weights[_kind(name)](x) for name, x in gradients.items()}


def example_gradients(network: AugmentedNetwork, features: Tensor, labels: Tensor) -> Weights:
    """Meta information: the gradient of each example's loss for every augmented weight, with slow weights alone.

    features (B, N, channels, S, S), labels (B, N) -> gradients (B, N, ...), which can be differentiated once more.
    """

    def loss(weights: Weights, x: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(network, weights, (x[None, None],))
        return F.cross_entropy(logits[0], label[None])

    weights: Weights = {name: network.get_parameter(name) for name in network.augmented()}
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    gradients = each(weights, features.flatten(0, 1), labels.flatten())
    return {name: x.unflatten(0, labels.shape) for name, x in gradients.items()}


def _kind(name: str) -> str:
    return "convolutions" if name.startswith("convolutions") else "linear"
