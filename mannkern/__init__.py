"""Memory-augmented neural networks as fused operations with hand-written gradients."""

from mannkern import functional
from mannkern.backends.info import backend_info
from mannkern.loading import TrainedModel, load
from mannkern.memories.lrua import MANN, MANNCell, MANNState
from mannkern.memories.ntm import NTM, NTMCell, NTMState

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
