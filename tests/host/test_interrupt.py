"""Ctrl-C and SIGTERM in the middle of a step."""

from __future__ import annotations

import os
import signal

import pytest

from nas.host.interrupt import DeferredInterrupt


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_is_deferred_and_the_second_is_not(first: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt() as interrupt:
        os.kill(os.getpid(), first)
        assert interrupt.requested
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_without_a_signal_nothing_is_requested() -> None:
    with DeferredInterrupt() as interrupt:
        assert not interrupt.requested


def test_an_ignored_signal_stays_ignored() -> None:
    """A worker of a pool: Ctrl-C reaches it, too, but its parent decides when it saves and ends."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with DeferredInterrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupt.requested
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.requested
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
