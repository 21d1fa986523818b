"""What a memory does in an episode: recorded from any cell, drawn as a picture or as an animation."""

from mannkern.viz.animation import animate
from mannkern.viz.picture import draw
from mannkern.viz.recording import Recording, record

__all__ = ["Recording", "animate", "draw", "record"]
