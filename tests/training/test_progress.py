"""The progress bar's share of a run, and the signals that stop one."""

import os
import signal

import pytest

from mannkern.training.config import RunConfig
from mannkern.training.progress import ProgressBar, StopSignals


@pytest.mark.parametrize(
    ("limits", "share"),
    [({"steps": 10}, 0.5), ({"minutes": 1.0}, 0.75), ({"steps": 10, "minutes": 1.0}, 0.75), ({"steps": 0}, 1.0)],
)
def test_the_share_by_hand(limits: dict[str, float], share: float, capsys: pytest.CaptureFixture[str]) -> None:
    """At step 5 after 45 seconds: half of ten steps are done, or three quarters of a minute; the larger counts."""
    bar = ProgressBar(RunConfig(model="mann", **limits), 0, 0.0)  # type: ignore[arg-type]
    bar.note("loss 1.0")
    bar.show(5, 45.0)
    bar.close()
    assert bar.bar.n == share
    assert f"MANN {100 * share:.0f}%" in " ".join(capsys.readouterr().err.split())


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        assert signal.getsignal(signal.SIGINT) is before, "a second Ctrl-C acts at once"
    assert signal.getsignal(signal.SIGINT) is before


def test_a_closed_terminal_may_send_two_signals() -> None:
    before = signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number is None
    finally:
        signal.signal(signal.SIGHUP, before)
