"""Models: the networks of the papers, over episodes, sequences and support sets."""

from mannkern.models.autoencoder import Autoencoder, EncodedNeighbours
from mannkern.models.classifier import EpisodeClassifier, PersistentClassifier
from mannkern.models.cores import CORES, Core, CoreSettings, build_core, register_core
from mannkern.models.embedding import ConvEmbedding
from mannkern.models.headed import HeadedCore, Trace
from mannkern.models.matching import MatchingNetwork
from mannkern.models.meta_memory import AdaptedNetwork, MetaMemoryNetwork
from mannkern.models.meta_networks import MetaNetwork
from mannkern.models.neighbours import NearestNeighbours
from mannkern.models.transducer import Transducer

__all__ = [
    "CORES",
    "AdaptedNetwork",
    "Autoencoder",
    "ConvEmbedding",
    "Core",
    "CoreSettings",
    "EncodedNeighbours",
    "EpisodeClassifier",
    "HeadedCore",
    "MatchingNetwork",
    "MetaMemoryNetwork",
    "MetaNetwork",
    "NearestNeighbours",
    "PersistentClassifier",
    "Trace",
    "Transducer",
    "build_core",
    "register_core",
]
