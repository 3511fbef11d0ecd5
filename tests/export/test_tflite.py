"""Exported networks compute the same as in JAX, and have the operations of the lowering."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import search_spaces
from nas.exporters import check, litert, tflite
from nas.measurement import models
from nas.model.network import build_network, split
from search_spaces import ArchSpec

needs_litert = pytest.mark.skipif(
    importlib.util.find_spec("litert_converter") is None
    or importlib.util.find_spec("litert_quantizer") is None,
    reason="the extra `export` is not installed",
)

# A part of both has no INT8 kernel or no one-to-one lowering, see
# `test_networks_that_are_known_to_differ`.
DIFFERENT = ("efficientvit", "nextvit")


def _random(spec: ArchSpec) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """(parameters, statistics, image, its logits) of a network with random weights."""
    graph, *shapes = split(nnx.eval_shape(lambda: build_network(spec, rngs=nnx.Rngs(0))))
    params, stats = (models.random_weights(shape, seed) for seed, shape in enumerate(shapes))
    image = np.random.default_rng(3).normal(
        size=(spec.resolution, spec.resolution, spec.input_channels)
    )

    @jax.jit
    def forward(params: Any, stats: Any, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, stats)(images)

    image = image.astype(np.float32)
    return params, stats, image, np.asarray(forward(params, stats, image[None]))


@needs_litert
@pytest.mark.parametrize(
    ("name", "padding"),
    [
        ("small-32", "same"),
        ("small-32", "symmetric"),
        ("mnv4-conv-s", "same"),
        pytest.param("mnv4-hybrid-m", "same", marks=pytest.mark.slow),
    ],
)
def test_an_export_is_the_network(name: str, padding: str) -> None:
    """Equal operations; float32 within 1e-5 of the largest logit, INT8 within 1/10 of the range."""
    spec = search_spaces.base(name).model_copy(update={"padding": padding})
    params, stats, image, logits = _random(spec)
    exact = tflite.network_tflite(spec, params, stats, "float32", image[None])
    assert np.abs(litert.run(exact, image[None]) - logits).max() <= 1e-5 * np.abs(logits).max()
    quantised = tflite.network_tflite(spec, params, stats, "int8", image[None])
    assert np.abs(litert.run(quantised, image[None]) - logits).max() <= 0.1 * np.ptp(logits)
    for model in (exact, quantised):
        assert check.difference(spec, model) is None
    assert len(quantised) < 0.4 * len(exact)
    tensors = {t for op in litert.operations(quantised) for t in (*op.reads, *op.writes)}
    assert {t.dtype for t in tensors} == {"INT8", "INT32"}


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in search_spaces.zoo_names() if not name.startswith(DIFFERENT)]
)
def test_operations_of_the_zoo(name: str) -> None:
    spec = search_spaces.zoo(name)
    assert check.difference(spec, models.network_model(spec, "int8")) is None


@needs_litert
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("efficientvit-b1", "blocks[10] (efficientvit)"),
        ("nextvit-s", "blocks[10] (next_transformer)"),
    ],
)
def test_networks_that_are_known_to_differ(name: str, block: str) -> None:
    """EfficientViT concatenates once and slices; Next-ViT's norm after pooling is not folded."""
    spec = search_spaces.zoo(name)
    assert (check.difference(spec, models.network_model(spec, "float32")) or "").startswith(block)


@needs_litert
def test_another_network_is_reported(small_32: ArchSpec) -> None:
    tflite = models.network_model(small_32, "float32")
    block = small_32.blocks[3].model_copy(update={"middle_dw": 5})
    other = small_32.with_blocks((*small_32.blocks[:3], block, *small_32.blocks[4:]))
    assert check.difference(other, tflite) == (
        "blocks[3] (uib): the model lacks depthwise_conv2d relu (2400 weights, 24576 outputs); "
        "instead it has depthwise_conv2d relu (864 weights, 24576 outputs)"
    )
    head = small_32.head.model_copy(update={"blocks": small_32.head.blocks[:-1]})
    shorter = small_32.model_copy(update={"head": head})
    assert check.difference(shorter, tflite) == (
        "the model has 1 more operations than small-32: "
        "fully_connected (1600 weights, 10 outputs) ..."
    )


