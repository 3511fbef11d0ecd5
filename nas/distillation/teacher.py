"""Teachers: networks that give class probabilities, `onnx:FILE`, `tflite:FILE` or `checkpoint:RUN`.

To add a kind: a function from (path, spec) to a `TeacherBackend`, and a row in `KINDS`; users add
theirs with `KINDS.register`. Each library is imported in one place only, when a teacher of its kind
is opened.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from nas.data.distilled.manifest import TeacherRecord, TeacherSpec
from search_spaces import yaml_io
from search_spaces.families import Family


class TeacherBackend(NamedTuple):
    """Executable network of a teacher.

    Attributes:
      call: Function from float32 images in the spec's layout to outputs [b, outputs].
      outputs: Number of outputs; None if it is known only after a call.
    """

    call: Callable[[np.ndarray], np.ndarray]
    outputs: int | None


class Teacher:
    """An opened teacher.

    Args:
      record: Reference to the teacher.
      class_names: Names of the classes of the data set.

    Raises:
      ValueError: It cannot be opened, or does not fit the spec or the classes.
    """

    def __init__(self, record: TeacherRecord, class_names: Sequence[str]):
        kind, _, path = record.text.partition(":")
        self.spec = record.spec
        self._text = record.text
        self._classes = len(class_names)
        self._backend = KINDS.get(kind)(pathlib.Path(path), record.spec)
        if self._backend.outputs is not None:
            self._check(self._backend.outputs)

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Evaluate the teacher on images, a batch of the spec's size at a time.

        Args:
          images: b RGB images of any size.

        Returns:
          float32 [b, classes], probabilities.

        Raises:
          ValueError: The outputs do not fit the spec or the classes.
        """
        spec = self.spec
        chunks = []
        for start in range(0, len(images), spec.batch):
            x = np.stack([self._input(image) for image in images[start : start + spec.batch]])
            outputs = self._backend.call(
                x if spec.layout == "nhwc" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
            )
            self._check(outputs.shape[-1])
            chunks.append(self._probabilities(outputs.reshape(len(x), -1).astype(np.float64)))
        return np.concatenate(chunks)

    def _input(self, image: Image.Image) -> np.ndarray:
        size = (self.spec.size, self.spec.size)
        if image.size != size:
            image = image.resize(size, Image.Resampling[self.spec.resample.upper()])
        mean = np.array(self.spec.mean, np.float32)
        std = np.array(self.spec.std, np.float32)
        return (np.asarray(image, np.float32) - mean) / std

    def _probabilities(self, outputs: np.ndarray) -> np.ndarray:
        if self.spec.classes is not None:
            outputs = outputs[:, list(self.spec.classes)]
        if self.spec.output == "logits":
            outputs = np.exp(outputs - outputs.max(1, keepdims=True))
        elif (outputs < -1e-3).any() or (outputs.sum(1) > 1 + 1e-2).any():
            raise ValueError(
                f"{self._text}: its outputs are no probabilities; write `output: logits` in its "
                "YAML"
            )
        total = outputs.sum(1, keepdims=True)
        if not (np.isfinite(total).all() and (total > 0).all()):
            raise ValueError(
                f"{self._text}: gives no finite probabilities; check mean, std and layout in its "
                "YAML"
            )
        return (outputs / total).astype(np.float32)

    def _check(self, outputs: int) -> None:
        kept = self.spec.classes
        if kept is None and outputs != self._classes:
            raise ValueError(
                f"{self._text}: gives {outputs} outputs, but the source has {self._classes} "
                "classes; list the outputs that stand for them, in order, as `classes:` in its "
                "YAML"
            )
        if kept is not None and len(kept) != self._classes:
            raise ValueError(
                f"{self._text}: its YAML keeps {len(kept)} classes, but the source has "
                f"{self._classes}; list one output for each class, in order"
            )
        if kept is not None and max(kept) >= outputs:
            raise ValueError(
                f"{self._text}: its YAML keeps output {max(kept)}, but it has only {outputs}; list "
                f"outputs 0..{outputs - 1} as `classes:`"
            )


