"""``Muon``, an optimizer with which models with a memory learn from fewer examples than with Adam."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["Muon"]
MOMENTUM = 0.9
SMALLEST = 1e-7  # norm that still counts as a direction; that of PyTorch's Muon
RATIO = 2.0  # of a matrix's step to Adam's learning rate
ITERATIONS = 3
WIDE = 2  # columns for each row from which y y' is small
COEFFICIENTS = 3.4445, -4.775, 2.0315
GATES = {(nn.LSTM, nn.LSTMCell): 4, (nn.GRU, nn.GRUCell): 3}
OUTPUT_LAYERS = "head", "output"
FLAT = "_flat_param"  # what FSDP calls the parameters of several layers in one
GROUP_OPTIONS = {"params", "lr", "fused", "gates"}  # the last two are of the groups made here
CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the weight matrices of hidden layers, Adam for all other parameters.

    A step of a matrix goes along its momentum m, made orthogonal: a matrix near it whose singular values are near 1. So
    a step has one size in every direction, also in those that few gradients have. With the gradient g

        m = 0.9 m + 0.1 g
        step = 2 lr sqrt(max(1, rows / columns)) orthogonalized(0.1 g + 0.9 m)

    The gates of an LSTM or GRU are a matrix each, and so is the kernel of a convolution, with a row for each output
    channel. A MANN learns sooner with it than with Adam where it has ``key_strength=True`` (docs/models/mann.md,
    settings).

    model:  whose parameters are trained, those that are frozen now too once they have a gradient. Matrices are the
            weights of its linear, convolutional and recurrent layers; biases, a learned initial memory, transposed
            convolutions and embeddings are none.
    lr:     learning rate of Adam; the default is between 8e-3 and 1.6e-2, the best of four on Omniglot. For copy 2e-3
            was right, for regression 2e-2 (docs/facts/training.md)
    output_layers: names of the linear layers that end a network; they keep Adam, as Jordan advises. A last layer with
            another name than ``head`` or ``output`` has to be named here, by its name or the end of its path, such as
            ``"decoder.4"`` where other layers are called ``4`` too

    A layer with ``torch.nn.utils.parametrizations``, such as ``weight_norm``, has no matrix that could be stepped. It
    gets Adam, with a warning.

    A group that ``add_param_group`` adds gets Adam, with a learning rate of its own if it has ``lr``. So do complex
    parameters. Under ``torch.compile`` a step runs as it is.

    PyTorch's own Muon orthogonalises in bfloat16, which is slow on most CPUs, and takes the four gates for one matrix,
    at three times the cost.

    Raises TypeError or ValueError for a model that is no module or has no parameters, or those of FSDP with
    ``use_orig_params=False``, for an impossible ``lr``, and for names that no linear layer has. A step raises
    RuntimeError for a sparse gradient.

    >>> model = mannkern.models.EpisodeClassifier(mannkern.MANN(405, 200), 5)
    >>> optimizer = mannkern.optim.Muon(model, lr=1e-2)
    """

    def __init__(self, model: nn.Module, lr: float = 1e-2, *, output_layers: Collection[str] = OUTPUT_LAYERS) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: got {type(model).__name__}, need a torch.nn.Module")
        if isinstance(lr, bool) or not isinstance(lr, (int, float)):
            raise TypeError(f"lr: got {type(lr).__name__}, need a number")
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr: got {lr}, need a number of at least 0")
        if isinstance(output_layers, str):
            raise TypeError(f"output_layers: got {output_layers!r}, need a collection of names")
        linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
        unknown = sorted(name for name in set(output_layers) if not any(is_called(x, (name,)) for x in linear))
        if output_layers != OUTPUT_LAYERS and unknown:
            names = ", ".join(linear) or "no linear layer"
            raise ValueError(f"output_layers: got {unknown[0]!r}, need names of linear layers; the model has {names}")
        if any(name.split(".")[-1] == FLAT for name, _ in model.named_parameters()):
            raise ValueError("model: got the flat parameters of FSDP, need use_orig_params=True, or fully_shard")
        gates = gates_of_matrices(model, output_layers)
        if parametrized := [name for name, layer in model.named_modules() if hasattr(layer, "parametrizations")]:
            warnings.warn(f"model: {parametrized[0]!r} is parametrized, so Adam steps its parameters", stacklevel=2)
        others = [x for x in model.parameters() if x not in gates]
        if not gates and not others:
            raise ValueError("model: got a module without parameters")
        groups: list[dict[str, Any]] = [
            {"params": others, "fused": True},  # by which load_state_dict keeps the steps on the parameters' device
            {"params": list(gates), "gates": list(gates.values())},
        ]
        super().__init__(groups, {"lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As of every optimizer. Raises ValueError for options of a group that have no effect here."""
        for name in param_group:
            if name not in GROUP_OPTIONS:
                raise ValueError(f"param_group: got {name!r}, need params and lr alone")
        super().add_param_group(param_group)

    # the loops over gates and groups would be compiled wrongly, without an error
    @torch._disable_dynamo  # type: ignore[attr-defined]
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """As of every optimizer: returns what ``closure``, if given, returns."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            if any(x.grad is not None and x.grad.layout != torch.strided for x in group["params"]):
                raise RuntimeError("Muon takes no sparse gradients; got one, need dense gradients")
            if "gates" in group:
                for x, gates in zip(group["params"], group["gates"], strict=True):
                    if x.grad is not None and x.numel():
                        self._step_matrix(x, gates, RATIO * group["lr"])
                continue
            for x in group["params"]:
                if x.grad is not None and not self.state[x]:
                    step = torch.zeros((), dtype=torch.float32, device=x.device)
                    self.state[x] |= {"step": step, "exp_avg": torch.zeros_like(x), "exp_avg_sq": torch.zeros_like(x)}
            alike: dict[bool, list[Tensor]] = {True: [], False: []}
            for x in group["params"]:
                if x.grad is not None:
                    strides = x.stride(), x.grad.stride(), self.state[x]["exp_avg"].stride()
                    alike[not x.is_complex() and len(set(strides)) == 1].append(x)
            for fused, parameters in alike.items():
                if parameters:
                    self._step_adam(parameters, group["lr"], fused)
        return result

    def _step_adam(self, parameters: list[Tensor], lr: float, fused: bool) -> None:
        """fused: in one pass over numbers and moments, a third of the time on a CPU; it trusts equal strides."""
        states = [self.state[x] for x in parameters]
        adam(
            parameters,
            [x.grad for x in parameters if x.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def _step_matrix(self, x: Tensor, gates: int, size: float) -> None:
        state, gradient = self.state[x], x.grad
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(x)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(momentum, MOMENTUM)
        matrices = [part.flatten(1) for part in ahead.chunk(gates)]  # of a convolution: a row for each output channel
        rows, columns = matrices[0].shape
        directions = [orthogonalized(matrix) for matrix in matrices]
        # at once, because a part of a sharded parameter is a copy
        direction = directions[0] if gates == 1 else torch.cat(directions)
        x.sub_(direction.view_as(x), alpha=size * max(1.0, rows / columns) ** 0.5)


def gates_of_matrices(model: nn.Module, output_layers: Collection[str]) -> dict[Tensor, int]:
    """The weights of the hidden layers of ``model`` by whose matrices Muon steps, and how many matrices each holds."""
    found: dict[Tensor, int] = {}
    for layer, module in model.named_modules():
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            gates = next((gates for kinds, gates in GATES.items() if isinstance(module, kinds)), 1)
        elif isinstance(module, nn.Linear) and not is_called(layer, output_layers):
            gates = 1
        elif isinstance(module, CONVOLUTIONS):
            gates = module.groups
        else:
            continue
        for name, x in module.named_parameters(recurse=False):
            if x.ndim > 1 and not x.is_complex():
                found[x] = 1 if name.startswith("weight_hr") else gates  # the projection of an LSTM with proj_size
    return found


def is_called(path: str, names: Collection[str]) -> bool:
    """Whether the layer at ``path`` in its model has one of ``names``: the path's end, such as 4 or decoder.4."""
    return any(f".{path}".endswith(f".{name}") for name in names)


def orthogonalized(x: Tensor) -> Tensor:
    """A matrix (m, n) with the singular vectors of x, and singular values near 1 where those of x are not too small.

    Three Newton-Schulz iterations x <- a x + b (x x') x + c (x x')^2 x from x / |x|, with Jordan's coefficients. Values
    under 0.02 |x| grow nearly fortyfold, the others end between 0.68 and 1.21. In float32 for half precision. Where
    |x| is under 1e-7, as of a momentum long after the last gradient, the result is smaller by as much.
    """
    tall = x.shape[0] > x.shape[1]
    y = (x.mT if tall else x).to(torch.promote_types(x.dtype, torch.float32))
    y = y / y.norm().clamp_min(SMALLEST)
    if y.shape[1] < WIDE * y.shape[0]:
        for _ in range(ITERATIONS):
            y = _factor(y @ y.mT) @ y
    else:  # all factors first, because products of the small y y' are cheaper
        y = _factors(y @ y.mT) @ y
    return (y.mT if tall else y).to(x.dtype)


def _factor(square: Tensor) -> Tensor:
    """What an iteration multiplies x with, a + b x x' + c (x x')^2, from x x'."""
    a, b, c = COEFFICIENTS
    factor = torch.addmm(square, square, square, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


def _factors(square: Tensor) -> Tensor:
    """The product of the factors of all iterations, from x x' before the first."""
    product = factor = _factor(square)
    for _ in range(ITERATIONS - 1):
        square = factor @ square @ factor
        factor = _factor(square)
        product = factor @ product
    return product
