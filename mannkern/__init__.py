"""Memory-augmented neural networks as fused operations with hand-written gradients."""

from mannkern import functional
from mannkern.backends import backend_info
from mannkern.cells import MANNCell, MANNState, NTMCell, NTMState
from mannkern.sequence import MANN, NTM

__version__ = "0.1.0"
__all__ = ["MANN", "NTM", "MANNCell", "MANNState", "NTMCell", "NTMState", "backend_info", "functional"]
