"""Meaning of decisions and shares: widths, products of widths, operators, presence, averages."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nas.model.selection import Selection, prefix_mask
from search_spaces import OneOf, SearchSpace
from search_spaces.blocks import expanded_width

WIDTH = OneOf[int](options=(8, 16, 24), name="width")
EXPANSION = OneOf[float](options=(2.0, 3.0), name="expansion")
KERNEL = OneOf[int](options=(0, 3, 5), name="kernel")
DEPTH = OneOf[bool](options=(True, True, False), name="depth")


@pytest.fixture
def at(tiny_space: SearchSpace) -> Callable[..., Selection]:
    """Decisions by name (others 0) as a Selection."""

    def make(**decisions: int) -> Selection:
        vector = [decisions.get(decision.name, 0) for decision in tiny_space.decisions]
        return Selection(tiny_space, jnp.asarray(vector, jnp.int32))

    return make


def test_indices_follow_the_names(at: Callable[..., Selection], tiny_space: SearchSpace) -> None:
    numbers = {decision.name: place for place, decision in enumerate(tiny_space.decisions)}
    selection = at(**numbers)
    holes = {hole.name: hole for block in tiny_space.spec.blocks for _, hole, _ in block.holes()}
    assert {name: int(selection.index(hole)) for name, hole in holes.items()} == numbers


@pytest.mark.parametrize("index", range(3))
def test_widths(at: Callable[..., Selection], index: int) -> None:
    assert int(at(width=index).width(WIDTH)) == WIDTH.options[index]
    assert at(width=index).width(40) == 40


def test_products_of_widths(at: Callable[..., Selection]) -> None:
    for w, e in np.ndindex(3, 2):
        selection = at(width=w, expansion=e)
        want = expanded_width(WIDTH.options[w], EXPANSION.options[e])
        assert int(selection.product_width(WIDTH, EXPANSION, expanded_width)) == want
        assert int(selection.product_width(WIDTH, 2.5, expanded_width)) == expanded_width(
            WIDTH.options[w], 2.5
        )
        assert int(selection.product_width(12, EXPANSION, expanded_width)) == expanded_width(
            12, EXPANSION.options[e]
        )


def test_a_product_that_is_always_the_same_is_a_plain_number(at: Callable[..., Selection]) -> None:
    near = OneOf[float](options=(2.0, 2.01), name="expansion")
    product = at().product_width(8, near, expanded_width)
    assert isinstance(product, int) and product == 16


def test_only_the_chosen_operator_runs(at: Callable[..., Selection]) -> None:
    ran: list[int] = []

    def branch(number: int, x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: ran.append(number))
        return x + 10.0**number

    branches = [functools.partial(branch, number) for number in range(3)]
    for index in range(3):
        ran.clear()
        y = at(kernel=index).operator(KERNEL, branches, jnp.zeros(()))
        jax.effects_barrier()
        assert (float(y), ran) == (10.0**index, [index])


def test_one_more_than_the_operators_averages_them(at: Callable[..., Selection]) -> None:
    branches = [lambda x: x, lambda x: 2 * x, lambda x: x + 9]
    y = at(kernel=3).operator(KERNEL, branches, jnp.array([3.0, -3.0]))
    np.testing.assert_allclose(y, [(3 + 6 + 12) / 3, (-3 - 6 + 6) / 3], rtol=1e-6)


@pytest.mark.parametrize("within_a_block", [False, True])
@pytest.mark.parametrize("identity", [None, lambda x: x], ids=["none", "function"])
def test_the_derivative_of_an_operator(
    at: Callable[..., Selection],
    identity: Callable[[jax.Array], jax.Array] | None,
    within_a_block: bool,
) -> None:
    """That of the chosen branch, or of the average, as JAX has it; masks are closed over, too."""
    rng = np.random.default_rng(0)
    x, a, b, dy = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((4, 3), (3, 3), (3,), (4, 3))
    )
    selections = [at(kernel=index) for index in range(4)]

    def branches(
        a: jax.Array, b: jax.Array, mask: Any
    ) -> list[Callable[[jax.Array], jax.Array] | None]:
        return [
            identity,
            lambda x: jnp.where(mask, jnp.tanh(x @ a), 0),
            lambda x: jnp.sin(x * b) @ a,
        ]

    def got(x: jax.Array, a: jax.Array, b: jax.Array, index: int) -> jax.Array:
        def block(x: jax.Array) -> jax.Array:
            return selections[index].operator(
                KERNEL, branches(a, b, prefix_mask(jnp.int32(2), 3)), x
            )

        return (
            dy * (jax.lax.cond(x[0, 0] < 9, block, lambda x: x, x) if within_a_block else block(x))
        ).sum()

    def want(x: jax.Array, a: jax.Array, b: jax.Array, index: int) -> jax.Array:
        outputs = [
            x if branch is None else branch(x) for branch in branches(a, b, jnp.arange(3) < 2)
        ]
        return (dy * (sum(outputs[1:], outputs[0]) / 3 if index == 3 else outputs[index])).sum()

    for index in range(4):
        ours, plain = (
            jax.jit(jax.value_and_grad(f, (0, 1, 2)), static_argnums=3)(x, a, b, index)
            for f in (got, want)
        )
        jax.tree.map(
            lambda ours, plain: np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6),
            ours,
            plain,
        )


def test_a_fixed_operator_is_its_only_branch(at: Callable[..., Selection]) -> None:
    assert float(at().operator(5, [lambda x: x + 1], jnp.zeros(()))) == 1
    assert float(Selection().operator(5, [lambda x: x + 1], jnp.zeros(()))) == 1
    assert float(Selection().operator(0, [None], jnp.ones(()))) == 1


@pytest.mark.parametrize(("index", "want"), [(0, 8.0), (1, 8.0), (2, 2.0), (3, 2 + 6 * 2 / 3)])
def test_presence(at: Callable[..., Selection], index: int, want: float) -> None:
    """Present, present, absent; and in warm-up the mean over the options."""
    assert float(
        at(depth=index).maybe_apply(DEPTH, lambda x: 4 * x, jnp.array(2.0))
    ) == pytest.approx(want, rel=1e-6)


def test_an_absent_block_does_not_run(at: Callable[..., Selection]) -> None:
    x = jnp.array(2.0)
    assert float(at(depth=2).maybe_apply(DEPTH, lambda x: x * jnp.nan, x)) == 2
    assert np.isnan(at(depth=0).maybe_apply(DEPTH, lambda x: x * jnp.nan, x))
    assert float(Selection().maybe_apply(True, lambda x: 4 * x, x)) == 8


def test_errors(tiny_space: SearchSpace) -> None:
    with pytest.raises(ValueError, match="a supernet needs a decision vector"):
        Selection(tiny_space, None)
    with pytest.raises(ValueError, match="without holes takes none"):
        Selection(None, jnp.zeros(6, jnp.int32))
    with pytest.raises(
        ValueError,
        match=r"^space 'tiny': got a decision vector of shape \[5\], expected \[6\], "
        "one entry for each decision$",
    ):
        Selection(tiny_space, jnp.zeros(5, jnp.int32))
    with pytest.raises(
        ValueError,
        match=r"^space 'tiny': got shares of shape \[3, 6\], expected \[6, 3\], "
        "one row for each decision and one column for each option$",
    ):
        Selection.from_shares(tiny_space, jnp.zeros((3, 6)))
    for use in (Selection().index, Selection().width):
        with pytest.raises(ValueError, match="the hole 'width' is open"):
            use(WIDTH)


@pytest.fixture
def by_shares(tiny_space: SearchSpace) -> Callable[..., Selection]:
    """Shares of decisions by name (others all on option 0) as a Selection."""

    def make(**shares: Any) -> Selection:
        rows = []
        for decision in tiny_space.decisions:
            row = jnp.asarray(shares.get(decision.name, [1.0] + [0.0] * (decision.options - 1)))
            # what lies beyond a decision's own options must not count
            rows.append(jnp.pad(row, (0, 3 - decision.options), constant_values=jnp.nan))
        return Selection.from_shares(tiny_space, jnp.stack(rows))

    return make


@pytest.mark.parametrize("index", range(4))
def test_one_hot_shares_are_a_decision_vector(
    at: Callable[..., Selection], by_shares: Callable[..., Selection], index: int
) -> None:
    """And equal shares are the average, as in warm-up."""
    branches = [lambda x: x, None, lambda x: x + 9]
    x = jnp.array([3.0, -3.0])
    shares = np.eye(3)[index] if index < 3 else np.full(3, 1 / 3)
    vector, soft = at(kernel=index, depth=index), by_shares(kernel=shares, depth=shares)
    np.testing.assert_allclose(
        soft.operator(KERNEL, branches, x), vector.operator(KERNEL, branches, x), rtol=1e-6
    )
    np.testing.assert_allclose(
        soft.maybe_apply(DEPTH, lambda x: 4 * x, x),
        vector.maybe_apply(DEPTH, lambda x: 4 * x, x),
        rtol=1e-6,
    )


def test_sizes_take_the_option_with_the_largest_share(
    by_shares: Callable[..., Selection],
) -> None:
    selection = by_shares(width=[0.3, 0.2, 0.5], expansion=[0.4, 0.6])
    assert int(selection.index(WIDTH)) == 2 and selection.index(WIDTH).dtype == jnp.int32
    assert int(selection.width(WIDTH)) == 24 and selection.width(40) == 40
    want = expanded_width(24, 3.0)
    assert int(selection.product_width(WIDTH, EXPANSION, expanded_width)) == want
    assert int(by_shares(width=[0.4, 0.2, 0.4]).width(WIDTH)) == 8, "the first one of equals"


def test_gradients_of_shares(tiny_space: SearchSpace, by_shares: Callable[..., Selection]) -> None:
    """<dy, branch_i(x)> for operators; <dy, block(x)> or, where absent, <dy, x> for presence."""
    x, dy = jnp.array([3.0, -2.0]), jnp.array([1.0, 0.5])

    def operator(shares: jax.Array) -> jax.Array:
        branches = [lambda x: x**2, None, lambda x: x + 9]
        return dy @ by_shares(kernel=shares).operator(KERNEL, branches, x)

    def presence(shares: jax.Array) -> jax.Array:
        return dy @ by_shares(depth=shares).maybe_apply(DEPTH, lambda x: 4 * x, x)

    soft, hard = jnp.array([0.2, 0.5, 0.3]), jnp.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(jax.grad(operator)(soft), [9 + 2, 3 - 1, 12 + 3.5], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(operator)(hard), [0, 3 - 1, 0], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(presence)(soft), [8, 8, 2], rtol=1e-6)

    def width(shares: jax.Array) -> jax.Array:
        return jnp.asarray(by_shares(width=shares).width(WIDTH), jnp.float32)

    np.testing.assert_array_equal(jax.grad(width)(soft), [0, 0, 0])


def test_a_block_without_a_share_does_not_run(by_shares: Callable[..., Selection]) -> None:
    x = jnp.array(2.0)
    absent = by_shares(depth=[0.0, 0.0, 1.0])
    assert float(absent.maybe_apply(DEPTH, lambda x: x * jnp.nan, x)) == 2
    assert float(by_shares().maybe_apply(True, lambda x: 4 * x, x)) == 8
    assert float(by_shares().operator(5, [lambda x: x + 1], x)) == 3


def test_prefix_masks() -> None:
    assert prefix_mask(4, 4) is None
    for width in (3, jnp.int32(3)):
        np.testing.assert_array_equal(np.asarray(prefix_mask(width, 4)), [True, True, True, False])
    np.testing.assert_array_equal(np.asarray(prefix_mask(jnp.int32(4), 4)), [True] * 4)
