"""Every loader of text files: a valid file, how it is read, and what an acceptance has to mean."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pydantic

import latency_tables
import search_spaces
from latency_tables import measurement, table
from latency_tables.audit import read_measured
from latency_tables.importers import Imported
from latency_tables.importers import read as import_read
from latency_tables.measurement import Measurement
from latency_tables.operator_parameters import ParametersFile
from latency_tables.table import Row
from nas.api.result import Candidates
from nas.data.distilled.manifest import Manifest, Request, TeacherSpec
from nas.distillation.shards import read_shard
from nas.engine.matrix import Matrix
from nas.engine.standalone import rows_of
from nas.measurement.journal import Journal
from nas.run import config_files
from nas.run.config import RunConfig
from nas.run.folder import RunRecord, TrainFolder
from nas.run.log import read_log
from nas.run.train_config import TrainConfig
from nas.training.record import TrainMeasures, TrainRecord, read_confusion, read_summary
from search_spaces import SearchSpace, lower, yaml_io

from . import valid
from .meaning import cells_of, json_agrees, number, text_of, yaml_agrees


class Loader(NamedTuple):
    """A loader.

    Attributes:
      file: Name of the file.
      content: A valid file.
      read: Reads the file at a path.
      agrees: Whether what was read is what the bytes mean; may raise AssertionError instead.
    """

    file: str
    content: bytes
    read: Callable[[pathlib.Path], Any]
    agrees: Callable[[bytes, Any], bool]


def _model(model: Any, text: str, file: str = "file.yaml") -> Loader:
    return Loader(file, text.encode(), lambda path: yaml_io.load_model(path, model), yaml_agrees)


def _set(path: pathlib.Path) -> Any:
    """The file as a value on a command line."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return config_files.load("quickstart", RunConfig, [f"search={text}"]).search


def _network() -> search_spaces.ArchSpec:
    return yaml_io.parse_model(valid.ARCHITECTURE, search_spaces.ArchSpec, "a test")


def _space() -> SearchSpace:
    text = valid.ARCHITECTURE.partition("found:")[0]
    text = text.replace("filters: 8", "filters: {one_of: [8, 16], name: width}")
    return SearchSpace(yaml_io.parse_model(text, search_spaces.ArchSpec, "a test"))


def _rows() -> list[Row]:
    return [
        Row(op, 0.25 * (index + 1), 0.125, 10)
        for index, op in enumerate(dict.fromkeys(op.folded for op in lower(_network())))
    ]


def _measurements() -> list[Measurement]:
    ops = tuple(op.folded for op in lower(_network()))
    return [Measurement("net", ops, 1.5, 0.25, 20), Measurement("one", ops[:1], 0.5)]


_SIZES = ("height", "width", "channels", "out_channels", "kernel", "stride", "groups")


def _operation_agrees(cells: Mapping[str, str], op: Any) -> None:
    shape = op.input
    sizes = (shape.height, shape.width, shape.channels)
    found = (*sizes, op.out_channels, op.kernel, op.stride, op.groups)
    assert [number(cells[name]) for name in _SIZES] == list(found)
    assert cells["kind"] == op.kind and cells["activation"] == op.activation


def _rows_agree(content: bytes, rows: Any) -> bool:
    head, *lines = cells_of(content)
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        cells = dict(zip(head, line, strict=True))
        _operation_agrees(cells, row.op)
        times = (number(cells["ms"]), number(cells["std_ms"]), number(cells["count"]))
        assert times == (row.ms, row.std_ms, row.count) and row.ms > 0 and row.count >= 1
    return True


def _measurements_agree(content: bytes, found: Any) -> bool:
    head, *lines = cells_of(content)
    lines_of = [dict(zip(head, line, strict=True)) for line in lines]
    ops = [op for each in found for op in each.ops]
    assert len(lines_of) == len(ops)
    for cells, op in zip(lines_of, ops, strict=True):
        _operation_agrees(cells, op)
    firsts = [cells for cells in lines_of if cells["name"]]
    names = [cells["name"] for cells in firsts]
    assert names == [each.name for each in found] and len(set(names)) == len(names)
    for cells, each in zip(firsts, found, strict=True):
        assert (number(cells["ms"]), number(cells["count"])) == (each.ms, each.count)
    return True


def _measured_agrees(content: bytes, found: Any) -> bool:
    head, *lines = cells_of(content)
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    assert [row["network"].strip() for row in rows] == list(found)
    assert [number(row["ms"]) for row in rows] == list(found.values())
    return min(found.values()) > 0


