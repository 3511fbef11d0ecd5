"""`--help`: complete, though the tables that it names are not imported for it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from latency_tables.importers import IMPORTERS
from nas.api import results
from nas.cli import (
    data,
    derive,
    diagnose,
    distil,
    errors,
    export,
    latency,
    paths,
    report,
    search,
    tables,
    train,
)
from nas.data.augment.recipes import RECIPES
from nas.exporters.formats import FORMATS
from nas.run import config_files
from nas.searchers.host import SEARCHERS
from search_spaces.stages import STAGES

HEAVY = {"jax", "pydantic", "numpy", "flax", "yaml", "rich"}
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "nas-search": search._parser,
    "nas-latency": latency._parser,
    "nas-distill": distil._parser,
    "nas-train": train._parser,
    "nas-export": export._parser,
    "nas-data": data._parser,
}


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


def option(name: str, parser: argparse.ArgumentParser) -> argparse.Action:
    (action,) = (action for action in parser._actions if name in action.option_strings)
    return action


def test_stages_are_those_of_the_table() -> None:
    *first, last = [name for name in STAGES if name not in STAGES.customs()]
    assert f"{', '.join(first)} or {last}" == paths.STAGES


@pytest.mark.parametrize(
    ("command", "name"),
    [("nas-search", "--stage"), ("derive", "--stage"), ("diagnose", "--stage")]
    + [("measure", "--space"), ("bench-kit", "--space")],
)
def test_options_of_a_stage_name_them_all(command: str, name: str) -> None:
    every = [parser for program in PARSERS.values() for parser in parsers(program())]
    (parser,) = (parser for parser in every if parser.prog.split()[-1] == command)
    text = option(name, parser).help
    assert text is not None and paths.STAGES in text


def test_formats_are_those_of_the_table() -> None:
    assert ("kit", *IMPORTERS) == tables.FORMATS
    (parser,) = (p for p in parsers(latency._parser()) if p.prog.endswith(" import"))
    text = " ".join(parser.format_help().split())
    assert all(name in text for name in tables.FORMATS)


def test_recipes_and_searchers_are_those_of_the_tables() -> None:
    recipe = option("--recipe", distil._parser()).help
    assert recipe is not None and all(name in recipe for name in RECIPES)
    (parser,) = (p for p in parsers(search._parser()) if p.prog.endswith(" derive"))
    by = option("--by", parser).help
    assert by is not None and all(name in by for name in (*SEARCHERS, "policy"))


def test_recipes_of_trainings_and_formats_of_exports_are_named() -> None:
    text = train._parser().format_help()
    for name in config_files.recipes("recipes"):
        assert name in text or name.startswith("mnv4-"), name
    text = export._parser().format_help()
    assert all(name in text for name in FORMATS)


def test_defaults_of_trainings_are_those_of_the_library() -> None:
    assert diagnose.RECIPE == results.RECIPE
    assert derive._ROUNDS == results.ROUNDS


def test_parameters_are_translated_to_options_that_exist() -> None:
    known = {
        name
        for program in PARSERS.values()
        for parser in parsers(program())
        for action in parser._actions
        for name in action.option_strings
    }
    assert set(errors.OPTIONS.values()) <= known
    message = errors.with_options("`workdir` a/b: `rounds` and `no_such_parameter`, `settings` x")
    assert message == "--workdir a/b: --seeds and `no_such_parameter`, --set x"


@pytest.mark.parametrize(
    "module", [search, latency, distil, report, data], ids=lambda m: m.__name__
)
def test_help_answers_without_heavy_imports(module: object) -> None:
    name = module.__name__  # pyright: ignore[reportAttributeAccessIssue]
    code = (
        f"import sys, json\nfrom {name} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n"
        "    print(json.dumps([stop.code, sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("usage: nas-") and "examples:" in done.stdout
    exit_code, modules = json.loads(done.stderr)
    assert exit_code in (0, None)
    assert not HEAVY & set(modules)


def test_examples_of_a_search_are_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        search.main(["--help"])
    out = capsys.readouterr().out
    assert "usage: nas-search" in out and "nas-search --stage fine" in out
