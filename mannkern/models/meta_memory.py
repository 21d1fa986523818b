"""A meta-memory network: it has a memory of the support set, and fine-tunes itself on that set in a few steps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from mannkern.backends import check_name
from mannkern.functional import cosine_read
from mannkern.integers import check_integer
from mannkern.models.answer import Answer
from mannkern.models.checks import check_is_tensor, check_labels

LOSSES = ("cross_entropy", "mean_squared_error")


class MetaMemoryNetwork(nn.Module):
    """Few-shot classification or regression in five modules.

    B tasks, K support examples (of all classes together), Q queries, W the width of an embedding, O ``outputs``.

    1. Input: the ``embedding`` E, ``e = E(x)``.
    2. Memory, external: the slots of a task are its embedded support set ``M(i) = E(x_i)``. Slot i also stores the
       value ``v_i``, the one-hot label or the target of its example. An embedding reads the memory by content, through
       :func:`mannkern.functional.cosine_read`: ``w = softmax_i(b cos(e, M(i)))``, ``r = sum_i w(i) [M(i), v_i]``,
       with one learned strength ``b = exp(log_strength)``.
    3. Reasoning: ``layers`` layers of ``hidden_size`` ReLUs over ``[e, r]``, ``h``.
    4. Output: ``A h + c + vote * sum_i w(i) v_i``, logits of O classes or O numbers. The sum is the memory's answer,
       and ``A h + c`` corrects it. The weight ``vote`` is learned; it starts at 10 for labels, so that the memory's
       probabilities are decisive as logits, and at 1 for targets.
    5. Meta-learning: on a task, the parameters ``p`` of reasoning and output take ``steps`` gradient steps on its
       support set, ``p <- p - a * dL/dp``. L is the mean ``loss`` over the support set, and ``a`` holds a learned step
       size for each parameter (MAML of Finn et al. 2017 with the step sizes of Meta-SGD, Li et al. 2017). A gradient
       of a task that is longer than ``max_norm`` is shortened to it; otherwise a few tasks with large targets diverge.
       Training minimises the loss on the queries after these steps, over many tasks.

    Adaptation leaves the embedding and the memory as they are. A task's examples are therefore embedded and read once
    for any number of steps, and no gradient step goes through the embedding; docs/models/meta-memory.md says what this
    costs and saves. Both also stay outside torch.func's transforms, so the fused read can serve: the outer gradient,
    even of second order, needs only the read's first derivative.

    In the inner loop a support example reads the memory without its own slot, which would give its answer away. If a
    class of the task then has no slot left (it has a single example; or, for regression, the task has), every answer of
    the memory would be wrong. The support set of such a task reads an empty memory, ``r = 0``, and adaptation works on
    the embeddings alone. Queries always read the whole memory.

    embedding:      (..., *shape of an input) -> (..., embedding_size), any module
    loss:           "cross_entropy", labels (B, K) int64 in [0, O); or "mean_squared_error", targets (B, K, O)
    steps:          of the inner loop, in training; with 0 the network only reads its memory
    step_size:      initial value of the learned step sizes
    strength:       initial value of the learned strength
    max_norm:       largest norm of the gradient of one task in its inner loop; math.inf for none
    describe:       embeds a support set of vectors (B, K, A), such as descriptions of classes; default ``embedding``
    first_order:    True treats the gradients of the inner loop as constants in the outer gradient: cheaper, inexact
    backend:        of the read

    Raises ValueError for another ``loss`` or impossible sizes.

    >>> model = mannkern.models.MetaMemoryNetwork(mannkern.models.ConvEmbedding(64), 64, outputs=5)
    >>> support, labels = torch.rand(2, 5, 28, 28), torch.arange(5).expand(2, 5)
    >>> model.adapt(support, labels)(torch.rand(2, 3, 28, 28)).shape
    torch.Size([2, 3, 5])
    """

    def __init__(
        self,
        embedding: nn.Module,
        embedding_size: int,
        outputs: int,
        *,
        loss: str = "cross_entropy",
        hidden_size: int = 128,
        layers: int = 1,
        steps: int = 1,
        step_size: float = 0.1,
        strength: float = 10.0,
        max_norm: float = 10.0,
        first_order: bool = False,
        describe: nn.Module | None = None,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss: got {loss!r}, need {' or '.join(map(repr, LOSSES))}")
        sizes = {"embedding_size": embedding_size, "outputs": outputs, "hidden_size": hidden_size, "layers": layers}
        for name, size in sizes.items():
            check_integer(name, size)
        for name, value in {"step_size": step_size, "strength": strength, "max_norm": max_norm}.items():
            if not value > 0 or (name != "max_norm" and value == math.inf):
                raise ValueError(f"{name}: got {value}, need a number above 0")
        check_integer("steps", steps, 0)
        self.outputs = outputs
        self.loss = loss
        self.steps = steps
        self.max_norm = max_norm
        self.first_order = first_order
        check_name(backend)
        self.backend = backend
        self.embedding, self.embedding_size = embedding, embedding_size
        self.describe = describe
        self.log_strength = nn.Parameter(torch.tensor(math.log(strength)))
        vote = 10.0 if loss == "cross_entropy" else 1.0
        self.answer = Answer(2 * embedding_size + outputs, hidden_size, layers, outputs, vote)
        # in the order of self.answer.named_parameters()
        self.step_sizes = nn.ParameterList(torch.full_like(p, step_size) for p in self.answer.parameters())

    def forward(self, support: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
        """Support (B, K, ...), labels (B, K) or targets (B, K, O), queries (B, Q, ...) -> (B, Q, O).

        Equals ``adapt(support, labels)(queries)``, except that support set and queries are embedded together, so that
        in training mode an embedding with batch norm sees one batch.

        Raises ValueError or TypeError naming the argument.
        """
        self._check_support(support, labels)
        _check_queries(support, queries)
        if self._embedding_of(support) is self.embedding:
            memory, keys = self.embedding(torch.cat([support, queries], 1)).tensor_split((support.shape[1],), 1)
        else:
            memory, keys = self._embedding_of(support)(support), self.embedding(queries)
        return self._adapt(memory, self._values(labels, memory.dtype), labels, self.steps).answer(keys)

    def adapt(self, support: Tensor, labels: Tensor, *, steps: int | None = None) -> AdaptedNetwork:
        """Fine-tune on support sets (B, K, ...) with labels (B, K) or targets (B, K, O): B networks in one.

        steps: gradient steps, by default those of training. The parameters of this module stay as they are. (Batch
        norm in training mode adds the support set to its running statistics, as in any pass.)
        Raises ValueError or TypeError naming the argument.
        """
        self._check_support(support, labels)
        steps = self.steps if steps is None else steps
        check_integer("steps", steps, 0)
        memory = self._embedding_of(support)(support)
        return self._adapt(memory, self._values(labels, memory.dtype), labels, steps)

    def _embedding_of(self, support: Tensor) -> nn.Module:
        return self.embedding if self.describe is None or support.dim() > 3 else self.describe

    def _adapt(self, memory: Tensor, values: Tensor, labels: Tensor, steps: int) -> AdaptedNetwork:
        if memory.shape[2:] != (self.embedding_size,):
            got = tuple(memory.shape[2:])
            raise ValueError(f"embedding: got {got} for an input, need (embedding_size,) = ({self.embedding_size},)")
        shared = dict(self.answer.named_parameters())
        step_sizes = dict(zip(shared, self.step_sizes, strict=True))
        parameters = {name: p.expand(len(memory), *p.shape) for name, p in shared.items()}
        if steps:
            read = self._read_others(memory, values) * self._others_suffice(labels)
            features = torch.cat([memory, read], -1)
            gradients = vmap(self._support_gradient)
            for _ in range(steps):
                if self.first_order:
                    with torch.no_grad():  # torch.func.grad still differentiates here, the outer gradient does not
                        slopes = gradients(parameters, features, labels)
                else:
                    slopes = gradients(parameters, features, labels)
                parameters = {name: p - step_sizes[name] * slopes[name] for name, p in parameters.items()}
        return AdaptedNetwork(self, memory, values, parameters)

    def _support_gradient(self, parameters: dict[str, Tensor], features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The gradient of one task, shortened to ``max_norm``."""
        gradient = grad(self._support_loss)(parameters, features, labels)
        square = torch.stack([part.square().sum() for part in gradient.values()]).sum(0, keepdim=True)
        long = square > self.max_norm**2
        scale = torch.where(long, self.max_norm * torch.where(long, square, 1.0).rsqrt(), 1.0)
        return {name: scale * part for name, part in gradient.items()}

    def _support_loss(self, parameters: dict[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
        """The loss of one task: features (K, 2 W + O)."""
        outputs = functional_call(self.answer, parameters, (features,))
        if self.loss == "cross_entropy":
            return F.cross_entropy(outputs, labels)
        return F.mse_loss(outputs, labels.to(outputs.dtype))

    def _values(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """The values of the slots, (B, K, O)."""
        return (F.one_hot(labels, self.outputs) if self.loss == "cross_entropy" else labels).to(dtype)

    def read(self, memory: Tensor, values: Tensor, keys: Tensor) -> Tensor:
        """Memory (B, N, W), values (B, N, O), keys (B, R, W) -> (B, R, W + O): content and values read."""
        if keys.shape[1] == 0:  # nothing to read
            return torch.cat([keys, keys.new_zeros(*keys.shape[:2], self.outputs)], -1)
        strength = self.log_strength.exp().expand(keys.shape[:2])
        content, weights = cosine_read(memory, keys, strength, backend=self.backend)
        return torch.cat([content.to(keys.dtype), weights.to(values.dtype) @ values], -1)

    def _read_others(self, memory: Tensor, values: Tensor) -> Tensor:
        """(B, K, W + O): what each slot reads from a memory of all others."""
        B, K, W = memory.shape
        if K == 1:
            return torch.cat([memory, values], -1)  # there are no others; the caller multiplies this by 0
        slots = torch.arange(K, device=memory.device)
        others = slots[:-1] + (slots[:-1] >= slots[:, None])  # (K, K - 1): in each row all slots but one
        read = self.read(memory[:, others].flatten(0, 1), values[:, others].flatten(0, 1), memory.reshape(B * K, 1, W))
        return read.squeeze(1).unflatten(0, (B, K))

    def _others_suffice(self, labels: Tensor) -> Tensor:
        """(B, 1, 1) bool: whether every class of the task still has a slot when one of its examples is left out."""
        if self.loss != "cross_entropy":
            return torch.full((len(labels), 1, 1), labels.shape[1] > 1, device=labels.device)
        return ((labels[:, :, None] == labels[:, None]).sum(2) > 1).all(1)[:, None, None]

    def _check_support(self, support: Tensor, labels: Tensor) -> None:
        check_is_tensor("support", support)
        check_is_tensor("labels", labels)
        if support.dim() < 3 or support.shape[1] == 0:
            raise ValueError(f"support: got shape {tuple(support.shape)}, need (B, K, ...) with K at least 1")
        if self.loss == "cross_entropy":
            expected: tuple[int, ...] = tuple(support.shape[:2])
            if labels.dtype != torch.int64:
                raise TypeError(f"labels: got {labels.dtype}, need torch.int64")
        else:
            expected = (*support.shape[:2], self.outputs)
            if not labels.is_floating_point():
                raise TypeError(f"labels: got {labels.dtype}, need the targets, floating point")
        if tuple(labels.shape) != expected:
            raise ValueError(f"labels: got shape {tuple(labels.shape)}, need {expected}")
        if self.loss == "cross_entropy":
            check_labels(labels, self.outputs)


class AdaptedNetwork:
    """The result of :meth:`MetaMemoryNetwork.adapt`: for each of B tasks, its memory and its own parameters.

    memory:     (B, K, W), the embedded support set
    values:     (B, K, O), the one-hot labels or targets
    parameters: of reasoning and output, by name, each (B, *shape)
    """

    def __init__(self, model: MetaMemoryNetwork, memory: Tensor, values: Tensor, parameters: dict[str, Tensor]) -> None:
        self.model = model
        self.memory = memory
        self.values = values
        self.parameters = parameters

    def __call__(self, queries: Tensor) -> Tensor:
        """Queries (B, Q, ...) of the same tasks -> (B, Q, O). Raises ValueError for another B."""
        _check_queries(self.memory, queries)
        return self.answer(self.model.embedding(queries))

    def answer(self, embedded: Tensor) -> Tensor:
        """Embedded queries (B, Q, W) -> (B, Q, O)."""
        read = self.model.read(self.memory, self.values, embedded)
        features = torch.cat([embedded, read], -1)
        return vmap(lambda parameters, x: functional_call(self.model.answer, parameters, (x,)))(
            self.parameters, features
        )


def _check_queries(support: Tensor, queries: Tensor) -> None:
    check_is_tensor("queries", queries)
    if queries.dim() < 3 or queries.shape[0] != support.shape[0]:
        raise ValueError(f"queries: got shape {tuple(queries.shape)}, need (B, Q, ...) with B = {support.shape[0]}")
