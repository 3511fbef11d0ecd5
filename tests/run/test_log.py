"""The metric log across a resume, and the live line where there is no terminal."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest

from nas.run.log import MetricLog, read_log


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

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ('{"st', "not valid JSON"),
            ("{}", "step: got None"),
            ('{"step": true}', "step: got True"),
            ('{"step": null}', "step: got None"),
            ("5", "expected a JSON object"),
            ("[]", "expected a JSON object"),
            ("[" * 9999, "nested too deeply"),
            ('{"step": 0}', "step: got 0 after 0"),
            ('{"step": 2, "step": 2}', "step: given twice"),
        ],
    )
    def test_a_damaged_line_before_the_resumed_step_loses_nothing(
        self, tmp_path: pathlib.Path, line: str, message: str
    ) -> None:
        path = tmp_path / "metrics.jsonl"
        text = f'{{"step": 0}}\n{line}\n{{"step": 2}}\n'
        path.write_text(text)
        for read in (read_log, lambda path: MetricLog(path, 9)):
            with pytest.raises(ValueError, match=re.escape(f"{path}:2: ")) as caught:
                read(path)
            assert message in str(caught.value) and "\n" not in str(caught.value)
        assert path.read_text() == text

    def test_a_damaged_line_behind_the_resumed_step_is_cut_off(
        self, tmp_path: pathlib.Path
    ) -> None:
        path = tmp_path / "metrics.jsonl"
        path.write_text('{"step": 0}\n{"step": 1}\n{"st\n{"step": 2}\n')
        write(path, range(2, 3), 2)
        assert steps_in(path) == [0, 1, 2]

    def test_a_kill_while_it_is_opened_loses_no_line(self, tmp_path: pathlib.Path) -> None:
        """At no moment does the file hold less than the lines that are kept."""
        path = tmp_path / "metrics.jsonl"
        write(path, range(7), 0)
        code = (
            "import os, pathlib, sys\n"
            "from nas.run.log import MetricLog\n"
            "path = pathlib.Path(sys.argv[1])\n"
            "def killed(*event):\n"
            "    if event[0] in ('open', 'os.truncate', 'os.rename', 'os.remove'):\n"
            "        sys.stdout.write(f'{path.read_bytes().count(10)}\\n')\n"
            "inside = []\n"
            "def hook(name, arguments):\n"
            "    if not inside and str(path) in map(str, arguments):\n"
            "        inside.append(1); killed(name); inside.clear()\n"
            "sys.addaudithook(hook)\n"
            "log = MetricLog(path, 5)\n"
            "killed('open')\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        lines = [int(line) for line in done.stdout.split()]
        assert len(lines) >= 3 and lines[0] == 7 and lines[-1] == 5
        assert min(lines) == 5

    def test_flush_hands_lines_over(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "metrics.jsonl"
        metrics = MetricLog(path, 0)
        metrics.write(0, {})
        metrics.flush()
        assert steps_in(path) == [0]
        metrics.close()
