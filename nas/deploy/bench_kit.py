"""Kits: folders of models and a script, to measure on a device that is elsewhere, and their results."""

from __future__ import annotations

import csv
import datetime
import io
import os
import pathlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, get_args

from latency_tables.importers import Imported
from latency_tables.importers.base import NOT_STATED, table_name
from latency_tables.measurement import MEASUREMENT_COLUMNS, Measurement, format_measurements, parse_measurements
from search_spaces import OpCall, yaml_io

KitDevice = Literal["android", "edgetpu"]
MODELS, MANIFEST = "models", "models.csv"
RESULTS: dict[KitDevice, str] = {"android": "results.txt", "edgetpu": "results.csv"}

_FILES: dict[KitDevice, dict[str, str]] = {  # name in `kits/`: name in the kit
    "android": {"run_android.sh": "run_android.sh", "README_android.md": "README.md"},
    "edgetpu": {
        "compile_edgetpu.sh": "compile_edgetpu.sh",
        "run_edgetpu.py": "run_edgetpu.py",
        "README_edgetpu.md": "README.md",
    },
}
_TIMES = ("ms", "std_ms", "count")
_COLUMNS = ("file", *(column for column in MEASUREMENT_COLUMNS if column not in ("name", *_TIMES)))
_RESULT_COLUMNS = ("file", *_TIMES)


def write_kit(
    models: Mapping[str, bytes],
    ops: Mapping[str, Sequence[OpCall]],
    folder: str | os.PathLike[str],
    device: KitDevice,
) -> None:
    """Write models, `models.csv` (which operations each has), the scripts for the device and a README.

    Args:
      models: {name: TFLite model}; an Edge TPU takes INT8 only.
      ops: {name: the operations of that model}, one for an operation, more for a block or a network.
      folder: new or empty.
      device: what the scripts are for.

    Raises:
      ValueError: for an unknown device, a name that cannot be a file's, models without operations, or a folder in use.
    """
    folder = pathlib.Path(folder)
    if device not in get_args(KitDevice):
        raise ValueError(f"bench kit: got device {device!r}, expected one of {', '.join(get_args(KitDevice))}")
    if not models or set(models) != set(ops):
        odd = ", ".join(sorted(set(models) ^ set(ops))) or "none at all"
        raise ValueError(f"bench kit: models and operations must have the same names; got {odd} on one side only")
    for name in models:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError(f"bench kit: got the name {name!r}, expected letters, digits, '.', '_' and '-'")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty; write the kit to a new folder")
    (folder / MODELS).mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        (folder / MODELS / f"{name}.tflite").write_bytes(model)
    yaml_io.write_atomically(folder / MANIFEST, _format({f"{name}.tflite": ops[name] for name in models}))
    for source, name in _FILES[device].items():
        text = (pathlib.Path(__file__).parent / "kits" / source).read_text(encoding="utf-8")
        yaml_io.write_atomically(folder / name, text)


def read_kit(
    folder: str | os.PathLike[str], results: str | os.PathLike[str] | None = None, *, partial: bool = False
) -> tuple[Measurement, ...]:
    """What a kit measured; `latency_tables.measurement.single_rows` makes rows of a table of it.

    Args:
      folder: of the kit.
      results: what its script wrote; by default the file in the kit that is there.
      partial: whether models without a result are left out; else they are an error.

    Raises:
      ValueError: one line with file, line and cause.
    """
    folder = pathlib.Path(folder)
    path = pathlib.Path(results) if results is not None else _only_results(folder)
    text = _read(path)
    first = text.partition("\n")[0]
    found = _results_csv(text, path) if first == ",".join(_RESULT_COLUMNS) else _results_text(text, path)
    times = {file: cells for file, cells in found}
    rows = _read_manifest(folder / MANIFEST)
    files = list(dict.fromkeys(file for file, _ in rows))
    if unknown := sorted(set(times) - set(files)):
        raise ValueError(
            f"{path}: has results of {unknown[0]}, which is not in {folder / MANIFEST}; is it another kit's?"
        )
    missing = [file for file in files if file not in times]
    if missing and (not partial or not times):
        raise ValueError(
            f"{path}: lacks {len(missing)} of {len(files)} models, first {missing[0]}; start the script again, "
            "it continues, or ask for a partial result"
        )
    return parse_measurements(_join(rows, times), str(folder / MANIFEST))


def imported(folder: str | os.PathLike[str], *, partial: bool = False) -> Imported:
    """What a kit measured, as an importer gives it: device and processor have to come from the user; see `read_kit`."""
    folder = pathlib.Path(folder)
    results = _only_results(folder)
    android = results.name == RESULTS["android"]
    fields = {
        "name": table_name(folder.resolve().name, "int8"),
        "runtime": "TensorFlow Lite benchmark_model, version " + NOT_STATED if android else "Edge TPU runtime",
        "delegate": "XNNPACK" if android else "Edge TPU",
        "date": datetime.date.fromtimestamp(results.stat().st_mtime).isoformat(),
        "licence": NOT_STATED,
        "protocol": "the kit's script",
        "source": "measured with a kit of nas-latency",
        "dtype": "int8",
        "how": "measured",
        "threads": 1,
    }
    return Imported(read_kit(folder, partial=partial), fields, "every model is one operation or one network", {})


