"""Sums over rows: values and derivatives, and an order that threads do not change."""

from __future__ import annotations

import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.model.layers import rows

SHAPES = [(1, 1), (3, 5), (64, 16), (513, 17), (2000, 40)]


def arrays(*shapes: tuple[int, ...], dtype: str = "float32") -> list[jax.Array]:
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def tolerance(dtype: str) -> float:
    return 1e-5 if dtype == "float32" else 3e-2


def close(a: jax.Array, b: jax.Array, limit: float) -> None:
    scale = max(float(jnp.abs(b.astype(jnp.float32)).max()), 1.0)
    difference = jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)).max()
    assert float(difference) <= limit * scale


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums(shape: tuple[int, int], dtype: str) -> None:
    x, y = arrays(shape, shape, dtype=dtype)
    total, product = rows.sums(x, y)
    assert total.dtype == product.dtype == jnp.float32
    x64, y64 = np.asarray(x, np.float64), np.asarray(y, np.float64)
    np.testing.assert_allclose(total, y64.sum(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(product, (x64 * y64).sum(0), rtol=1e-4, atol=1e-4)


def test_a_sum_by_hand() -> None:
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    total, squares = rows.sums(x, x)
    assert total.tolist() == [4.0, 6.0] and squares.tolist() == [10.0, 20.0]
    assert rows.products(x, x).tolist() == [[10.0, 14.0], [14.0, 20.0]]
    assert float(rows.length(jnp.array([3.0, 4.0]))) == 5.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("count", "c", "d"), [(1, 1, 1), (7, 5, 3), (300, 16, 40), (1500, 70, 9)])
def test_product_and_its_derivative(count: int, c: int, d: int, dtype: str) -> None:
    x, kernel, dy = arrays((count, c), (c, d), (count, d), dtype=dtype)
    y, pull = jax.vjp(rows.product, x, kernel)
    expected, plain = jax.vjp(lambda x, kernel: x @ kernel, x, kernel)
    for a, b in zip((y, *pull(dy)), (expected, *plain(dy)), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        close(a, b, tolerance(dtype) * 4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moments_affine_and_bias_have_the_derivatives_of_jax(dtype: str) -> None:
    x, gain, shift, dy = arrays((2, 5, 4, 12), (12,), (12,), (2, 5, 4, 12), dtype=dtype)
    gain32, shift32 = gain.astype(jnp.float32), shift.astype(jnp.float32)

    def ours(x: jax.Array, gain: jax.Array, shift: jax.Array, bias: jax.Array) -> jax.Array:
        mean, square = rows.moments(x)
        y = rows.affine(x, gain * jax.lax.rsqrt(square + 1), shift - mean)
        return (rows.add(y, bias) * dy).astype(jnp.float32).sum()

    def plain(x: jax.Array, gain: jax.Array, shift: jax.Array, bias: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        mean, square = x32.mean((0, 1, 2)), (x32 * x32).mean((0, 1, 2))
        y = (x * (gain * jax.lax.rsqrt(square + 1)) + shift - mean).astype(x.dtype)
        return ((y + bias) * dy).astype(jnp.float32).sum()

    arguments = (x, gain32, shift32, shift)
    places = (0, 1, 2, 3)
    for a, b in zip(
        jax.grad(ours, places)(*arguments), jax.grad(plain, places)(*arguments), strict=True
    ):
        assert a.dtype == b.dtype
        close(a, b, tolerance(dtype) * 4)


PROGRAM = '''
import hashlib, sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
import search_spaces
from flax import nnx
from nas.model.layers import native
from nas.model.network import build_supernet, split
assert native.available()
text = """
name: four-blocks
resolution: 32
blocks:
- {kind: conv, filters: 16, kernel: 3, stride: 2}
- {kind: fused_ib, filters: 24, kernel: 3, expansion: 2.0}
- {kind: uib, filters: 40, start_dw: 3, middle_dw: 5, expansion: 4.0, stride: 2}
- {kind: conv, filters: 160, kernel: 1}
- {kind: pool}
- {kind: classifier, classes: 10}
"""
base = search_spaces.yaml_io.parse_model(text, search_spaces.ArchSpec, "a test")
space = search_spaces.coarse_space(base)
graph, params, stats = split(build_supernet(space, rngs=nnx.Rngs(0)))
rng = np.random.default_rng(0)
images = rng.normal(size=(16, 32, 32, 3)).astype("float32")
vector = np.array([d.options - 1 for d in space.decisions], np.int32)


def loss(params, x):
    network = nnx.merge(graph, params, stats)
    return (jax.nn.log_softmax(network(x, vector, mode="batch"))[:, 0]).mean()


value, gradient = jax.jit(jax.value_and_grad(loss))(params, images)
data = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((value, gradient)))
print(hashlib.sha256(data).hexdigest())
'''


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_threads_and_devices_change_no_bit_of_a_gradient(
    search_environment: dict[str, str],
) -> None:
    """So one process with two cores and two processes with one core each train the same weights."""
    environment = {**search_environment, "JAX_PLATFORMS": "cpu"}
    for quick in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS"):
        environment.pop(quick, None)
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM, devices],
            env={**environment, "PJRT_NPROC": threads},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout
        for threads, devices in (("1", "1"), ("2", "1"), ("2", "2"), ("3", "1"))
    }
    assert len(digests) == 1
