"""The metric log across a resume, and the live line where there is no terminal."""

from __future__ import annotations

import json
import pathlib

import pytest

from nas.run.log import MetricLog


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
        """Wherever the write stopped inside the last line of 25 characters, line break included."""
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
