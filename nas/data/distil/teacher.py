"""Teachers: networks that say how probable each class is, `onnx:FILE`, `tflite:FILE` or `checkpoint:RUN`.

To add a kind: a function from (path, spec) to a `Network`, and a row in `KINDS`. Each library is imported in one place
only, when a teacher of its kind is opened.
"""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from nas.data.distil.manifest import TeacherRecord, TeacherSpec
from search_spaces import yaml_io


class Network(NamedTuple):
    """What runs: `call` on float32 images in the spec's layout -> [b, outputs]; `outputs` None if not known before."""

    call: Callable[[np.ndarray], np.ndarray]
    outputs: int | None


class Teacher:
    """A teacher, opened.

    Args:
      record: which one.
      class_names: of the data set.

    Raises:
      ValueError: it cannot be opened, or does not fit the spec or the classes.
    """

    def __init__(self, record: TeacherRecord, class_names: Sequence[str]):
        kind, _, path = record.text.partition(":")
        self.spec, self._text, self._classes = record.spec, record.text, len(class_names)
        self._network = KINDS[kind](pathlib.Path(path), record.spec)
        if self._network.outputs is not None:
            self._check(self._network.outputs)

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Probabilities float32 [b, classes] of RGB images of any size, a batch of the spec's size at a time."""
        spec, chunks = self.spec, []
        for start in range(0, len(images), spec.batch):
            x = np.stack([self._input(image) for image in images[start : start + spec.batch]])
            outputs = self._network.call(x if spec.layout == "nhwc" else np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
            self._check(outputs.shape[-1])
            chunks.append(self._probabilities(outputs.reshape(len(x), -1).astype(np.float64)))
        return np.concatenate(chunks)

    def _input(self, image: Image.Image) -> np.ndarray:
        size = (self.spec.size, self.spec.size)
        resized = image if image.size == size else image.resize(size, Image.Resampling[self.spec.resample.upper()])
        return (np.asarray(resized, np.float32) - np.array(self.spec.mean, np.float32)) / np.array(
            self.spec.std, np.float32
        )

    def _probabilities(self, outputs: np.ndarray) -> np.ndarray:
        if self.spec.classes is not None:
            outputs = outputs[:, list(self.spec.classes)]
        if self.spec.output == "logits":
            outputs = np.exp(outputs - outputs.max(1, keepdims=True))
        elif (outputs < -1e-3).any() or (outputs.sum(1) > 1 + 1e-2).any():
            raise ValueError(f"{self._text}: its outputs are no probabilities; say `output: logits` in its YAML")
        total = outputs.sum(1, keepdims=True)
        if not (np.isfinite(total).all() and (total > 0).all()):
            raise ValueError(f"{self._text}: gives no finite probabilities; check mean, std and layout in its YAML")
        return (outputs / total).astype(np.float32)

    def _check(self, outputs: int) -> None:
        kept = self.spec.classes
        if kept is None and outputs != self._classes:
            raise ValueError(
                f"{self._text}: gives {outputs} outputs, but the source has {self._classes} classes; list the outputs "
                "that stand for them, in order, as `classes:` in its YAML"
            )
        if kept is not None and len(kept) != self._classes:
            raise ValueError(
                f"{self._text}: its YAML keeps {len(kept)} classes, but the source has {self._classes}; "
                "list one output for each class, in order"
            )
        if kept is not None and max(kept) >= outputs:
            raise ValueError(f"{self._text}: its YAML keeps output {max(kept)}, but it has only {outputs}")


def describe(text: str, spec_file: str | None = None) -> TeacherRecord:
    """Read a teacher's YAML and hash its file, without opening it.

    Args:
      text: "scheme:path".
      spec_file: its YAML; by default beside it, with the suffix .yaml. A checkpoint needs none.

    Raises:
      ValueError: unknown scheme, no such file, or a YAML that does not fit.
    """
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        raise ValueError(f"teacher {text!r}: expected {' or '.join(f'{name}:...' for name in KINDS)}")
    path = pathlib.Path(rest).expanduser().absolute()  # processes of a cluster start elsewhere
    if not path.exists():
        raise ValueError(f"teacher {text}: no such file")
    if kind == "checkpoint" and spec_file is None:
        from nas.train import weights

        size = weights.read_spec(path).resolution
        spec = TeacherSpec(name=path.name, size=size, mean=(0.0,), std=(1.0,), output="probabilities")
        return TeacherRecord(text=f"{kind}:{path}", sha256=_digest(path / weights.WEIGHTS), spec=spec)
    beside = pathlib.Path(spec_file) if spec_file else path.with_suffix(".yaml")
    if not beside.exists():
        raise ValueError(
            f"teacher {text}: needs {beside} with at least name and size, and mean, std, layout, output and classes "
            "where they differ from pixels / 255, nhwc, logits and all"
        )
    return TeacherRecord(text=f"{kind}:{path}", sha256=_digest(path), spec=yaml_io.load_model(beside, TeacherSpec))


def _digest(file: pathlib.Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _onnx(path: pathlib.Path, spec: TeacherSpec) -> Network:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ValueError("an ONNX teacher needs onnxruntime: pip install 'mnv4-nas[teacher]'") from None
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes share the cores, and sums keep an order
    options.log_severity_level = 3
    accelerated = [name for name in onnxruntime.get_available_providers() if name == "CUDAExecutionProvider"]
    try:
        session: Any = onnxruntime.InferenceSession(
            str(path), options, providers=[*accelerated, "CPUExecutionProvider"]
        )
    except Exception as error:  # the library's errors have no common class
        raise ValueError(f"{path}: onnxruntime refuses it: {' '.join(str(error).split())}") from None
    if len(session.get_inputs()) != 1:
        raise ValueError(f"{path}: has {len(session.get_inputs())} inputs, expected one: the image")
    (given,), first = session.get_inputs(), session.get_outputs()[0]
    _check_shape(path, given.shape, spec)
    outputs = first.shape[-1] if first.shape and isinstance(first.shape[-1], int) else None
    return Network(lambda x: session.run([first.name], {given.name: x})[0], outputs)


def _tflite(path: pathlib.Path, spec: TeacherSpec) -> Network:
    from nas.deploy import litert

    model = path.read_bytes()
    interpreter = litert.interpreter(model)
    _check_shape(path, interpreter.get_input_details()[0]["shape"].tolist(), spec)
    # models for devices take one image: their batch is fixed
    return Network(
        lambda x: np.concatenate([litert.run_with(interpreter, image[None]) for image in x]),
        int(interpreter.get_output_details()[0]["shape"][-1]),
    )


def _checkpoint(path: pathlib.Path, spec: TeacherSpec) -> Network:
    from nas.train import weights

    trained = weights.load(path)
    return Network(lambda x: trained.predict(x.astype(np.uint8)), trained.spec.classes)


def _check_shape(path: pathlib.Path, shape: Sequence[Any], spec: TeacherSpec) -> None:
    """The fixed sizes of an input [b, h, w, 3] or [b, 3, h, w] against the spec."""
    wanted = (spec.size, spec.size, 3) if spec.layout == "nhwc" else (3, spec.size, spec.size)
    if len(shape) != 4 or any(isinstance(n, int) and n > 0 and n != m for n, m in zip(shape[1:], wanted, strict=True)):
        raise ValueError(f"{path}: takes {list(shape)}, but its YAML says {spec.layout} and size {spec.size}")


KINDS: dict[str, Callable[[pathlib.Path, TeacherSpec], Network]] = {
    "onnx": _onnx,
    "tflite": _tflite,
    "checkpoint": _checkpoint,
}
