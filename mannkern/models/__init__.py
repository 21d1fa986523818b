"""Models over episodes and sequences."""

from mannkern.models.classifier import EpisodeClassifier
from mannkern.models.transducer import Trace, Transducer

__all__ = ["EpisodeClassifier", "Trace", "Transducer"]
