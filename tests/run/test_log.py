"""The metric log across a resume, and the live line where there is no terminal."""

from __future__ import annotations

import io
import json
import pathlib

import pytest
from rich.console import Console

from nas.run import log
from nas.run.log import LiveLine, MetricLog


def write(path: pathlib.Path, steps: range, first: int) -> None:
    metrics = MetricLog(path, first)
    for step in steps:
        metrics.write(step, {"loss": step / 8})
    metrics.close()


def steps_in(path: pathlib.Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


class TestMetricLog:
    def test_one_object_a_step(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "new" / "metrics.jsonl"
        write(path, range(2), 0)
        assert path.read_text() == '{"step": 0, "loss": 0.0}\n{"step": 1, "loss": 0.125}\n'

    def test_resume_drops_later_lines_and_goes_on(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "metrics.jsonl"
        write(path, range(7), 0)
        whole = path.read_text()
        write(path, range(4, 7), 4)
        assert path.read_text() == whole
        write(path, range(0), 2)
        assert steps_in(path) == [0, 1]

    @pytest.mark.parametrize("keep", range(1, 24))
    def test_a_torn_last_line_is_dropped(self, tmp_path: pathlib.Path, keep: int) -> None:
        """Wherever the write stopped inside the last line of 25 characters (the line break among them)."""
        path = tmp_path / "metrics.jsonl"
        write(path, range(3), 0)
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:2]) + lines[2][:keep])
        write(path, range(2, 4), 2)
        assert steps_in(path) == [0, 1, 2, 3]

    def test_lines_behind_a_torn_one_are_not_trusted(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "metrics.jsonl"
        path.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
        write(path, range(0), 9)
        assert path.read_text() == '{"step": 0}\n'

    def test_flush_hands_lines_over(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "metrics.jsonl"
        metrics = MetricLog(path, 0)
        metrics.write(0, {})
        metrics.flush()
        assert steps_in(path) == [0]
        metrics.close()


class TestLiveLine:
    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """A clock that stands at its only element."""
        clock = [100.0]
        monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
        return clock

    def test_prints_rarely_without_a_terminal(self, now: list[float]) -> None:
        out = io.StringIO()
        with LiveLine("coarse", 100, Console(file=out, width=80), quiet_seconds=10) as line:
            for step in range(1, 100):  # one step a second
                now[0] += 1
                line.show(step, f"loss {step}")
            assert [row.split("/")[0] for row in out.getvalue().splitlines()] == [f"coarse {n}0" for n in range(1, 10)]
            line.show(100, "loss 100")
        rows = out.getvalue().splitlines()
        assert rows[-1].startswith("coarse 100/100  loss 100") and len(rows) == 10
        assert rows[3] == "coarse 40/100  loss 40  left 1:00"

    def test_time_left_is_unknown_at_first(self, now: list[float]) -> None:
        out = io.StringIO()
        line = LiveLine("fine", 5, Console(file=out), quiet_seconds=0)
        line.show(1, "x")
        assert out.getvalue() == "fine 1/5  x  left -:--\n"

    def test_another_count_has_a_rate_of_its_own(self, now: list[float]) -> None:
        out = io.StringIO()
        line = LiveLine("judging", 2, Console(file=out), quiet_seconds=0)
        for step in (1, 2):
            now[0] += 1
            line.show(step, "x")
        line.then("training", 4)
        for step in (1, 2):
            now[0] += 60
            line.show(step, "y")
        rows = out.getvalue().splitlines()
        assert rows[1:] == ["judging 2/2  x  left 0:00", "training 1/4  y  left -:--", "training 2/4  y  left 2:00"]

    def test_long_lines_are_not_wrapped(self, now: list[float]) -> None:
        out = io.StringIO()
        LiveLine("fine", 5, Console(file=out, width=20), quiet_seconds=0).show(1, "word " * 30)
        assert out.getvalue().count("\n") == 1

    def test_a_terminal_gets_a_bar(self) -> None:
        out = io.StringIO()
        with LiveLine("fine", 5, Console(file=out, force_terminal=True, width=80)) as line:
            line.show(5, "loss 1")
            line.then("rest", 3)
            line.show(3, "loss 2")
        assert "5/5" in out.getvalue() and "loss 1" in out.getvalue()
        assert "rest" in out.getvalue() and "3/3" in out.getvalue()


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log.console().print("hello")
    assert capsys.readouterr() == ("", "hello\n")