def _format(ops: Mapping[str, Sequence[OpCall]]) -> str:
    """`models.csv`: one line for each operation; `file` is empty in all lines of a model but its first."""
    lines = format_measurements(Measurement(file, tuple(many), 1.0) for file, many in ops.items())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in csv.DictReader(io.StringIO(lines)):
        writer.writerow([row["name"], *(row[column] for column in _COLUMNS[1:])])
    return out.getvalue()


def _read_manifest(path: pathlib.Path) -> list[tuple[str, dict[str, str]]]:
    """(file, operation columns) of every line."""
    reader = csv.DictReader(io.StringIO(_read(path)))
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise ValueError(f"{path}:1: got columns {', '.join(reader.fieldnames or ())}; expected {', '.join(_COLUMNS)}")
    rows: list[tuple[str, dict[str, str]]] = []
    for line, cells in enumerate(reader, start=2):
        if None in cells or None in cells.values() or not (cells["file"] or rows):
            raise ValueError(f"{path}:{line}: expected a file and {len(_COLUMNS) - 1} values")
        rows.append((cells["file"] or rows[-1][0], cells))
    return rows


def _join(rows: Sequence[tuple[str, dict[str, str]]], times: Mapping[str, dict[str, str]]) -> str:
    """Measurements as CSV text, of the models that have times."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(MEASUREMENT_COLUMNS)
    for file, cells in rows:
        if file in times:
            known = {**cells, "name": cells["file"].removesuffix(".tflite")}
            known |= times[file] if cells["file"] else dict.fromkeys(_TIMES, "")
            writer.writerow(known[column] for column in MEASUREMENT_COLUMNS)
    return out.getvalue()


def _results_csv(text: str, path: pathlib.Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Results of `run_edgetpu.py`; a last line that a crash cut off does not count."""
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    seen: set[str] = set()
    for line, cells in enumerate(reader, start=2):
        if None in cells or None in cells.values():
            raise ValueError(f"{path}:{line}: expected {len(_RESULT_COLUMNS)} values")
        if cells["file"] in seen:
            raise ValueError(f"{path}:{line}: {cells['file']} is there twice; leave one out")
        seen.add(cells["file"])
        for column in _TIMES:
            _positive(cells[column], column, f"{path}:{line}", zero=column == "std_ms")
        yield cells["file"], {column: cells[column] for column in _TIMES}


_RUNS = re.compile(r"\bcount=([0-9]+)\b(?:.*\bstd=(\S+))?")
_MEAN = re.compile(r"\bInference \(avg\): ([^\s,]+)")


def _results_text(text: str, path: pathlib.Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Results of `run_android.sh`: per model and repeat what `benchmark_model` prints, times in microseconds.

    The last counts before the summary of a repeat are those of the real runs; those before them are of the warm-up. A
    model whose end is missing was interrupted and does not count.
    """
    file, begun = "", 0
    repeats: list[tuple[float, float, int]] = []
    std, count = 0.0, 1
    for line, content in enumerate(text.splitlines(), start=1):
        where = f"{path}:{line}"
        if content.startswith("# begin "):
            file, begun, repeats = content.removeprefix("# begin ").strip(), line, []
        elif content.startswith("# repeat "):
            std, count = 0.0, 1
        elif content.startswith("# end "):
            ended = content.removeprefix("# end ").strip()
            if ended != file:
                raise ValueError(f"{where}: got the end of {ended}, but {file or 'no model'} has begun")
            if not repeats:
                raise ValueError(f"{path}:{begun}: {file} has no times; see there what benchmark_model says")
            yield file, _median(repeats)
            file = ""
        elif file and (match := _MEAN.search(content)):
            repeats.append((_positive(match[1], "Inference (avg)", where), std, count))
        elif file and (match := _RUNS.search(content)):  # without std where all runs took the same time
            std, count = _positive(match[2] or "0", "std", where, zero=True), int(match[1])


def _median(repeats: Sequence[tuple[float, float, int]]) -> dict[str, str]:
    """The median of the means, the deviation of the repeat with it, all runs; from microseconds to ms."""
    middle = sorted(repeats)[(len(repeats) - 1) // 2]
    ms = statistics.median(mean for mean, _, _ in repeats) / 1e3
    return {"ms": f"{ms:.6g}", "std_ms": f"{middle[1] / 1e3:.3g}", "count": str(sum(count for *_, count in repeats))}


def _positive(text: str, name: str, where: str, zero: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not (value > 0 or zero and value == 0) or value == float("inf"):
        raise ValueError(f"{where}: {name}: got {text!r}, expected a positive number")
    return value


def _only_results(folder: pathlib.Path) -> pathlib.Path:
    found = [folder / name for name in RESULTS.values() if (folder / name).exists()]
    if len(found) != 1:
        expected = " or ".join(RESULTS.values())
        raise ValueError(
            f"{folder}: has {len(found)} files of results, expected {expected}; run the kit's script first"
        )
    return found[0]


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"{path}: cannot be read: {cause}") from None
