"""A recorder of the overload that Triton's kernels are registered for."""

from __future__ import annotations

from tests import recorder


class Recorder(recorder.Recorder):
    """Records the calls of the overload "recompute"."""

    overload = "recompute"
