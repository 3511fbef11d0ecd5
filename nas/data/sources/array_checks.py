"""Images and labels of an .npz file as they must be: converted where that is certain, else refused.

Letters: n images, h rows, w columns, c channels, k classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from nas.host.terminal import listed

_CLASSES_MAX = 100_000  # labels without names; higher ones are no class indices
_ROUNDING = 1e-3  # distance from a whole number that float32 and float16 may have

Note = Callable[[str], None]


def images(name: str, values: np.ndarray, note: Note) -> np.ndarray:
    """Bring images to uint8 [n, h, w, c].

    Args:
      name: Name of the array, for messages.
      values: The array of the file.
      note: Receives a sentence for each conversion.

    Returns:
      uint8 [n, h, w, c].

    Raises:
      ValueError: It is not certain what the numbers or axes mean.
    """
    return _axes(name, _bytes(name, values, note), note)


def labels(name: str, values: np.ndarray, note: Note) -> np.ndarray:
    """Bring labels to int32 [n].

    Args:
      name: Name of the array, for messages.
      values: The array of the file: class indices, one-hot rows or a column.
      note: Receives a sentence for each conversion.

    Returns:
      int32 [n].

    Raises:
      ValueError: They are no class indices.
    """
    if values.ndim == 2 and values.shape[1] == 1 and np.issubdtype(values.dtype, np.integer):
        note(f"{name}: the column {list(values.shape)} is read as [n]")
        values = values[:, 0]
    elif values.ndim == 2 and _is_one_hot(values):
        note(f"{name}: one-hot rows {list(values.shape)} are read as class indices")
        values = values.argmax(1)
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{name}: got {values.dtype}, expected integers; {_label_cure(values.dtype)}"
        )
    if values.ndim != 1:
        raise ValueError(
            f"{name}: got shape {list(values.shape)}, expected [n], one label an image"
        )
    limits = np.iinfo(np.int32)
    if len(values) and (int(values.max()) > limits.max or int(values.min()) < limits.min):
        raise ValueError(
            f"{name}: got labels {int(values.min())}..{int(values.max())}, expected class indices "
            "from 0"
        )
    return values.astype(np.int32)


def class_names(
    arrays: Mapping[str, np.ndarray], every: Mapping[str, np.ndarray], least: int, note: Note
) -> tuple[str, ...]:
    """Names of the classes: those of the file, or their numbers.

    Args:
      arrays: Arrays of the file, perhaps with `class_names` or `names`.
      every: Labels of each split by name of their array, int32 [n].
      least: Least number of classes, as the columns of soft labels say.
      note: Receives a sentence on classes without images.

    Returns:
      One name per class.

    Raises:
      ValueError: Labels count from 1, are too high to be class indices, or the names do not fit.
    """
    found = np.unique(np.concatenate(list(every.values())))
    found = found[found >= 0]
    low, high = (int(found[0]), int(found[-1])) if len(found) else (0, -1)
    key = next((name for name in ("class_names", "names") if name in arrays), None)
    shown = f"{', '.join(every)}: no image has label 0 (labels are {low}..{high})"
    if key is None:
        if low == 1:
            raise ValueError(
                f"{shown}; count from 0 (subtract 1), or give class_names, whose first one has no "
                "image"
            )
        if high >= _CLASSES_MAX:
            raise ValueError(
                f"{', '.join(every)}: got labels up to {high}, expected class indices from 0; map "
                "them to 0, 1, 2, ... and give class_names"
            )
        names = tuple(map(str, range(max(high + 1, least))))
    else:
        names = _names(key, arrays[key])
        if low == 1 and high == len(names):
            raise ValueError(f"{shown}, with {len(names)} {key}; count from 0 (subtract 1)")
        if high >= len(names):
            raise ValueError(
                f"{', '.join(every)}: has labels up to {high}, but {key} of {len(names)} classes; "
                "add the missing names or correct the labels"
            )
    present = set(found.tolist())
    absent = [name for label, name in enumerate(names) if label not in present]
    if absent and not least:
        note(f"no image has the class {listed(absent)}")
    return names


def _bytes(name: str, values: np.ndarray, note: Note) -> np.ndarray:
    """The same as uint8, whatever the axes."""
    kind = values.dtype.kind
    if kind == "b":
        raise ValueError(f"{name}: got bool, expected uint8 0..255; multiply by 255 and cast")
    if kind not in "uif":
        raise ValueError(f"{name}: got {values.dtype}, expected numbers 0..255 as uint8")
    if not values.size:
        return values.astype(np.uint8)
    if kind == "f" and not np.isfinite(values).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(
            f"{name}{list(place)}: got {values[place]}, expected finite numbers; find out where "
            "they come from"
        )
    low, high = values.min().item(), values.max().item()
    got = f"{name}: got {values.dtype} from {low:g} to {high:g}, expected uint8 0..255"
    if low < 0:
        raise ValueError(f"{got}; {_negative_cure(values.dtype, low, high)}")
    if high > 255:
        cure = (
            "divide by 257, round and cast to uint8"
            if high > 4095
            else ("scale the values to 0..255, round and cast to uint8")
        )
        raise ValueError(f"{got}; {cure}")
    if kind != "f":
        if high == 1:
            raise ValueError(
                f"{got}; values of 0 and 1 are black images: multiply by 255 before casting"
            )
        if values.dtype != np.uint8:
            note(f"{name}: {values.dtype} within 0..255 is read as uint8")
        return values.astype(np.uint8)
    scale = 255 if high <= 1 else 1
    if not _is_whole(values, scale):
        # Numbers up to 255 that lie between integers were resized or normalised before.
        cure = "multiply by 255 first, then round" if scale == 255 else "round"
        raise ValueError(f"{got}; {cure} and cast to uint8: (x * {scale}).round().astype('uint8')")
    note(f"{name}: {values.dtype} within 0..{255 // scale} is read as uint8 0..255")
    return np.rint(values.astype(np.float32) * scale).astype(np.uint8)


def _is_whole(values: np.ndarray, scale: int) -> bool:
    """Whether all values times the scale are integers, image by image to save memory."""
    tolerance = _ROUNDING * 255 if values.dtype == np.float16 else 255 * 1e-5
    for part in values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1):
        scaled = part.astype(np.float64) * scale
        if np.abs(scaled - np.rint(scaled)).max(initial=0) > tolerance:
            return False
    return True


def _negative_cure(dtype: np.dtype, low: float, high: float) -> str:
    if dtype == np.int8:
        return "add 128 in int16 and cast, if 0 was the middle"
    if low >= -1 and high <= 1:
        return "if they were scaled to -1..1, take ((x + 1) * 127.5).round().astype('uint8')"
    return "undo the normalisation (times deviation, plus mean), then give pixels 0..255"


def _axes(name: str, values: np.ndarray, note: Note) -> np.ndarray:
    """The same as [n, h, w, c]."""
    shape = list(values.shape)
    if values.ndim == 3:
        note(f"{name}: {shape} is read as grey images, [n, h, w, 1]")
        return values[..., None]
    if values.ndim != 4:
        hint = "give every image rows, columns and channels"
        if values.ndim == 2:
            hint = (
                "rows of pixels must be reshaped: those of CIFAR files with reshape(n, 3, 32, 32)"
                ".transpose(0, 2, 3, 1), others with reshape(n, h, w, c)"
            )
        raise ValueError(f"{name}: got shape {shape}, expected [n, h, w, c]; {hint}")
    _, first, second, last = shape
    if first in (1, 3) and last > 4:
        if second == last:
            note(f"{name}: {shape} has its channels first, and is read as [n, h, w, c]")
            return np.ascontiguousarray(np.moveaxis(values, 1, -1))
        raise ValueError(
            f"{name}: got shape {shape}, expected [n, h, w, c]; if its channels are first, use "
            "np.moveaxis(images, 1, -1)"
        )
    return values


def _is_one_hot(values: np.ndarray) -> bool:
    if values.dtype.kind not in "uifb" or values.shape[1] < 2 or not len(values):
        return False
    return bool(((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all())


def _label_cure(dtype: np.dtype) -> str:
    if dtype.kind in "US":
        return "number the classes from 0 and give their names as class_names"
    return "cast them to int32"


def _names(key: str, values: np.ndarray) -> tuple[str, ...]:
    if values.ndim != 1 or values.dtype.kind not in "USui":
        raise ValueError(
            f"{key}: got {values.dtype} of shape {list(values.shape)}, expected one name per "
            "class: np.array(['cat', 'dog'])"
        )
    if values.dtype.kind == "S":
        return tuple(name.decode("utf-8", "backslashreplace") for name in values.tolist())
    return tuple(map(str, values.tolist()))
