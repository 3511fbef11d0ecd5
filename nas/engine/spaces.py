"""Search space of a stage, from the files of its run alone.

Needs no JAX, so that reports load at once.
"""

from __future__ import annotations

import pathlib

import search_spaces
from nas.run.config import RunConfig
from nas.run.folder import RunFolder
from search_spaces import SearchSpace, stages


def space_of(stage: str, config: RunConfig, workdir: pathlib.Path) -> SearchSpace:
    """Build the search space of a stage.

    Args:
      stage: Name of the stage.
      config: Configuration of the search.
      workdir: Folder of the search, which holds the result that the stage starts from.

    Returns:
      The space.

    Raises:
      ValueError: A bad base, or the stage before has no result.
    """
    row = stages.STAGES.get(stage)
    options = [getattr(config.space, name) for name in row.options]
    if row.after is None:
        base = search_spaces.base(config.space.base)
        if config.space.classes is not None:
            base = search_spaces.with_classes(base, config.space.classes)
        return row.space(base, *options)
    result = RunFolder(workdir).stage(row.after).architecture
    if not result.exists():
        raise ValueError(
            f"{result}: the {stage} stage starts from the {row.after} result, which is not there; "
            f"run `nas-search --stage {row.after} --workdir {workdir}` first"
        )
    return row.space(search_spaces.load(result), *options)
