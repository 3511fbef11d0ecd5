"""Progress bar on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nas.host import progress
from nas.host.progress import ProgressBar


class TestProgressBar:
    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """A clock that shows the only element of the list."""
        clock = [100.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
        return clock

    def test_prints_rarely_without_a_terminal(self, now: list[float]) -> None:
        out = io.StringIO()
        with ProgressBar("coarse", 100, Console(file=out, width=80), quiet_seconds=10) as bar:
            for step in range(1, 100):  # one step a second
                now[0] += 1
                bar.update(step, f"loss {step}")
            assert [row.split("/")[0] for row in out.getvalue().splitlines()] == [
                f"coarse {n}0" for n in range(1, 10)
            ]
            bar.update(100, "loss 100")
        rows = out.getvalue().splitlines()
        assert rows[-1].startswith("coarse 100/100  loss 100") and len(rows) == 10
        assert rows[3] == "coarse 40/100  loss 40  left 1:00"

    def test_time_left_is_unknown_at_first(self, now: list[float]) -> None:
        out = io.StringIO()
        bar = ProgressBar("fine", 5, Console(file=out), quiet_seconds=0)
        bar.update(1, "x")
        assert out.getvalue() == "fine 1/5  x  left -:--\n"

    def test_a_new_phase_has_its_own_rate(self, now: list[float]) -> None:
        out = io.StringIO()
        bar = ProgressBar("evaluating", 2, Console(file=out), quiet_seconds=0)
        for step in (1, 2):
            now[0] += 1
            bar.update(step, "x")
        bar.start_phase("training", 4)
        for step in (1, 2):
            now[0] += 60
            bar.update(step, "y")
        rows = out.getvalue().splitlines()
        assert rows[1:] == [
            "evaluating 2/2  x  left 0:00",
            "training 1/4  y  left -:--",
            "training 2/4  y  left 2:00",
        ]

    def test_long_lines_are_not_wrapped(self, now: list[float]) -> None:
        out = io.StringIO()
        ProgressBar("fine", 5, Console(file=out, width=20), quiet_seconds=0).update(1, "word " * 30)
        assert out.getvalue().count("\n") == 1

    def test_a_terminal_gets_a_bar(self) -> None:
        out = io.StringIO()
        with ProgressBar("fine", 5, Console(file=out, force_terminal=True, width=80)) as bar:
            bar.update(5, "loss 1")
            bar.start_phase("rest", 3)
            bar.update(3, "loss 2")
        assert "5/5" in out.getvalue() and "loss 1" in out.getvalue()
        assert "rest" in out.getvalue() and "3/3" in out.getvalue()


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    progress.console().print("hello")
    assert capsys.readouterr() == ("", "hello\n")
