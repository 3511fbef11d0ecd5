"""Arguments of trainings, resolved and checked against the data. No JAX."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import search_spaces
from nas.api.result import SearchResult, open_result
from nas.host.terminal import listed
from nas.run import config_files
from nas.run.folder import RunFolder
from nas.run.optimizers import OPTIMIZERS
from nas.run.train_config import TrainConfig, check_shares
from search_spaces import ArchSpec, with_classes
from search_spaces.ops import Padding

if TYPE_CHECKING:
    from nas.data.dataset import Dataset

DEFAULT_RECIPE = "small"


def check(arguments: Mapping[str, Any], loaded: Callable[[Any, int], Dataset[Any]]) -> None:
    """Refuse a training of a matrix that could not run, without JAX.

    Args:
      arguments: Arguments of `open_job`.
      loaded: From a source and a size to its data set.

    Raises:
      ValueError: Something unknown, or that does not fit.
    """
    names = ("network", "data", "recipe", "settings")
    spec, _, data, _, config = resolved(**{name: arguments[name] for name in names})
    fitting(spec, loaded(data, spec.resolution), arguments["fit_classes"])


def resolved(
    network: Any,
    data: Any,
    recipe: Any,
    optimizer: Any = None,
    settings: Mapping[str, Any] | None = None,
    changes: Sequence[str] = (),
) -> tuple[ArchSpec, SearchResult | None, Any, str, TrainConfig]:
    """Resolve arguments of `nas.train`, without JAX.

    Args:
      network: Result, folder, spec, file or name.
      data: Data set by name, or one of your own.
      recipe: Recipe by name, file or object.
      optimizer: Optimiser by name, or one of your own.
      settings: {key path: value}.
      changes: "key.path=value" each.

    Returns:
      The network, its search if it has one, the source of the data, and name and content of the
      recipe.

    Raises:
      ValueError: Something unknown, or that does not fit.
    """
    spec, result = _network(network)
    given = dict(settings or {})
    if optimizer is not None:
        given["optimizer"] = OPTIMIZERS.name_of(optimizer)
    if isinstance(recipe, TrainConfig):
        name, config = "recipe", config_files.changed(recipe, given)
    else:
        name = pathlib.Path(recipe).stem
        config = config_files.load(recipe, TrainConfig, changes, given, "recipes")
    if data is None and result is not None:
        data = result.record.config.data.source
    if data is None:
        raise ValueError(
            f"`data`: {spec.name} is a network alone, so its data must be given, e.g. "
            "imagefolder:photos"
        )
    check_shares(config)
    return spec, result, data, name, config


def fitting(spec: ArchSpec, dataset: Dataset[Any], fit_classes: bool) -> ArchSpec:
    """The network with the classes of the data.

    Args:
      spec: The network.
      dataset: The data.
      fit_classes: Give the classifier as many classes as the data have.

    Raises:
      ValueError: Other classes, or images that the network does not take.
    """
    spec = _with_classes_of(spec, dataset, fit_classes)
    if dataset.train.shape != (spec.resolution, spec.resolution, spec.input_channels):
        raise ValueError(
            f"`data`: {dataset.name} has images {list(dataset.train.shape)}, {spec.name} takes "
            f"{[spec.resolution, spec.resolution, spec.input_channels]}"
        )
    return spec


def with_padding(spec: ArchSpec, padding: Any) -> ArchSpec:
    """The network with another padding.

    Args:
      spec: The network.
      padding: Name of the padding.

    Raises:
      ValueError: No such padding.
    """
    if padding not in (known := get_args(Padding)):
        raise ValueError(f"`padding`: got {padding!r}, expected one of {', '.join(known)}")
    return spec.model_copy(update={"padding": padding})


def _network(network: Any) -> tuple[ArchSpec, SearchResult | None]:
    if isinstance(network, ArchSpec):
        return network, None
    if isinstance(network, SearchResult):
        return network.architecture, network
    path = pathlib.Path(network)
    if not path.is_dir():
        return search_spaces.base(str(network)), None
    if RunFolder(path).stages:
        result = open_result(path)
        return result.architecture, result
    if path.name in RunFolder(path.parent).stages:
        result = open_result(path.parent, path.name)
        return result.architecture, result
    if (path / "architecture.yaml").exists():
        return search_spaces.load(path / "architecture.yaml"), None
    raise ValueError(f"{path}: holds neither a search nor an architecture.yaml")


def _with_classes_of(spec: ArchSpec, dataset: Dataset[Any], fit_classes: bool) -> ArchSpec:
    classes = len(dataset.class_names)
    if spec.classes == classes:
        return spec
    if not fit_classes:
        raise ValueError(
            f"`data`: {dataset.name} has {classes} classes ({listed(dataset.class_names)}), "
            f"{spec.name} has {spec.classes} outputs; with `fit_classes` the classifier gets as "
            "many as the data have"
        )
    return with_classes(spec, classes)
