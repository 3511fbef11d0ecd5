"""Depthwise convolution and sums in C++ (`depthwise.cc`), built at first use; optional.

Without a C++ compiler, or with MNV4_NAS_NATIVE=0 in the environment, layers use the pure JAX form
instead: the same numbers up to rounding, about half as fast, and many more operations to compile.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
import warnings

import jax
import numpy as np

from nas.host import cache

_SOURCE = pathlib.Path(__file__).with_name("depthwise.cc")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
_SECONDS = 300
_TARGETS = (
    "DepthwiseForward",
    "DepthwiseInputGradient",
    "DepthwiseKernelGradient",
    "RowSums",
    "RowProducts",
)


@functools.cache
def available() -> bool:
    """Whether the library can be used.

    The first call on a machine builds it, which takes some seconds.

    Returns:
      False without a compiler, with one that fails, or if the environment disables the library.

    Warns:
      RuntimeWarning: There is a compiler, but it fails.
    """
    compiler = (
        os.environ.get("CXX")
        or shutil.which("c++")
        or shutil.which("g++")
        or shutil.which("clang++")
    )
    if (
        os.environ.get("MNV4_NAS_NATIVE") == "0"
        or compiler is None
        or platform.system() == "Windows"
    ):
        return False
    try:
        library = ctypes.cdll.LoadLibrary(str(_built(compiler)))
        for target in _TARGETS:
            jax.ffi.register_ffi_target(
                f"mnv4_nas_{target}", jax.ffi.pycapsule(getattr(library, target)), "cpu"
            )
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        detail = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        warnings.warn(
            f"{_SOURCE.name} could not be built with {compiler}, so depthwise layers run as pure "
            f"JAX, about half as fast: {detail[0] if detail else type(error).__name__}; "
            "set MNV4_NAS_NATIVE=0 to silence this",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def depthwise(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolve as `nas.model.layers.depthwise.depthwise` does, on CPU only.

    Args:
      x: [b, h, w, c], float32 or bfloat16.
      kernel: [k, k, c], of the same dtype.
      stride: Stride s in both directions.

    Returns:
      [b, ceil(h / s), ceil(w / s), c].
    """
    return _depthwise(x, kernel, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    b, h, w, c = x.shape
    return _call("DepthwiseForward", (b, -(-h // stride), -(-w // stride), c), x, kernel, stride)


def _forward(
    x: jax.Array, kernel: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _depthwise(x, kernel, stride), (x, kernel)


def _backward(
    stride: int, saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    dx = _call("DepthwiseInputGradient", x.shape, dy, kernel, stride)
    return dx, _call("DepthwiseKernelGradient", kernel.shape, x, dy, stride)


_depthwise.defvjp(_forward, _backward)


def row_sums(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sum as `nas.model.layers.rows.sums` does, on CPU only, in an order that shapes alone decide.

    Args:
      x: [r, c], float32 or bfloat16.
      y: [r, c], of the same dtype.

    Returns:
      The sum of y and the sum of x * y, [c] float32 each.
    """
    results = (jax.ShapeDtypeStruct(x.shape[1:], np.float32),) * 2
    sums, products = jax.ffi.ffi_call("mnv4_nas_RowSums", results, vmap_method="sequential")(x, y)
    return sums, products


def row_products(x: jax.Array, dy: jax.Array) -> jax.Array:
    """Sum as `nas.model.layers.rows.products` does, on CPU only, in an order of shapes alone.

    Args:
      x: [r, c], float32 or bfloat16.
      dy: [r, d], of the same dtype.

    Returns:
      [c, d].
    """
    result = jax.ShapeDtypeStruct((x.shape[1], dy.shape[1]), x.dtype)
    return jax.ffi.ffi_call("mnv4_nas_RowProducts", result, vmap_method="sequential")(x, dy)


def _call(
    target: str, shape: tuple[int, ...], a: jax.Array, b: jax.Array, stride: int
) -> jax.Array:
    run = jax.ffi.ffi_call(
        f"mnv4_nas_{target}", jax.ShapeDtypeStruct(shape, a.dtype), vmap_method="sequential"
    )
    return run(a, b, stride=np.int64(stride))


def _built(compiler: str) -> pathlib.Path:
    """Path of the library for this source, compiler and processor, built if it is missing."""
    include = jax.ffi.include_dir()
    version = subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, text=True
    ).stdout
    made_from = [_SOURCE.read_text(), version, *_FLAGS, jax.__version__, _processor()]
    name = hashlib.sha256("\0".join(made_from).encode()).hexdigest()[:32]
    path = cache.folder() / "native" / f"depthwise-{name}.so"
    if not path.exists():
        logging.getLogger(__name__).info("building %s with %s, once", _SOURCE.name, compiler)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            output = pathlib.Path(folder) / path.name
            command = [compiler, *_FLAGS, "-isystem", include, str(_SOURCE), "-o", str(output)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
            # atomic: another process sees either no library or a complete one
            output.replace(path)
    return path


def _processor() -> str:
    """Properties that -march=native may depend on, because machines can share a cache."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(
        sorted(
            {
                line
                for line in lines
                if line.startswith(("model name", "flags", "Features", "CPU part"))
            }
        )
    )
