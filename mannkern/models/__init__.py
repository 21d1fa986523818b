"""Models over episodes."""

from mannkern.models.classifier import EpisodeClassifier

__all__ = ["EpisodeClassifier"]
