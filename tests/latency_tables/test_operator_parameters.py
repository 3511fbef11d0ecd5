"""Fitted parameters beside a table: the same model as a fit, and never that of other rows."""

from __future__ import annotations

import itertools
import logging
import pathlib
from typing import Any

import numpy as np
import pytest

import latency_tables
from latency_tables import fit_operator_model, operator_parameters
from latency_tables.kinds import TableDevice
from latency_tables.operator_model import OperatorModel
from latency_tables.table import Row, Table, load_table, save_table, table_folder
from search_spaces import OpCall, Shape

DEVICES = [latency_tables.device(name) for name in latency_tables.devices()]
INTERPOLATED = [
    device.table
    for device in DEVICES
    if isinstance(device, TableDevice) and device.fallback == "interpolate"
]
OPS = [
    OpCall("conv2d", Shape(size, size, width), out)
    for size, width, out in itertools.product((4, 8), (8, 16), (8, 16))
]
UNKNOWN = [OpCall("conv2d", Shape(6, 6, 12), 24)]


@pytest.fixture
def folder(tmp_path: pathlib.Path, manifest: dict[str, Any]) -> pathlib.Path:
    """A table without fitted parameters."""
    save_table(tmp_path / "bench", [Row(op, 1e-6 * op.macs) for op in OPS], **manifest)
    return tmp_path / "bench"


def fitted(table: Table) -> OperatorModel:
    return OperatorModel.fit([row.op for row in table.rows], table.ms)


def assert_equal(model: OperatorModel, other: OperatorModel, ops: list[OpCall]) -> None:
    """The models have equal parameters, and predictions equal to the bit."""
    assert model.parameters == other.parameters
    np.testing.assert_array_equal(model.predict(ops), other.predict(ops))


@pytest.mark.parametrize("name", INTERPOLATED)
def test_shipped_parameters_give_the_model_of_a_new_fit(name: str) -> None:
    table, folder = load_table(name), table_folder(name)
    assert (folder / operator_parameters.FILE).exists()
    ops = [row.op for row in table.rows] + UNKNOWN
    assert_equal(operator_parameters.load_model(table, folder), fitted(table), ops)


def no_fit(*_: object) -> OperatorModel:
    raise AssertionError("was fitted")


@pytest.mark.parametrize("name", INTERPOLATED)
def test_a_shipped_table_is_not_fitted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OperatorModel, "fit", no_fit)
    device = TableDevice(
        name="d", source="a test", date="2026-11", table=name, fallback="interpolate"
    )
    assert device.missing(UNKNOWN) and device.estimate(UNKNOWN).ms > 0


def test_a_fit_is_logged_and_its_parameters_can_be_kept(
    folder: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = load_table(folder)
    with caplog.at_level(logging.INFO, "latency_tables"):
        model = operator_parameters.load_model(table, folder)
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("latency_tables", "INFO")
    ]
    assert caplog.messages == [
        "table bench: fitting an operator model to 8 rows, which takes seconds; to keep it, run "
        f"python -m latency_tables.fit_operator_model {folder}"
    ]
    fit_operator_model.main([str(folder)])
    path = folder / operator_parameters.FILE
    assert capsys.readouterr().out == f"written: {path}\n"
    monkeypatch.setattr(OperatorModel, "fit", no_fit)
    assert_equal(operator_parameters.load_model(table, folder), model, [*OPS, *UNKNOWN])


def test_parameters_of_other_rows_are_not_used(
    folder: pathlib.Path, manifest: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = operator_parameters.save_parameters(load_table(folder), folder)
    save_table(folder, [Row(op, 1e-3 + 1e-6 * op.macs) for op in OPS], **manifest)
    table = load_table(folder)
    with caplog.at_level(logging.INFO, "latency_tables"):
        model = operator_parameters.load_model(table, folder)
    assert caplog.messages[0] == f"{path}: belongs to other rows and is not used"
    assert_equal(model, fitted(table), [*OPS, *UNKNOWN])


def test_damaged_parameters_are_refused(folder: pathlib.Path) -> None:
    table = load_table(folder)
    path = operator_parameters.save_parameters(table, folder)
    path.write_text(path.read_text().replace("noise: ", "noise: -"))
    with pytest.raises(ValueError, match=rf"^{path}:\d+: kinds\.conv2d\.noise: got -"):
        operator_parameters.load_model(table, folder)


def test_an_unknown_table_is_a_mistake_of_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        fit_operator_model.main(["absent"])
    assert caught.value.code == 2
    assert "no table called 'absent', nor such a folder" in capsys.readouterr().err
