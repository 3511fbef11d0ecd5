from __future__ import annotations

import os
import signal

import pytest

from nas.run.interrupt import Interrupt


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_waits_and_the_second_does_not(first: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        os.kill(os.getpid(), first)
        assert interrupt.requested
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_nothing_requested() -> None:
    with Interrupt() as interrupt:
        assert not interrupt.requested