def _log_agrees(content: bytes, rows: Any) -> bool:
    lines = content[: content.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) and len(lines) == len(rows)
    text = [line.removeprefix("\ufeff") for line in lines]
    return all(map(json_agrees, text, rows))


def _trainings_agree(content: bytes, rows: Any) -> bool:
    end = content.rfind(b"\n") + 1
    lines = cells_of(content[:end])[1:] if content[:end] else []
    return [list(row.cells.values()) for row in rows] == lines


def _candidates_agree(content: bytes, found: Candidates) -> bool:
    head, *lines = cells_of(content)
    assert head[:2] == ["reward", "accuracy"] and head[-1] == "width" and len(lines) == len(found)
    for index, line in enumerate(lines):
        assert number(line[0]) == found.reward[index]
        assert number(line[1]) == found.accuracy[index] and 0 <= found.accuracy[index] <= 1
        assert line[-1] == ("8", "16")[found.vectors[index, 0]]
        costs = [found.costs[name][index] for name in head[2:-1]]
        assert [number(cell) for cell in line[2:-1]] == costs
    return True


def _summary_agrees(content: bytes, rows: Any) -> bool:
    head, *lines = cells_of(content)
    found = [dict(zip(head, map(number, line), strict=True)) for line in lines]
    steps = [row["step"] for row in found]
    return found == rows and steps == sorted(set(steps))


def _confusion_agrees(content: bytes, found: Any) -> bool:
    head, *lines = cells_of(content)
    names, counts = found
    assert names == head[1:] == [line[0].strip() for line in lines]
    return [[number(cell) for cell in line[1:]] for line in lines] == counts.tolist()


def _journal(path: pathlib.Path) -> Journal[Row]:
    return Journal(path, {"runtime": "a"}, table.format_rows, table.parse_rows)


def _journal_agrees(content: bytes, journal: Journal[Row]) -> bool:
    complete = content[: content.rfind(b"\n") + 1]
    head, _, rest = complete.partition(b"\n")
    if not journal.records:
        # Nothing was measured: the first line was cut off, or stands alone.
        return not rest.strip() or len(cells_of(rest)) == 1 or not complete
    return json_agrees(
        text_of(head), {"runtime": "a", "call_ms": journal._call_ms}
    ) and _rows_agree(rest, journal.records)


def _parsed(parse: Callable[[str, str], Any]) -> Callable[[pathlib.Path], Any]:
    from latency_tables.csv_files import read_text

    return lambda path: parse(read_text(path), str(path))


def _imported_csv(columns: Mapping[str, Callable[[Any], float]]) -> Callable[[bytes, Any], bool]:
    def agrees(content: bytes, imported: Imported) -> bool:
        head, *lines = cells_of(content)
        rows = [dict(zip(head, line, strict=True)) for line in lines]
        assert len(rows) == len(imported.measurements)
        for name, value in columns.items():
            assert [number(row[name]) for row in rows] == list(map(value, imported.measurements))
        return imported.fields["licence"] == "not stated"

    return agrees


def _imported_json(content: bytes, imported: Imported) -> bool:
    values = json.loads(text_of(content))
    assert [one.ms for one in imported.measurements] == list(values.values())
    return [one.name for one in imported.measurements] == list(values)


class _Entries(pydantic.RootModel[dict[str, dict[str, float]]]):
    pass


def _ofa_agrees(content: bytes, imported: Imported) -> bool:
    entries = {
        one.name: {"count": one.count, "mean": one.ms, "std": one.std_ms}
        for one in imported.measurements
    }
    return yaml_agrees(content, _Entries(entries))


