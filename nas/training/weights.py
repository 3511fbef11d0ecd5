"""A trained network in a folder: `architecture.yaml`, and its arrays in `weights.npz`."""

from __future__ import annotations

import hashlib
import json
import pathlib
from typing import Annotated, Any

import jax
import numpy as np
import pydantic
from flax import nnx

import search_spaces
from nas.model.network import build_network, split
from nas.run.train_config import TrainConfig
from nas.tasks.classification import Classification
from nas.training.program import Training
from nas.training.training import Trained, predictor
from search_spaces import ArchSpec, files, plain_json, yaml_io
from search_spaces.frozen import FrozenModel

ARCHITECTURE, WEIGHTS = "architecture.yaml", "weights.npz"
_ABOUT = "about"
_SHOWN = 3  # differences that a message lists


class _About(FrozenModel):
    """What belongs to the arrays: normalisation of images, and the recipe."""

    mean: float
    std: Annotated[float, pydantic.Field(gt=0)]
    config: TrainConfig


def save(trained: Trained, folder: pathlib.Path) -> None:
    """Write a trained network; `weights.npz` holds no code and is replaced in one step.

    Args:
      trained: The network.
      folder: Folder of the files; created if it does not exist.
    """
    search_spaces.dump(trained.spec, folder / ARCHITECTURE)
    about = {
        "mean": trained.mean,
        "std": trained.std,
        "config": trained.config.model_dump(mode="json"),
    }
    arrays = {f"{kind}{path}": leaf for kind, path, leaf in _leaves(trained.params, trained.stats)}
    with files.replaced(folder / WEIGHTS) as temporary, temporary.open("wb") as file:
        np.savez(file, **{_ABOUT: np.array(json.dumps(about))}, **arrays)


def read_spec(folder: pathlib.Path) -> ArchSpec:
    """The architecture of a saved network.

    Args:
      folder: Folder of the network.

    Raises:
      ValueError: The folder holds no network.
    """
    if not (folder / WEIGHTS).exists():
        raise ValueError(f"{folder}: holds no trained network ({ARCHITECTURE} and {WEIGHTS})")
    return search_spaces.load(folder / ARCHITECTURE)


def load(folder: pathlib.Path) -> Trained:
    """A saved network.

    Args:
      folder: Folder of the network.

    Raises:
      ValueError: There is none, it is damaged, or its arrays do not fit its architecture.
    """
    spec = read_spec(folder)
    try:
        with (
            files.open_regular(folder / WEIGHTS) as opened,
            np.load(opened, allow_pickle=False) as stored,
        ):
            arrays = dict(stored)
        text = str(arrays.pop(_ABOUT))
        about = yaml_io.validate(plain_json.parse(text, _ABOUT), _About, _ABOUT)
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(
            f"{folder / WEIGHTS}: cannot be read ({' '.join(str(error).split())})"
        ) from None
    _, params, stats = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))
    wanted = {f"{kind}{path}": leaf.shape for kind, path, leaf in _leaves(params, stats)}
    shapes = {name: array.shape for name, array in arrays.items()}
    differences = [
        f"{name}: has {shapes.get(name, 'nothing')}, {ARCHITECTURE} needs "
        f"{wanted.get(name, 'nothing')}"
        for name in {**wanted, **shapes}
        if shapes.get(name) != wanted.get(name)
    ]
    if differences:
        more = len(differences) - _SHOWN
        raise ValueError(
            f"{folder / WEIGHTS}: {'; '.join(differences[:_SHOWN])}"
            f"{f'; and {more} more' * (more > 0)}; the two files are of different networks: copy "
            "both from one training"
        )

    for name, array in arrays.items():
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise ValueError(
                f"{folder / WEIGHTS}: {name}: got {array.dtype} with numbers that are not finite, "
                "expected finite ones"
                if np.issubdtype(array.dtype, np.floating)
                else f"{folder / WEIGHTS}: {name}: got {array.dtype}, expected float32"
            )
        if name.endswith("['var']") and (array < 0).any():
            raise ValueError(f"{folder / WEIGHTS}: {name}: a variance below 0")

    def filled(kind: str, tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: arrays[kind + jax.tree_util.keystr(path)], tree
        )

    params, stats = filled("params", params), filled("stats", stats)
    config, mean, std = about.config, about.mean, about.std
    training = Training(spec, config, mean, std, Classification(spec.classes, soft=False))
    return Trained(spec, config, mean, std, params, stats, predictor(training, params, stats))


def digest(trained: Trained) -> str:
    """First 16 hex digits of the sha256 of all arrays.

    Args:
      trained: The network.
    """
    found = hashlib.sha256()
    for kind, path, leaf in _leaves(trained.params, trained.stats):
        found.update(f"{kind}{path}".encode())
        found.update(np.asarray(leaf, np.float32).tobytes())
    return found.hexdigest()[:16]


def _leaves(params: Any, stats: Any) -> list[tuple[str, str, Any]]:
    return [
        (kind, jax.tree_util.keystr(path), leaf)
        for kind, tree in (("params", params), ("stats", stats))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
