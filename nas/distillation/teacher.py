"""Teachers: networks that give class probabilities, `onnx:FILE`, `tflite:FILE` or `checkpoint:RUN`.

Formats of their files are in `nas.distillation.backends`. Letters: b images.
"""

from __future__ import annotations

import contextlib
import copy
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from nas.data.distilled.manifest import TeacherFile, TeacherRecord, TeacherSpec
from nas.distillation import class_names as names
from nas.distillation import teacher_files
from nas.distillation.backends import KINDS
from search_spaces import files, yaml_io

_ROUNDING = 1e-2
"""Rows of probabilities sum to 1 within this."""


class Teacher:
    """An opened teacher.

    Args:
      record: Reference to the teacher.
      class_names: Names of the classes of the data set.

    Attributes:
      spec: Its conventions.
      text: Its scheme and file.
      backend: Its network.
      outputs: Outputs that stand for the classes.

    Raises:
      ValueError: It cannot be opened, or does not fit the spec or the classes.
    """

    def __init__(self, record: TeacherRecord, class_names: Sequence[str]):
        kind, _, path = record.text.partition(":")
        self.spec = record.spec
        self.text = record.text
        self._classes = len(class_names)
        with self._named():
            self.backend = KINDS.get(kind)(pathlib.Path(path), record.spec)
            self.outputs = names.choose(
                record.spec, self.backend.class_names, self.backend.outputs, class_names
            )
        if self.backend.outputs is not None:
            self._check(self.backend.outputs)

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Evaluate the teacher on images, a batch of the spec's size at a time.

        Args:
          images: b RGB images of any size.

        Returns:
          float32 [b, classes], probabilities.

        Raises:
          ValueError: The outputs do not fit the spec or the classes.
        """
        return self.probabilities(self.raw(images))

    def with_spec(self, **changes: object) -> Teacher:
        """The same network with other conventions.

        Args:
          **changes: Fields of the spec that say how it is fed.
        """
        other = copy.copy(self)
        other.spec = self.spec.model_copy(update=changes)
        return other

    def raw(self, images: Sequence[Image.Image]) -> np.ndarray:
        """All outputs of the network, as it gives them.

        Args:
          images: b RGB images of any size.

        Returns:
          float64 [b, outputs].

        Raises:
          ValueError: The network fails, or the outputs do not fit the classes.
        """
        spec = self.spec
        chunks = []
        for start in range(0, len(images), spec.batch):
            x = np.stack([self._input(image) for image in images[start : start + spec.batch]])
            outputs = self.backend.call(
                x if spec.layout == "nhwc" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
            )
            self._check(outputs.shape[-1])
            chunks.append(outputs.reshape(len(x), -1).astype(np.float64))
        return np.concatenate(chunks)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Class probabilities from outputs.

        Args:
          outputs: float64 [b, outputs], from `raw`.

        Returns:
          float32 [b, classes].

        Raises:
          ValueError: They are not what the spec says, or not finite.
        """
        kind = self.spec.output
        outputs = outputs[:, list(self.outputs.kept)]
        # Each output of a quantised network is rounded.
        rounding = _ROUNDING + self.backend.step * outputs.shape[1] / 2
        if kind == "logits":
            outputs = np.exp(outputs - outputs.max(1, keepdims=True))
        elif (outputs < -1e-3).any() or (outputs > 1 + _ROUNDING + self.backend.step).any():
            raise ValueError(
                f"{self.text}: its outputs are no probabilities; write `output: logits` in its YAML"
            )
        elif kind == "probabilities" and (outputs.sum(1) > 1 + rounding).any():
            raise ValueError(
                f"{self.text}: its outputs are no probabilities of one class: they lie in 0..1, "
                f"but sum to {outputs.sum(1).max():.3g}; write `output: sigmoid` in its YAML"
            )
        total = outputs.sum(1, keepdims=True)
        if not (np.isfinite(total).all() and (total > 0).all()):
            raise ValueError(
                f"{self.text}: gives no finite probabilities; check mean, std and layout in its "
                "YAML"
            )
        return (outputs / total).astype(np.float32)

    def _input(self, image: Image.Image) -> np.ndarray:
        size = (self.spec.size, self.spec.size)
        if image.size != size:
            image = image.resize(size, Image.Resampling[self.spec.resample.upper()])
        pixels = np.asarray(image, np.float32)
        if self.spec.channels == "bgr":
            pixels = pixels[..., ::-1]
        return (pixels - np.array(self.spec.mean, np.float32)) / np.array(self.spec.std, np.float32)

    def _check(self, outputs: int) -> None:
        kept = self.spec.classes
        if kept is None and outputs == 1:
            raise ValueError(
                f"{self.text}: gives one number for an image; expected one for each of the "
                f"{self._classes} classes: export it with them"
            )
        if kept is None and outputs != self._classes and not self.outputs.are_named:
            raise ValueError(
                f"{self.text}: gives {outputs} outputs, but the source has {self._classes} "
                "classes; list the outputs that stand for them, in order, as `classes:` in its "
                "YAML, or the names of all outputs as `class_names:`"
            )
        listed = self.spec.class_names
        if kept is None and listed and outputs != len(listed):
            raise ValueError(
                f"{self.text}: gives {outputs} outputs, but its `class_names` has {len(listed)}; "
                "list one name for each output, in order"
            )
        if kept is not None and len(kept) != self._classes:
            raise ValueError(
                f"{self.text}: its YAML keeps {len(kept)} classes, but the source has "
                f"{self._classes}; list one output for each class, in order"
            )
        if max(self.outputs.kept) >= outputs:
            raise ValueError(
                f"{self.text}: its YAML keeps output {max(self.outputs.kept)}, but it has only "
                f"{outputs}; list outputs 0..{outputs - 1} as `classes:`"
            )

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Context in which an error of the door names the teacher."""
        try:
            yield
        except ValueError as error:
            path = self.text.partition(":")[2]
            raise ValueError(
                str(error) if path in str(error) else f"{self.text}: {error}"
            ) from None


def describe(text: str, spec_file: str | None = None) -> TeacherRecord:
    """Read the YAML of a teacher and hash its files, without opening it.

    Args:
      text: "scheme:path".
      spec_file: Path of its YAML; by default beside it, with the suffix .yaml. A checkpoint needs
        none.

    Returns:
      The reference to the teacher.

    Raises:
      ValueError: The scheme is unknown, there is no such file, or the YAML does not fit.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        raise ValueError(
            f"teacher {text!r}: expected {' or '.join(f'{name}:...' for name in KINDS)}"
        )
    # Processes of a cluster have other working directories.
    path = pathlib.Path(rest).expanduser().absolute()
    if not path.exists():
        raise ValueError(f"teacher {text}: no such file")
    text = f"{kind}:{path}"
    if kind == "checkpoint":
        return _describe_training(text, path, spec_file)
    yaml_path = pathlib.Path(spec_file) if spec_file else path.with_suffix(".yaml")
    if not yaml_path.exists():
        raise ValueError(
            f"teacher {text}: needs {yaml_path} with at least name and size, and mean, std, "
            "layout, output and classes where they differ from pixels / 255, nhwc, logits and all"
        )
    if not path.is_file():
        raise ValueError(f"teacher {text}: is no file; give the file of the network")
    weights = teacher_files.onnx_files(path) if kind == "onnx" else ()
    spec, lists = _read_spec(yaml_path)
    return TeacherRecord(text=text, sha256=files.sha256(path), spec=spec, files=(*weights, *lists))