@needs_litert
def test_only_products_over_images_become_convolutions() -> None:
    kernel = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)

    def forward(x: jax.Array) -> jax.Array:
        for _ in range(2):  # without help the converter fails at the second
            x = jax.nn.relu((x.reshape(-1, 8) @ kernel).reshape(x.shape) * 2.0 + 1.0)
        return x.mean((1, 2)) @ kernel

    model = tflite.to_tflite(forward, (1, 4, 4, 8), names=["image"], output="logits")
    ops = litert.operations(model)
    assert [(op.name, op.activation) for op in ops] == [
        *[("CONV_2D", "RELU")] * 2,
        ("MEAN", "NONE"),
        ("FULLY_CONNECTED", "NONE"),
    ]
    assert ops[0].inputs == ((1, 4, 4, 8), (8, 1, 1, 8), (8,)) and ops[0].outputs == ((1, 4, 4, 8),)
    x = np.random.default_rng(1).normal(size=(1, 4, 4, 8)).astype(np.float32)
    np.testing.assert_allclose(litert.run(model, x), forward(jnp.asarray(x)), rtol=1e-5)


@needs_litert
def test_ranges_are_those_of_all_samples_and_of_pixels() -> None:
    """One sample far outside of the others counts; a moving average would cut it off."""
    model = tflite.to_tflite(lambda x: 2 * x, (1, 8))
    usual = [(np.linspace(-1, 1, 8)[None],)] * 50
    scale = [
        litert.interpreter(tflite.quantize(model, samples)).get_output_details()[0]["quantization"]
        for samples in (usual, [*usual, (np.linspace(-4, 4, 8)[None],)])
    ]
    assert scale[0][0] == pytest.approx(4 / 255, rel=0.01)
    assert scale[1][0] == pytest.approx(16 / 255, rel=0.01)
    mean, std = 0.4, 0.25
    quantised = tflite.quantize(model, usual, ((0 - mean) / std, (1 - mean) / std))
    (details,) = litert.interpreter(quantised).get_input_details()
    scale, zero = details["quantization"]
    assert scale == pytest.approx(1 / (255 * std)) and zero == round(255 * mean) - 128


@needs_litert
def test_mistakes() -> None:
    with pytest.raises(ValueError, match="the converter rejects the model"):
        tflite.to_tflite(lambda x: jnp.fft.fft(x).real, (4, 4))
    model = tflite.to_tflite(lambda x: x + 1.0, (1, 4))
    with pytest.raises(ValueError, match="`samples`: got none; at least one is needed"):
        tflite.quantize(model, [])
    values = np.arange(16.0).reshape(4, 4)
    with pytest.raises(ValueError, match="an operation cannot be INT8: CUMSUM of .* stays float32"):
        tflite.quantize(tflite.to_tflite(lambda x: jnp.cumsum(x, 0), (4, 4)), [(values,)])
    with pytest.raises(ValueError, match="the model has an operation that no lowering has: CUMSUM"):
        check.steps(litert.operations(tflite.to_tflite(lambda x: jnp.cumsum(x, 0), (4, 4))))
    with pytest.raises(ValueError, match="LiteRT rejects the model"):
        litert.interpreter(b"no model at all")


@needs_litert
def test_constant_images_show_no_ranges(small_32: ArchSpec) -> None:
    params, stats, image, _ = _random(small_32)
    grey = np.stack([np.full_like(image, 0.1), np.full_like(image, 0.2)])
    with pytest.raises(ValueError, match="`samples`: all 2 images are constant, so they show no"):
        tflite.network_tflite(small_32, params, stats, "int8", grey)


def test_a_missing_extra_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError) as error:
        litert.module("litert_converter.mlir.ir")
    assert isinstance(error.value, ValueError)
    assert str(error.value) == (
        "models for devices require litert_converter, which is not installed: "
        "pip install 'mnv4-nas[export]'"
    )
