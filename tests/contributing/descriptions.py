"""Rows about networks, costs and rewards: each edits a copy and returns code to run there."""

from __future__ import annotations

import pathlib
import re
import shutil

from .edits import change, write


def add_block(root: pathlib.Path) -> str:
    write(
        root,
        "search_spaces/blocks/negation.py",
        '''\
        """A block that changes the sign of its input."""

        from collections.abc import Iterator
        from typing import Literal

        from search_spaces.blocks.base import BaseBlock
        from search_spaces.ops import OpCall, Shape


        class Negation(BaseBlock):
            """x -> -x."""

            kind: Literal["negation"] = "negation"

            def lower(self, at: Shape) -> Iterator[OpCall]:
                """No multiplication."""
                return iter(())
        ''',
    )
    path = "search_spaces/blocks/__init__.py"
    change(
        root,
        path,
        "Block = Annotated[\n    Conv\n",
        "Block = Annotated[\n    Negation\n    | Conv\n",
    )
    text = (root / path).read_text(encoding="utf-8")
    first = re.search(r"^from search_spaces", text, re.M)
    assert first
    line = "from search_spaces.blocks.negation import Negation\n"
    (root / path).write_text(text[: first.start()] + line + text[first.start() :], encoding="utf-8")
    write(
        root,
        "nas/model/blocks/negation.py",
        '''\
        """Module of the negation."""

        from flax import nnx


        class Negation(nnx.Module):
            """x -> -x."""

            def __init__(self, spec, in_channels, *, config, rngs):
                pass

            def __call__(self, x, ctx):
                return -x
        ''',
    )
    path = "nas/model/blocks/__init__.py"
    row = "    blocks.Conv: mobile.Conv,\n"
    change(root, path, row, f"    blocks.Negation: negation.Negation,\n{row}")
    change(
        root,
        path,
        "import attention, classic, mobile, vit",
        "import attention, classic, mobile, negation, vit",
    )
    return """
    import jax.numpy as jnp, nas, search_spaces
    from flax import nnx
    from search_spaces import ArchSpec, yaml_io
    blocks = "[{kind: negation}, {kind: pool}, {kind: classifier, classes: 2}]"
    text = f"name: a\\nresolution: 4\\nblocks: {blocks}"
    spec = yaml_io.parse_model(text, ArchSpec, "a")
    assert search_spaces.params(spec) == 8
    assert nas.build_network(spec, rngs=nnx.Rngs(0))(jnp.ones((1, 4, 4, 3))).shape == (1, 2)
    """


def add_stage(root: pathlib.Path) -> str:
    path = "search_spaces/stages.py"
    text = (root / path).read_text(encoding="utf-8")
    row = re.search(r"\n( *)(\"one-stage\": Stage|Stage\(\s*\"one-stage\"|_one_stage)", text)
    assert row, "the table of stages"
    (root / path).write_text(
        text
        + '\nSTAGES.register("shallow", Stage("shallow", None, coarse_space, ("coarse",), 7))\n'
    )
    return """
    from nas.run.config import RunConfig, StepsConfig
    from search_spaces.stages import STAGES, stage_seed
    assert StepsConfig().of("shallow") == 7
    assert [stage_seed(name, 1) for name in list(STAGES)[:4]] == [4, 5, 6, 7]
    """


def add_known_network(root: pathlib.Path) -> str:
    shutil.copy(root / "search_spaces/bases/small-32.yaml", root / "search_spaces/bases/mine.yaml")
    change(root, "search_spaces/bases/mine.yaml", "name: small-32", "name: mine")
    return """
    import search_spaces
    assert "mine" in search_spaces.base_names() and search_spaces.base("mine").name == "mine"
    """


def add_device(root: pathlib.Path) -> str:
    write(
        root,
        "latency_tables/devices/mine.yaml",
        """\
        schema: 1
        kind: roofline
        name: mine
        source: a test
        date: '2026-01-01'
        ridge_point: 10.0
        bandwidth_gb_s: 5.0
        """,
    )
    return """
    import latency_tables, search_spaces
    assert "mine" in latency_tables.devices()
    assert latency_tables.estimate(search_spaces.zoo("mnv4-conv-s"), "mine").ms > 0
    """


def add_kind_of_device(root: pathlib.Path) -> str:
    path = root / "latency_tables/kinds.py"
    text = path.read_text(encoding="utf-8")
    row = re.search(r"^Device = (.*)$", text, re.M)
    assert row
    added = '''
class FlatDevice(DeviceModel):
    """A device on which every operation takes the same time."""

    kind: Literal["flat"] = "flat"

    @property
    def description(self) -> str:
        return "1 ms an operation"

    def op_costs(self, ops: Sequence[OpCall]) -> np.ndarray:
        return np.ones(len(ops))


'''
    text = text.replace(row[0], f"{added}{row[0]} | FlatDevice")
    path.write_text(text, encoding="utf-8")
    write(
        root,
        "latency_tables/devices/flat.yaml",
        "schema: 1\nkind: flat\nname: flat\nsource: a test\ndate: '2026-01-01'\n",
    )
    return """
    import latency_tables, search_spaces
    spec = search_spaces.zoo("mnv4-conv-s")
    assert latency_tables.estimate(spec, "flat").ms == len(search_spaces.lower(spec))
    """


def add_importer(root: pathlib.Path) -> str:
    write(
        root,
        "latency_tables/importers/mine.py",
        '''\
        """Nothing is ever measured."""

        from latency_tables.importers.base import Imported


        def read(path):
            """Read nothing."""
            return Imported((), {"device": "none"}, "nothing was measured", {})
        ''',
    )
    path = "latency_tables/importers/__init__.py"
    row = '        "ofa": Importer(ofa.read),\n'
    change(root, path, row, f'{row}        "mine": Importer(mine.read),\n')
    text = (root / path).read_text(encoding="utf-8")
    first = text.index("from latency_tables.importers.base")
    line = "from latency_tables.importers import mine\n"
    (root / path).write_text(text[:first] + line + text[first:], encoding="utf-8")
    return """
    from latency_tables import importers
    assert importers.read("mine", ".").fields["device"] == "none"
    """


def add_reward(root: pathlib.Path) -> str:
    write(
        root,
        "rewards/quality_only.py",
        '''\
        """Quality alone."""


        def quality_only(quality, ratios, exponent):
            """Ignore the cost."""
            return quality
        ''',
    )
    change(
        root,
        "rewards/__init__.py",
        '        "absolute": Reward(absolute),\n',
        '        "absolute": Reward(absolute),\n        "quality": Reward(quality_only),\n',
    )
    change(
        root,
        "rewards/__init__.py",
        "from rewards.absolute import absolute\n",
        "from rewards.absolute import absolute\nfrom rewards.quality_only import quality_only\n",
    )
    return """
    from nas.run.config import RewardConfig
    from rewards import REWARDS
    assert REWARDS[RewardConfig(kind="quality").kind](0.5, None, -1) == 0.5
    """