def _describe_training(text: str, path: pathlib.Path, spec_file: str | None) -> TeacherRecord:
    # Imported here because it loads JAX.
    from nas.training import weights

    spec = TeacherSpec(
        name=path.name,
        size=weights.read_spec(path).resolution,
        mean=(0.0,),
        std=(1.0,),
        output="probabilities",
    )
    architecture = files.sha256(path / weights.ARCHITECTURE)
    lists: tuple[TeacherFile, ...] = ()
    if spec_file:
        spec, lists = _read_spec(pathlib.Path(spec_file))
    return TeacherRecord(
        text=text,
        sha256=files.sha256(path / weights.WEIGHTS),
        spec=spec,
        files=(TeacherFile(name=weights.ARCHITECTURE, sha256=architecture), *lists),
    )


def _read_spec(path: pathlib.Path) -> tuple[TeacherSpec, tuple[TeacherFile, ...]]:
    """The spec in a YAML file with the names of its class list, and that list."""
    spec = yaml_io.load_model(path, TeacherSpec)
    if not spec.class_list:
        return spec, ()
    if not teacher_files.is_inside(spec.class_list):
        raise ValueError(
            f"{path}: class_list: got {spec.class_list!r}, outside of its folder; copy it there"
        )
    file = path.parent / spec.class_list
    try:
        lines = files.read_text(file).splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"{path}: class_list: there is no {spec.class_list!r} beside it; copy it there"
        ) from None
    found = tuple(line.strip() for line in lines if line.strip())
    # The names are in the request, so that other machines need no list.
    named = spec.model_copy(update={"class_names": found, "class_list": ""})
    return named, (TeacherFile(name=spec.class_list, sha256=files.sha256(file)),)
