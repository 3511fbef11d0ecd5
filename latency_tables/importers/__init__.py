"""Importers: latency data of others as measurements and tables. To add one: a module with `read`, and a row here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from latency_tables.importers import ai_hub, nn_meter_blocks, nn_meter_operators, ofa, tflite_benchmark, tunas
from latency_tables.importers.base import NOT_STATED, Imported
from latency_tables.measurement import save_measurements, single_rows
from latency_tables.table import Manifest, Table, save_table
from search_spaces import OpCall

Importer = Callable[..., Imported]

IMPORTERS: dict[str, Importer] = {
    "nn_meter_operators": nn_meter_operators.read,
    "nn_meter_blocks": nn_meter_blocks.read,
    "ofa": ofa.read,
    "tunas": tunas.read,
    "tflite_benchmark": tflite_benchmark.read,
    "ai_hub": ai_hub.read,
}
NEED_OPERATIONS = frozenset({"tflite_benchmark", "ai_hub"})
"""Importers of profiles: they also need the operations of the network that was profiled."""

__all__ = ["IMPORTERS", "NEED_OPERATIONS", "NOT_STATED", "Imported", "Importer", "import_table", "read", "write_table"]


def read(importer: str, path: str | os.PathLike[str], ops: Sequence[OpCall] | None = None) -> Imported:
    """Read somebody's latency data.

    Args:
      importer: a name in `IMPORTERS`.
      path: file or folder.
      ops: `lower(spec)` of the network that was profiled, for the importers of profiles only.

    Raises:
      ValueError: one line: unknown importer, operations missing or not wanted, or what is wrong where in the file.
    """
    if importer not in IMPORTERS:
        raise ValueError(f"no importer called {importer!r}; known: {', '.join(IMPORTERS)}")
    if importer not in NEED_OPERATIONS:
        if ops is not None:
            raise ValueError(f"{importer}: the source says what was measured; leave the network out")
        return IMPORTERS[importer](path)
    if ops is None:
        raise ValueError(f"{importer}: a profile has no shapes; name the network that was profiled")
    return IMPORTERS[importer](path, ops)


def import_table(
    importer: str,
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    ops: Sequence[OpCall] | None = None,
    **overrides: object,
) -> Table | None:
    """Read somebody's latency data and write it to a folder; see `read` and `write_table`."""
    return write_table(read(importer, path, ops), folder, **overrides)


def write_table(imported: Imported, folder: str | os.PathLike[str], **overrides: object) -> Table | None:
    """Write single operations as a table, and blocks and networks as measurements beside it.

    Args:
      imported: what an importer read.
      folder: gets `rows.csv` and `manifest.yaml` (`table.load_table`), and `measurements.csv` and `measurements.yaml`
        (`measurement.load_measurements`), as far as there is something to write.
      overrides: manifest fields that the source does not state, or states wrongly, e.g. `threads=1`.

    Returns:
      The table, or None where the source has blocks only.

    Raises:
      ValueError: one line; a manifest field that neither the source nor `overrides` gives, or one that is wrong.
    """
    fields = {**imported.fields, **overrides}
    required = {name for name, info in Manifest.model_fields.items() if info.is_required()} - {"rows", "sha256"}
    if missing := sorted(required - set(fields)):
        raise ValueError(
            f"{folder}: the source does not state {', '.join(missing)}; give each, e.g. --set {missing[0]}=..."
        )
    fields["protocol"] = f"{fields['protocol']}; {imported.decomposed}"
    rows = single_rows(imported.measurements)
    several = [one for one in imported.measurements if len(one.ops) > 1]
    table = save_table(folder, rows, **fields) if rows else None
    if several:
        save_measurements(folder, several, **fields)
    return table
