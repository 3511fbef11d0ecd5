"""Command: fit the operator model of a table once, and keep its parameters beside the rows.

python -m latency_tables.fit_operator_model TABLE

TABLE is the folder of a table, or the name of a shipped one. A device with `fallback: interpolate`
then builds its operator model at once instead of fitting it in every process that uses it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from latency_tables import operator_parameters
from latency_tables.table import load_table, table_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, write and print the name of the file.

    Args:
      arguments: Arguments of the command; None for those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m latency_tables.fit_operator_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "table", metavar="TABLE", help="folder of a table, or name of a shipped one"
    )
    options = parser.parse_args(arguments)
    try:
        table = load_table(options.table)
        path = operator_parameters.save_parameters(table, table_folder(options.table))
    except ValueError as error:
        parser.error(str(error))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
