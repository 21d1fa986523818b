"""The progress bar of a training run, and the signals that stop it."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

from mannkern.streams import Lasting
from mannkern.training import processes
from mannkern.training.config import RunConfig


class StopSignals:
    """A context in which the first SIGINT, SIGTERM or SIGHUP only sets ``number``; a second one acts as usual.

    SIGHUP means that the terminal was closed. A second one does nothing either, because the shell and the terminal both
    send it; and where it was ignored, as under nohup, it stays so.
    After an error a rank of several ends by itself, so SIGTERM does not end it before.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.previous: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        processes.note_signal(number)
        if number != signal.SIGHUP:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python allows no handlers in other threads
            stops = [signal.SIGINT, signal.SIGTERM]
            stops += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
            for number in stops:
                self.previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if error is not None and processes.size() > 1 and self.previous:
            # the agent of torchrun sends its signal while this process is still on its way to say what is wrong
            signal.signal(signal.SIGTERM, lambda number, frame: processes.note_signal(number))


class ProgressBar:
    """A bar of the share of the run that is done, by steps or by time, whichever is further."""

    def __init__(self, config: RunConfig, step: int, seconds: float) -> None:
        from tqdm import tqdm  # an extra: --help and verify work without it

        self.config = config
        self.numbers = ""
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(
            total=1.0,
            file=Lasting(sys.stderr),
            initial=self._share(step, seconds),
            bar_format=self._format(step),
            mininterval=interval,
            dynamic_ncols=True,
            disable=processes.rank() > 0,
        )

    def _share(self, step: int, seconds: float) -> float:
        limit = self.config.step_limit
        return min(1.0, max(step / limit if limit else 1.0, seconds / self.config.second_limit))

    def _format(self, step: int) -> str:
        head = f"{self.config.model.upper()} {{percentage:3.0f}}%|{{bar}}|"
        return f"{head} step {step:,}{self.numbers} [{{elapsed}}<{{remaining}}]"

    def show(self, step: int, seconds: float) -> None:
        """Move the bar to where the run stands."""
        self.bar.bar_format = self._format(step)
        self.bar.update(self._share(step, seconds) - self.bar.n)

    def note(self, numbers: str) -> None:
        """Show these numbers beside the bar from now on."""
        self.numbers = f", {numbers}"

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.refresh()
        self.bar.close()
