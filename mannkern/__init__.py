"""Memory-augmented neural networks as fused operations with hand-written gradients."""

from mannkern import functional
from mannkern.backends import backend_info

__version__ = "0.1.0"
__all__ = ["backend_info", "functional"]
