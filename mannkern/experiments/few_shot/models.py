"""The models of few-shot classification, by the names that ``--model`` has for them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mannkern.experiments.few_shot.config import FewShotConfig
from mannkern.experiments.meta_memory import meta_memory_network
from mannkern.models import ConvEmbedding, MatchingNetwork, MetaMemoryNetwork, MetaNetwork
from mannkern.training.flags import command_error


def _matching(config: FewShotConfig, full_context: bool = False) -> MatchingNetwork:
    assert config.strength is not None  # the config fills it in
    return MatchingNetwork(
        config.classes,
        width=config.width,
        channels=config.channels_of_image,
        strength=config.strength,
        full_context=full_context,
        steps=config.context_steps,
        backend=config.backend,
    )


def _meta_networks(config: FewShotConfig) -> MetaNetwork:
    if config.channels_of_image != 1:
        raise ValueError(f"--channels: got {config.channels_of_image}, need 1 with meta-networks")
    assert config.strength is not None
    return MetaNetwork(
        config.classes,
        width=config.width,
        blocks=config.blocks,
        augmented_blocks=config.augmented_blocks,
        pairs=config.pairs,
        round_up=2**config.blocks > min(config.image_shape),
        strength=config.strength,
        backend=config.backend,
    )


def _meta_memory(config: FewShotConfig) -> MetaMemoryNetwork:
    embedding = ConvEmbedding(config.width, channels=config.channels_of_image)
    return meta_memory_network(config, embedding, config.width, config.classes)


BUILDERS: dict[str, Callable[[FewShotConfig], nn.Module]] = {
    "matching": _matching,
    "matching-fce": lambda config: _matching(config, full_context=True),
    "meta-networks": _meta_networks,
    "meta-memory": _meta_memory,
}


def make_model(config: FewShotConfig) -> nn.Module:
    """``config.model`` as a module: support (B, N, P, P), labels (B, N), queries (B, Q, P, P) -> logits (B, Q, C).

    Torch's generator draws its parameters, on the CPU. Raises ``CommandError`` for impossible sizes.
    """
    try:
        return BUILDERS[config.model](config)
    except ValueError as error:
        raise command_error(error, config) from error
