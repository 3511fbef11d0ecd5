"""Fitted parameters of operator models, kept beside the rows of a table.

`python -m latency_tables.fit_operator_model TABLE` writes them.
"""

from __future__ import annotations

import logging
import pathlib
from typing import Annotated, Literal

import pydantic

from latency_tables.gaussian_process import KindParameters
from latency_tables.operator_model import OperatorModel, OperatorParameters
from latency_tables.table import Table
from search_spaces import files, yaml_io
from search_spaces.frozen import FrozenModel

FILE = "operator_model.yaml"
_LOGGER = logging.getLogger("latency_tables")


class ParametersFile(FrozenModel):
    """Parameters of an operator model, and the rows that they were fitted to.

    Attributes:
      schema_version: Version of the file format; the key `schema` in YAML.
      rows_sha256: Hash of the CSV file of the rows; parameters of other rows are not used.
      kinds: {kind of operation: its parameters}.
    """

    schema_version: Annotated[Literal[1], pydantic.Field(alias="schema")] = 1
    rows_sha256: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]
    kinds: dict[str, KindParameters]


def load_model(table: Table, folder: pathlib.Path) -> OperatorModel:
    """Build the operator model of a table from the parameters beside it, or fit it.

    A model is fitted where there are no parameters, or only parameters of other rows. That takes
    seconds and is logged to the logger "latency_tables" at level INFO.

    Both ways give the same model to the bit: parameters are written exactly, and conditioning on
    the rows is the same code. Predictions themselves depend on the build and the number of threads
    of the BLAS library (one thread and two differ by up to 2e-13, relative), with fitted and with
    kept parameters.

    Args:
      table: Table to model.
      folder: Folder of the table.

    Returns:
      The model.

    Raises:
      ValueError: One line with file, line and cause if the file of parameters is damaged.
    """
    ops, ms = [row.op for row in table.rows], table.ms
    parameters = _load_parameters(table, folder / FILE)
    if parameters is not None:
        return OperatorModel.build(parameters, ops, ms)
    _LOGGER.info(
        "table %s: fitting an operator model to %d rows, which takes seconds; to keep it, run "
        "python -m latency_tables.fit_operator_model %s",
        table.manifest.name,
        len(ops),
        folder,
    )
    return OperatorModel.fit(ops, ms)


def save_parameters(table: Table, folder: pathlib.Path) -> pathlib.Path:
    """Fit the operator model of a table, and write its parameters beside the rows.

    Args:
      table: Table to model.
      folder: Folder of the table.

    Returns:
      The file that was written.
    """
    model = OperatorModel.fit([row.op for row in table.rows], table.ms)
    kept = ParametersFile(rows_sha256=table.manifest.sha256, kinds=model.parameters.kinds)
    files.write_atomically(folder / FILE, yaml_io.to_yaml(kept))
    return folder / FILE


def _load_parameters(table: Table, path: pathlib.Path) -> OperatorParameters | None:
    """The parameters in a file; None if there is no file, or if they belong to other rows."""
    if not path.exists():
        return None
    kept = yaml_io.load_model(path, ParametersFile)
    if kept.rows_sha256 != table.manifest.sha256:
        _LOGGER.info("%s: belongs to other rows and is not used", path)
        return None
    return OperatorParameters(kinds=kept.kinds)
