"""Networks of teachers by the format of their file: onnx, tflite, or a training of ours.

To add a format: a function from (path, spec) to a `TeacherBackend`, and a row in `KINDS`; users add
theirs with `KINDS.register`. Each library is imported in one place only, when a teacher of its kind
is opened.
"""

from __future__ import annotations

import ast
import io
import pathlib
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nas.data.distilled.manifest import TeacherSpec
from nas.host.terminal import listed, one_line
from search_spaces.families import Family


class TeacherBackend(NamedTuple):
    """Executable network of a teacher.

    Attributes:
      call: Function from float32 images in the spec's layout to outputs [b, outputs].
      outputs: Number of outputs; None if it is known only after a call.
      class_names: Names of the outputs that the file contains.
      step: Difference of neighbouring values of the outputs; 0 where they are real numbers.
      takes_reals: Whether its input may hold any real numbers, so that its range is up to the spec.
      doubts: Sentences on what is doubtful.
    """

    call: Callable[[np.ndarray], np.ndarray]
    outputs: int | None
    class_names: tuple[str, ...] = ()
    step: float = 0.0
    takes_reals: bool = True
    doubts: tuple[str, ...] = ()


class _Port(NamedTuple):
    """An input or output of a file; unknown sizes of its shape are texts or None."""

    name: str
    shape: list[Any]
    type: str

    def __str__(self) -> str:
        axes = ", ".join(str(n) if n is not None else "?" for n in self.shape)
        return f"{one_line(self.name)} {self.type} [{axes}]"


_DTYPES = {
    "float16": np.float16,
    "float": np.float32,
    "double": np.float64,
    **{
        name: np.dtype(name).type for name in ("uint8", "int8", "uint16", "int16", "int32", "int64")
    },
}
"""{type of an input, as onnxruntime names it: type of NumPy}."""
_CLIPPED, _UNUSED = 0.25, 0.6
"""Shares of a quantised input's range: beyond the first a spec leaves it, below the second it
hardly uses it. Source: ours."""


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
    inputs, outputs = (
        [_Port(p.name, list(p.shape or ()), p.type.removeprefix("tensor(").rstrip(")")) for p in ps]
        for ps in (session.get_inputs(), session.get_outputs())
    )
    image, constants = _image_input(path, spec, inputs)
    _check_shape(path, image.shape, spec)
    output = outputs[_output(path, spec, outputs)]
    if not output.type.startswith(("float", "double")):
        raise ValueError(
            f"{path}: its output is {output}; expected real numbers, one for each class: export it "
            "with them, or name another output as `output_name:`"
        )
    dtype = _DTYPES.get(image.type)
    if dtype is None:
        raise ValueError(f"{path}: its input is {image}; expected one of {', '.join(_DTYPES)}")
    is_integer = np.issubdtype(dtype, np.integer)
    if is_integer:
        _check_integers(path, spec, dtype)
    batch = image.shape[0] if isinstance(image.shape[0], int) and image.shape[0] > 0 else None

    def call(x: np.ndarray) -> np.ndarray:
        x = np.rint(x).astype(dtype) if is_integer else x.astype(dtype)
        try:
            found = session.run([output.name], {image.name: x, **constants})[0]
        except Exception as error:
            raise ValueError(
                f"{path}: onnxruntime fails on images {list(x.shape)}: "
                f"{' '.join(str(error).split())}; if it takes one image at a time, write "
                "`batch: 1` in its YAML"
            ) from None
        return _rows(path, output, found, len(x))

    return TeacherBackend(
        _in_batches(call, batch),
        _width(path, output, batch),
        _names_of_onnx(session.get_modelmeta().custom_metadata_map),
        takes_reals=not is_integer,
    )


