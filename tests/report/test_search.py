"""Reports of runs, written from files alone."""

from __future__ import annotations

import html
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import search_spaces
from latency_tables import CostModel, device
from nas.engine import ranking
from nas.engine.spaces import space_of
from nas.report import compare, describe, diagnosis, search
from nas.run.config import RunConfig, config_hash
from nas.run.folder import STANDALONE_ACCURACY, SUPERNET_ACCURACY, RunFolder, RunRecord
from search_spaces import ArchSpec, CostRecord, Provenance, files, yaml_io

STEPS = 40


def _write_unfinished(workdir: pathlib.Path, config: RunConfig) -> None:
    """Record, metrics and policy of a coarse stage whose policy starts undecided and converges."""
    space = space_of("coarse", config, workdir)
    folder = RunFolder(workdir).stage("coarse")
    record = RunRecord(
        config=config,
        config_hash=config_hash(config),
        dataset_hash="d",
        space=space.spec.digest(),
        versions={},
    )
    files.write_atomically(folder.record, yaml_io.to_yaml(record, defaults=True))
    rows = [
        {
            "step": step,
            "reward": 0.1,
            "quality": 0.5,
            "entropy": 1 - step / STEPS,
            "cost/macs": 0.01,
        }
        for step in range(STEPS)
    ]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    most = max(decision.options for decision in space.decisions)
    uniform = [
        [1 / decision.options] * decision.options + [0.0] * (most - decision.options)
        for decision in space.decisions
    ]
    policy = [{"step": step, "probabilities": [uniform]} for step in (0, STEPS - 1)]
    folder.policy.write_text("".join(json.dumps(row) + "\n" for row in policy))


def _write_finished(workdir: pathlib.Path, config: RunConfig) -> ArchSpec:
    """The largest network as the one that was found, and as the only candidate."""
    space = space_of("coarse", config, workdir)
    folder = RunFolder(workdir).stage("coarse")
    vector = tuple(decision.largest for decision in space.decisions)
    cost = float(CostModel.build(space, [device("macs")])(vector)[0])
    found = Provenance(
        stage="coarse",
        space=space.spec.digest(),
        seed=0,
        config_hash=config_hash(config),
        dataset_hash="d",
        metrics={SUPERNET_ACCURACY: 0.5, STANDALONE_ACCURACY: 0.625, "images": 100.0},
        cost={"macs": CostRecord(value=cost, target=cost / 2, unit="M", most_likely=cost)},
        decisions=space.mapping(vector),
        versions={},
        seconds=3.0,
    )
    spec = search_spaces.freeze(space, vector, name="tiny-coarse")
    spec = spec.model_copy(update={"found": found})
    search_spaces.dump(spec, folder.architecture)
    folder.candidates.write_text(f"reward,accuracy,macs\n0.4,0.5,{cost}\n")
    return spec


@pytest.fixture
def config(tiny_recipe: pathlib.Path) -> RunConfig:
    return yaml_io.load_model(tiny_recipe, RunConfig)


def _headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


def test_an_unfinished_run_has_a_report(config: RunConfig, tmp_path: pathlib.Path) -> None:
    _write_unfinished(tmp_path, config)
    [path] = search.write("coarse", tmp_path)
    page = path.read_text()
    assert path == tmp_path / "coarse" / "report.html"
    assert "<h1>tiny: not finished</h1>" in page
    assert _headings(page) == ["Search", "Policy probabilities over time", "Configuration"]
    assert "<script" not in page and page.count("<svg") == 2


def test_a_finished_run_says_how_it_ended(config: RunConfig, tmp_path: pathlib.Path) -> None:
    _write_unfinished(tmp_path, config)
    spec = _write_finished(tmp_path, config)
    [path] = search.write("coarse", tmp_path)
    page = path.read_text()
    assert "</b>, target missed (" in page and ", +100.0%)" in page
    # 1.96 sqrt(0.5 * 0.5 / 100) = 0.098
    assert "held-out accuracy 0.500 ± 0.098 inside the supernet (100 images)" in page
    assert "policy converged: entropy 1.00 to 0.03 nats per decision" in page
    assert _headings(page) == [
        "Architecture",
        "Search",
        "Candidates",
        "Policy probabilities over time",
        "Configuration",
    ]
    text = describe.result(spec, path)
    assert "held-out accuracy 0.500 inside the supernet, 0.625 stand-alone; 3 s" in text
    table, _ = compare.compare([tmp_path])
    head, row = table.splitlines()
    assert head.split("  ")[0] == "run" and "stand-alone accuracy" in head
    assert row.startswith(str(tmp_path / "coarse")) and "0.500" in row and "(+100.0%)" in row


def test_a_diagnosis_joins_the_report(config: RunConfig, tmp_path: pathlib.Path) -> None:
    _write_unfinished(tmp_path, config)
    folder = RunFolder(tmp_path).stage("coarse").diagnosis
    macs = [1.0, 2.0, 4.0, 8.0, 16.0]
    rank, cost = np.arange(1.0, 6.0) / 10, np.array(macs)
    trained = np.stack([rank + 0.01, rank + 0.02], 1)
    found = ranking.diagnose(rank, trained, cost, {"MACs": cost})
    files.write_atomically(folder.result, json.dumps(found.model_dump(mode="json")))
    rows = [f"{value},0.{i},0.{i}1,0.{i}2" for i, value in enumerate(macs, start=1)]
    folder.architectures.write_text("\n".join(["MACs,supernet,seed_0,seed_1", *rows]) + "\n")
    assert diagnosis.write(folder) == [folder.path / "ranking.svg"]
    page = html.unescape(search.write("coarse", tmp_path)[0].read_text())
    assert "Ranking diagnosis" in _headings(page) and f"<p>Ranking: {found.verdict}.</p>" in page
    assert page.count("<svg") == 3


def test_writing_a_report_loads_no_jax(config: RunConfig, tmp_path: pathlib.Path) -> None:
    _write_unfinished(tmp_path, config)
    _write_finished(tmp_path, config)
    program = (
        "import pathlib, sys; from nas.report import search\n"
        "search.write('coarse', pathlib.Path(sys.argv[1]))\n"
        "assert 'jax' not in sys.modules"
    )
    run = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_folder_without_the_stage_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="holds no coarse stage; run `nas-search"):
        search.write("coarse", tmp_path)
    with pytest.raises(ValueError, match=r"holds no architecture\.yaml; give the folder of a"):
        compare.compare([tmp_path])