def loaders() -> dict[str, Loader]:
    """All loaders by name."""
    space = _space()
    rows, measured = _rows(), _measurements()
    return {
        "architecture": Loader(
            "net.yaml", valid.ARCHITECTURE.encode(), search_spaces.load, yaml_agrees
        ),
        "configuration": Loader(
            "run.yaml",
            yaml_io.to_yaml(config_files.load("quickstart", RunConfig), defaults=True).encode(),
            lambda path: config_files.load(path, RunConfig),
            yaml_agrees,
        ),
        "change of a setting": Loader(
            "value.txt",
            b"{steps: {coarse: 5, fine: 6}, replicas: 2, batch: 8, checkpoint_every: 10}",
            _set,
            yaml_agrees,
        ),
        "recipe": _model(TrainConfig, yaml_io.to_yaml(TrainConfig(), defaults=True)),
        "record of a stage": _model(
            RunRecord,
            yaml_io.to_yaml(
                RunRecord(
                    config=config_files.load("quickstart", RunConfig),
                    config_hash="abc",
                    dataset_hash="def",
                    space="ghi",
                    seed=1,
                    versions={"jax": "0.9"},
                )
            ),
        ),
        "record of a training": _model(TrainRecord, valid.TRAIN_RECORD),
        "result of a training": _model(TrainMeasures, valid.MEASURES),
        "matrix": _model(Matrix, valid.MATRIX),
        "device": Loader(
            "device.yaml",
            valid.DEVICE.encode(),
            lambda path: latency_tables.device(str(path)),
            yaml_agrees,
        ),
        "teacher": _model(TeacherSpec, valid.TEACHER),
        "request": _model(Request, json.dumps(valid.REQUEST, indent=1)),
        "manifest of distilled data": _model(Manifest, json.dumps(valid.MANIFEST, indent=1)),
        "shard": Loader(
            "shard.json",
            json.dumps(valid.SHARD, indent=1).encode(),
            read_shard,
            lambda content, found: json_agrees(
                text_of(content),
                json.loads(found.model_dump_json(by_alias=True)),
            ),
        ),
        "manifest of a table": Loader(
            "manifest.yaml",
            yaml_io.to_yaml(table.load_table("x86-64-int8").manifest, defaults=True).encode(),
            lambda path: yaml_io.load_model(path, table.Manifest),
            yaml_agrees,
        ),
        "operator model": _model(
            ParametersFile,
            (table.table_folder("x86-64-int8") / "operator_model.yaml").read_text(),
        ),
        "rows": Loader(
            "rows.csv", table.format_rows(rows).encode(), _parsed(table.parse_rows), _rows_agree
        ),
        "measurements": Loader(
            "measurements.csv",
            measurement.format_measurements(measured).encode(),
            _parsed(measurement.parse_measurements),
            _measurements_agree,
        ),
        "measured networks": Loader(
            "measured.csv",
            b"network,ms\nsmall-32,1.5\nmnv4-conv-s,2.25\nmnv4-conv-m,5\n",
            read_measured,
            _measured_agrees,
        ),
        "journal": Loader(
            "rows.journal",
            b'{"runtime": "a", "call_ms": 0.5}\n' + table.format_rows(rows).encode(),
            _journal,
            _journal_agrees,
        ),
        "metrics": Loader(
            "metrics.jsonl",
            "".join(
                json.dumps({"step": step, "loss": 1 / (step + 1), "entropy": 0.5}) + "\n"
                for step in range(5)
            ).encode(),
            read_log,
            _log_agrees,
        ),
        "candidates": Loader(
            "candidates.csv",
            b"reward,accuracy,macs,width\n0.5,0.625,0.01,8\n0.25,0.5,0.02,16\n",
            lambda path: Candidates.read(path, space),
            _candidates_agree,
        ),
        "trainings": Loader(
            "trained.csv",
            b"vector,seed,accuracy,seconds\n0-1,0,0.5,1.5\n1-0,0,0.625,1.5\n",
            rows_of,
            _trainings_agree,
        ),
        "summary of a training": Loader(
            "summary.csv",
            b"step,epoch,accuracy,loss\n5,0.5,0.25,1.5\n10,1.0,0.5,1.25\n",
            lambda path: read_summary(TrainFolder(path.parent)),
            _summary_agrees,
        ),
        "confusion": Loader(
            "confusion.csv",
            b"label \\ answer,a,b\na,3,1\nb,0,4\n",
            read_confusion,
            _confusion_agrees,
        ),
        "nn-Meter's operators": Loader(
            "ops.csv",
            b"op,hw,cin,cout,k,s,mflops,mparams,ms\n"
            b"conv,4,8,16,1,1,0.002304,0.000144,0.25\ndwconv,4,8,8,3,1,0.00128,0.00008,0.5\n",
            lambda path: import_read("nn_meter_operators", path),
            _imported_csv({"ms": lambda one: one.ms}),
        ),
        "nn-Meter's blocks": Loader(
            "pixel4.json",
            b'{\n"firstconv_32_3_16_2_3": 0.25,\n"conv_16_16_16_4_1_relu_3_se": 1.5\n}\n',
            lambda path: import_read("nn_meter_blocks", path),
            _imported_json,
        ),
        "Once-for-all's table": Loader(
            "224_lookup_table.yaml",
            valid.OFA.encode(),
            lambda path: import_read("ofa", path),
            _ofa_agrees,
        ),
    }