def _tflite(path: pathlib.Path, spec: TeacherSpec) -> TeacherBackend:
    # Imported here because it loads the interpreter's library.
    from nas.exporters import litert

    model = path.read_bytes()
    interpreter = litert.interpreter(model)
    inputs, outputs = (
        [_Port(p["name"], p["shape"].tolist(), np.dtype(p["dtype"]).name) for p in ports]
        for ports in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    if len(inputs) != 1:
        raise ValueError(
            f"{path}: has the inputs {listed(map(str, inputs))}; expected one: the image"
        )
    _check_shape(path, inputs[0].shape, spec)
    chosen = _output(path, spec, outputs)
    scale, zero = interpreter.get_input_details()[0]["quantization"]
    dtype = np.dtype(inputs[0].type)
    is_integer, doubts = np.issubdtype(dtype, np.integer), ()
    if is_integer and scale:
        doubts = _check_range(spec, scale, zero, dtype)
    elif is_integer:
        _check_integers(path, spec, dtype)
    scale_out = interpreter.get_output_details()[chosen]["quantization"][0]
    if np.issubdtype(np.dtype(outputs[chosen].type), np.integer) and not scale_out:
        raise ValueError(
            f"{path}: its output is {outputs[chosen]} without a scale; expected real or quantised "
            "numbers, one for each class: convert it again, or name another as `output_name:`"
        )
    # The batch size of models for devices is fixed, usually at one image.
    batch = inputs[0].shape[0]

    def call(x: np.ndarray) -> np.ndarray:
        found = litert.run_with(interpreter, x, output=chosen)
        return _rows(path, outputs[chosen], found, len(x))

    return TeacherBackend(
        _in_batches(call, batch),
        _width(path, outputs[chosen], batch),
        _names_of_tflite(model),
        step=float(scale_out),
        takes_reals=not is_integer,
        doubts=doubts,
    )


def _checkpoint(path: pathlib.Path, spec: TeacherSpec) -> TeacherBackend:
    # Imported here because it loads JAX.
    from nas.training import weights

    trained = weights.load(path)
    return TeacherBackend(
        lambda x: trained.predict(x.astype(np.uint8)), trained.spec.classes, takes_reals=False
    )


def _image_input(
    path: pathlib.Path, spec: TeacherSpec, inputs: Sequence[_Port]
) -> tuple[_Port, dict[str, np.ndarray]]:
    """The input of the image, and the values of all others."""
    given = dict(spec.constants)
    constants = {
        port.name: np.full([n if isinstance(n, int) else 1 for n in port.shape], given[port.name])
        .astype(_DTYPES.get(port.type, np.dtype(bool)))
        for port in inputs
        if port.name in given
    }  # fmt: skip
    left = [port for port in inputs if port.name not in constants]
    every = f"{path}: has the inputs {listed(map(str, inputs))}"
    if unknown := [name for name in given if name not in constants]:
        raise ValueError(f"{every}, and no {unknown[0]!r}; correct `constants:` in its YAML")
    image = [port for port in left if port.name == spec.input_name]
    if not spec.input_name and len(left) == 1:
        image = left
    if not image:
        raise ValueError(f"{every}; name that of the image as `input_name:` in its YAML")
    if len(left) > 1:
        other = next(port for port in left if port is not image[0])
        raise ValueError(
            f"{every}; give each besides the image a number as `constants: {{{other.name}: 0}}` in "
            "its YAML"
        )
    return image[0], constants


def _output(path: pathlib.Path, spec: TeacherSpec, outputs: Sequence[_Port]) -> int:
    """Position of the output that the spec names, or of the only one."""
    names = [port.name for port in outputs]
    if spec.output_name in names:
        return names.index(spec.output_name)
    if spec.output_name or len(outputs) != 1:
        raise ValueError(
            f"{path}: has the outputs {listed(map(str, outputs))}; name that with a score for each "
            "class as `output_name:` in its YAML"
        )
    return 0


def _width(path: pathlib.Path, port: _Port, batch: int | None) -> int | None:
    """Number of scores of an image; None where the file does not say."""
    if not port.shape:
        return None
    axes = port.shape if batch == 1 and len(port.shape) == 1 else port.shape[1:]
    axes = [n for n in axes if n != 1]
    fixed = [n for n in axes if isinstance(n, int) and n > 0]
    if len(fixed) > 1:
        raise ValueError(
            f"{path}: its output is {port}, no row of scores; name another as `output_name:` in "
            "its YAML, or export it with a classifier"
        )
    if len(fixed) < len(axes):
        return None
    return fixed[0] if fixed else 1


def _rows(path: pathlib.Path, port: _Port, outputs: np.ndarray, count: int) -> np.ndarray:
    """Outputs as [count, outputs]: axes of length one are dropped."""
    axes = [n for n in outputs.shape[1:] if n != 1]
    is_row = outputs.ndim > 0 and outputs.shape[0] == count and len(axes) <= 1
    if is_row or (count == 1 and sum(n != 1 for n in outputs.shape) <= 1):
        return outputs.reshape(count, -1)
    raise ValueError(
        f"{path}: gives {list(outputs.shape)} as {one_line(port.name)} for {count} images; "
        f"expected [{count}, classes]: name another output as `output_name:` in its YAML, or, if "
        "it takes one image at a time, write `batch: 1`"
    )


def _in_batches(
    call: Callable[[np.ndarray], np.ndarray], size: int | None
) -> Callable[[np.ndarray], np.ndarray]:
    """Call a network of a fixed batch size; the last batch is filled up with its last image."""
    if size is None:
        return call

    def batched(x: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(x), size):
            chunk = x[start : start + size]
            filled = np.concatenate([chunk, *[chunk[-1:]] * (size - len(chunk))])
            found.append(call(filled)[: len(chunk)])
        return np.concatenate(found)

    return batched


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


def _ends(spec: TeacherSpec) -> tuple[float, float]:
    """The smallest and the largest number that pixels 0..255 become."""
    mean, std = np.broadcast_arrays(np.array(spec.mean), np.array(spec.std))
    return float((0 - mean / std).min()), float(((255 - mean) / std).max())


def _check_integers(path: pathlib.Path, spec: TeacherSpec, dtype: Any) -> None:
    """Refuse a spec whose pixels are no integers of the type that the input takes."""
    ends, name = np.iinfo(dtype), np.dtype(dtype).name
    mean, std = np.broadcast_arrays(np.array(spec.mean), np.array(spec.std))
    low, high = _ends(spec)
    if (std != 1).any() or (mean % 1).any() or low < ends.min or high > ends.max:
        right = 128 if name == "int8" else 0
        raise ValueError(
            f"{path}: takes pixels as {name}, but mean {list(spec.mean)} and std {list(spec.std)} "
            f"of its YAML make numbers from {low:.4g} to {high:.4g} of them; write "
            f"`mean: [{right}]` and `std: [1]`"
        )


def _check_range(spec: TeacherSpec, scale: float, zero: int, dtype: Any) -> tuple[str, ...]:
    """Compare the range of a quantised input with that of the spec; returns doubts."""
    ends = np.iinfo(dtype)
    low, high = (ends.min - zero) * scale, (ends.max - zero) * scale
    first, last = _ends(spec)
    width = high - low
    mean = zero - ends.min if ends.bits == 8 else 0
    cure = f"`mean: [{mean}]` and `std: [{1 / scale:.6g}]`"
    fed = (
        f"takes numbers from {low:.4g} to {high:.4g} as {np.dtype(dtype).name}, but mean and std "
        f"of its YAML give {first:.4g} to {last:.4g}"
    )
    beyond = max(low - first, last - high) > _CLIPPED * width
    if beyond or last - first < width / 10:
        raise ValueError(f"{fed}; write {cure}, or what its makers say")
    # Wider types are symmetrical, and half of the range of positive numbers lies idle.
    is_narrow = ends.bits == 8 and last - first < _UNUSED * width
    return (f"{fed}; check them: {cure} would use all of its range",) if is_narrow else ()


def _names_of_onnx(metadata: dict[str, str]) -> tuple[str, ...]:
    """Names of the classes, as several exporters store them."""
    for key in ("names", "class_names", "labels", "classes"):
        try:
            # JSON's lists and dictionaries of texts are literals of Python too.
            found = ast.literal_eval(metadata.get(key, "()"))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict):
            found = [found.get(i, found.get(str(i))) for i in range(len(found))]
        if not isinstance(found, list | tuple):
            continue
        texts = tuple(name for name in found if isinstance(name, str))
        if texts and len(texts) == len(found):
            return texts
    return ()


def _names_of_tflite(model: bytes) -> tuple[str, ...]:
    """Lines of the list of labels in the ZIP behind a model."""
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            lists = [item for item in archive.infolist() if item.filename.endswith(".txt")]
            if len(lists) != 1 or lists[0].file_size > 1 << 24:
                return ()
            return tuple(archive.read(lists[0]).decode("utf-8-sig").splitlines())
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError):
        return ()


KINDS: Family[Callable[[pathlib.Path, TeacherSpec], TeacherBackend]] = Family(
    "kind of teacher", {"onnx": _onnx, "tflite": _tflite, "checkpoint": _checkpoint}
)
"""Kinds of teachers by scheme."""
