"""`nas-search describe`: the layers of any network."""

from __future__ import annotations

import argparse
import sys

from nas.cli.errors import one_line_for_users
from nas.cli.messages import say


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser.

    Args:
      commands: Subcommands of the parser.
    """
    parser = commands.add_parser(
        "describe",
        help="layers of a network: shapes, parameters, MACs, operational intensity",
        description="Show every operation of a network with its shapes, parameters, MACs and "
        "operational intensity "
        "(MACs per byte of weights and inputs, one byte an element). Without a name: all known "
        "networks.",
    )
    name = "a known network, or an architecture's YAML"
    parser.add_argument("network", nargs="?", metavar="NAME|FILE", help=name)
    parser.add_argument("--html", metavar="FILE", help="also write the table as an HTML page")


def run(options: argparse.Namespace) -> None:
    """Print the table, or the known names.

    Args:
      options: Parsed options.
    """
    with one_line_for_users("nas-search describe"):
        import search_spaces
        from nas.report import layers
        from search_spaces import files

        if options.network is None:
            for name in (*search_spaces.base_names(), *search_spaces.zoo_names()):
                say(layers.summary(search_spaces.base(name)), flush=True)
            return
        spec = search_spaces.base(options.network)
        if not spec.is_frozen:
            space = search_spaces.SearchSpace(spec)
            say(f"space {space.name}: {len(space.decisions)} decisions; its largest network:\n")
            spec = search_spaces.freeze(space, [decision.largest for decision in space.decisions])
        say(layers.text(spec))
        if options.html:
            files.write_atomically(options.html, layers.page(spec))
            say(f"\nwritten: {options.html}")
        sys.stdout.flush()