def describe(text: str, spec_file: str | None = None) -> TeacherRecord:
    """Read the YAML of a teacher and hash its file, without opening it.

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
    if kind == "checkpoint" and spec_file is None:
        # Imported here because it loads JAX.
        from nas.training import weights

        size = weights.read_spec(path).resolution
        spec = TeacherSpec(
            name=path.name, size=size, mean=(0.0,), std=(1.0,), output="probabilities"
        )
        return TeacherRecord(
            text=f"{kind}:{path}", sha256=_digest(path / weights.WEIGHTS), spec=spec
        )
    yaml_path = pathlib.Path(spec_file) if spec_file else path.with_suffix(".yaml")
    if not yaml_path.exists():
        raise ValueError(
            f"teacher {text}: needs {yaml_path} with at least name and size, and mean, std, "
            "layout, output and classes where they differ from pixels / 255, nhwc, logits and all"
        )
    spec = yaml_io.load_model(yaml_path, TeacherSpec)
    return TeacherRecord(text=f"{kind}:{path}", sha256=_digest(path), spec=spec)


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _onnx(path: pathlib.Path, spec: TeacherSpec) -> TeacherBackend:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ValueError(
            "an ONNX teacher needs onnxruntime: pip install 'mnv4-nas[teacher]'"
        ) from None
    options: Any = onnxruntime.SessionOptions()
    # One thread: processes share the cores, and sums keep their order.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    accelerated = [
        name for name in onnxruntime.get_available_providers() if name == "CUDAExecutionProvider"
    ]
    try:
        session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=[*accelerated, "CPUExecutionProvider"]
        )
    # The errors of the library have no common class.
    except Exception as error:
        raise ValueError(
            f"{path}: onnxruntime refuses it: {' '.join(str(error).split())}"
        ) from None
    if len(session.get_inputs()) != 1:
        raise ValueError(f"{path}: has {len(session.get_inputs())} inputs, expected one: the image")
    image_input = session.get_inputs()[0]
    first = session.get_outputs()[0]
    _check_shape(path, image_input.shape, spec)
    outputs = first.shape[-1] if first.shape and isinstance(first.shape[-1], int) else None
    return TeacherBackend(lambda x: session.run([first.name], {image_input.name: x})[0], outputs)


def _tflite(path: pathlib.Path, spec: TeacherSpec) -> TeacherBackend:
    # Imported here because it loads the interpreter's library.
    from nas.exporters import litert

    model = path.read_bytes()
    interpreter = litert.interpreter(model)
    _check_shape(path, interpreter.get_input_details()[0]["shape"].tolist(), spec)
    # The batch size of models for devices is fixed at one image.
    return TeacherBackend(
        lambda x: np.concatenate([litert.run_with(interpreter, image[None]) for image in x]),
        int(interpreter.get_output_details()[0]["shape"][-1]),
    )


def _checkpoint(path: pathlib.Path, spec: TeacherSpec) -> TeacherBackend:
    # Imported here because it loads JAX.
    from nas.training import weights

    trained = weights.load(path)
    return TeacherBackend(lambda x: trained.predict(x.astype(np.uint8)), trained.spec.classes)


def _check_shape(path: pathlib.Path, shape: Sequence[Any], spec: TeacherSpec) -> None:
    """Compare the fixed sizes of an input [b, h, w, 3] or [b, 3, h, w] with the spec."""
    wanted = (spec.size, spec.size, 3) if spec.layout == "nhwc" else (3, spec.size, spec.size)
    if len(shape) != 4 or any(
        isinstance(n, int) and n > 0 and n != m for n, m in zip(shape[1:], wanted, strict=True)
    ):
        raise ValueError(
            f"{path}: takes {list(shape)}, but its YAML says {spec.layout} and size {spec.size}; "
            "correct the YAML"
        )


KINDS: Family[Callable[[pathlib.Path, TeacherSpec], TeacherBackend]] = Family(
    "kind of teacher", {"onnx": _onnx, "tflite": _tflite, "checkpoint": _checkpoint}
)
"""Kinds of teachers by scheme."""
