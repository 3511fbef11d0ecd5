"""Importers: latency data of other sources as measurements and tables.

To add one: a module with a function `read`, and a row in `IMPORTERS`. For one of your own:
`IMPORTERS.register(name, Importer(read))`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from latency_tables.importers import (
    ai_hub,
    nn_meter_blocks,
    nn_meter_operators,
    ofa,
    tflite_benchmark,
    tunas,
)
from latency_tables.importers.base import NOT_STATED, Imported, Importer
from latency_tables.measurement import save_measurements, single_rows
from latency_tables.table import Manifest, Table, save_table
from search_spaces import OpCall
from search_spaces.families import Family

IMPORTERS: Family[Importer] = Family(
    "importer",
    {
        "nn_meter_operators": Importer(nn_meter_operators.read),
        "nn_meter_blocks": Importer(nn_meter_blocks.read),
        "ofa": Importer(ofa.read),
        "tunas": Importer(tunas.read),
        "tflite_benchmark": Importer(tflite_benchmark.read, needs_operations=True),
        "ai_hub": Importer(ai_hub.read, needs_operations=True),
    },
)

__all__ = [
    "IMPORTERS",
    "NOT_STATED",
    "Imported",
    "Importer",
    "import_table",
    "read",
    "write_table",
]


def read(
    importer: str, path: str | os.PathLike[str], ops: Sequence[OpCall] | None = None
) -> Imported:
    """Read latency data of another source.

    Args:
      importer: A name in `IMPORTERS`.
      path: File or folder.
      ops: `lower(spec)` of the network that was profiled; for importers of profiles only.

    Returns:
      The measurements, and the fields of a manifest.

    Raises:
      ValueError: One line: an unknown importer, operations that are missing or not wanted, or file,
        line and cause of a mistake in the file.
    """
    chosen = IMPORTERS.get(importer)
    if not chosen.needs_operations:
        if ops is not None:
            raise ValueError(
                f"{importer}: the source says what was measured; leave the network out"
            )
        return chosen.read(path)
    if ops is None:
        raise ValueError(f"{importer}: a profile has no shapes; name the network that was profiled")
    return chosen.read(path, ops)


def import_table(
    importer: str,
    path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    ops: Sequence[OpCall] | None = None,
    **overrides: object,
) -> Table | None:
    """Read latency data of another source, and write it to a folder.

    Args:
      importer: A name in `IMPORTERS`.
      path: File or folder of the source.
      folder: Folder to write to; see `write_table`.
      ops: `lower(spec)` of the network that was profiled; for importers of profiles only.
      **overrides: Fields of the manifest; see `write_table`.

    Returns:
      The table, or None where the source has blocks only.

    Raises:
      ValueError: As `read` and `write_table`.
    """
    return write_table(read(importer, path, ops), folder, **overrides)


def write_table(
    imported: Imported, folder: str | os.PathLike[str], **overrides: object
) -> Table | None:
    """Write single operations as a table, and blocks and networks as measurements beside it.

    Args:
      imported: Result of an importer.
      folder: Folder for `rows.csv` and `manifest.yaml` (`table.load_table`), and `measurements.csv`
        and `measurements.yaml` (`measurement.load_measurements`), as far as there is something to
        write.
      **overrides: Fields of the manifest that the source does not state, or states wrongly, e.g.
        `threads=1`.

    Returns:
      The table, or None where the source has blocks only.

    Raises:
      ValueError: One line: a manifest field that neither the source nor `overrides` gives, or one
        that is wrong.
    """
    fields = {**imported.fields, **overrides}
    required = {
        info.alias or name for name, info in Manifest.model_fields.items() if info.is_required()
    }
    if missing := sorted(required - {"rows", "sha256"} - set(fields)):
        raise ValueError(
            f"{folder}: the source does not state {', '.join(missing)}; "
            f"give each, e.g. {missing[0]}=..."
        )
    fields["protocol"] = f"{fields['protocol']}; {imported.decomposition_note}"
    rows = single_rows(imported.measurements)
    several = [measurement for measurement in imported.measurements if len(measurement.ops) > 1]
    table = save_table(folder, rows, **fields) if rows else None
    if several:
        save_measurements(folder, several, **fields)
    return table
