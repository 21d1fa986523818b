"""Memory-augmented neural networks as fused operations with hand-written gradients."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mannkern import functional
from mannkern.backends.info import backend_info
from mannkern.loading import TrainedModel, load
from mannkern.memories.lrua import MANN, MANNCell, MANNState
from mannkern.memories.ntm import NTM, NTMCell, NTMState

if TYPE_CHECKING:
    from mannkern import models as models
    from mannkern import optim as optim
    from mannkern import reference as reference
    from mannkern import tasks as tasks
    from mannkern import viz as viz

__version__ = "0.1.0"
__all__ = [
    "MANN",
    "NTM",
    "MANNCell",
    "MANNState",
    "NTMCell",
    "NTMState",
    "TrainedModel",
    "backend_info",
    "functional",
    "load",
]
# imported at their first use, because most programs use none
_SUBMODULES = ("models", "optim", "reference", "tasks", "viz")


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"mannkern.{name}")
    raise AttributeError(f"module 'mannkern' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
