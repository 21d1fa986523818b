"""Models over episodes and sequences."""

from mannkern.models.classifier import EpisodeClassifier
from mannkern.models.embedding import ConvEmbedding
from mannkern.models.matching import MatchingNetwork
from mannkern.models.meta_memory import AdaptedNetwork, MetaMemoryNetwork
from mannkern.models.meta_networks import MetaNetwork
from mannkern.models.neighbours import NearestNeighbours
from mannkern.models.transducer import Trace, Transducer

__all__ = [
    "AdaptedNetwork",
    "ConvEmbedding",
    "EpisodeClassifier",
    "MatchingNetwork",
    "MetaMemoryNetwork",
    "MetaNetwork",
    "NearestNeighbours",
    "Trace",
    "Transducer",
]
