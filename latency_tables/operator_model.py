"""OperatorModel: times of any operation from measured ones, with the error to expect."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from latency_tables import blas
from latency_tables.gaussian_process import GaussianProcess, KindParameters, tune
from search_spaces import OpCall
from search_spaces.frozen import FrozenModel


class OperatorParameters(FrozenModel):
    """Parameters of an `OperatorModel`.

    Attributes:
      kinds: {kind of operation: its parameters}.
    """

    kinds: dict[str, KindParameters]


@dataclasses.dataclass(frozen=True, eq=False)
class OperatorModel:
    """Times of operations from measured ones: a Gaussian process for each kind of operation.

    log t = log(mean . counts) + g
    g ~ GP(0, signal^2 Matern_5/2(|log2 sizes - log2 sizes'| / lengths) + noise^2)

    Near measured operations the measurements determine the estimate. Far from them it is the mean:
    a constant, and a time for each MAC, element read, element written and weight. A kernel or
    another size of which only one value was measured says nothing about other values: there the
    deviation is `signal`, and the estimate a guess. The same rows give the same model in any order.

    To keep a model, write `parameters` as YAML (`yaml_io.to_yaml`) and the rows as the CSV of a
    table; `build` puts them together. `operator_parameters` does so beside a table. For the 1,006
    rows of the table x86-64-int8 on two cores (AMD EPYC, OpenBLAS of numpy 2.4.6) `fit` takes 2 s
    of CPU time. With the two threads that OpenBLAS takes by default it took 23 s, and 52 to 66 s
    beside other work, so `fit` uses one thread. `build` takes 0.1 s with one thread, 0.2 to 1 s
    with two.

    Attributes:
      parameters: Fitted parameters.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1,
    equation 4.17.
    """

    parameters: OperatorParameters
    _kinds: Mapping[str, GaussianProcess]

    @classmethod
    def fit(cls, ops: Sequence[OpCall], ms: Sequence[float] | np.ndarray) -> OperatorModel:
        """Tune the parameters by marginal likelihood, and condition on the operations.

        An operation that occurs more than once counts once, with the mean of its times. Parameters
        are rounded to the digits that a file keeps, and the search is over a grid. So builds of
        BLAS and numbers of threads, which differ in the last bits of the likelihood, normally give
        equal parameters; this is not guaranteed where two grid points are equally likely.

        Args:
          ops: [n] operations.
          ms: [n] ms, time of one run of each.

        Returns:
          The model.

        Raises:
          ValueError: No operation, or a time that is not positive.
        """
        rows = _by_kind(ops, ms)
        with blas.single_thread():
            kinds = {kind: tune(*row) for kind, row in rows.items()}
        return cls.build(OperatorParameters(kinds=kinds), ops, ms)

    @classmethod
    def build(
        cls, parameters: OperatorParameters, ops: Sequence[OpCall], ms: Sequence[float] | np.ndarray
    ) -> OperatorModel:
        """Condition on measured operations with parameters that were fitted to them before.

        Args:
          parameters: Parameters that `fit` found for these operations.
          ops: [n] operations.
          ms: [n] ms, time of one run of each.

        Returns:
          The model; the same as that of `fit`.

        Raises:
          ValueError: As `fit`; or parameters and rows are not of the same kinds of operation.
        """
        rows = _by_kind(ops, ms)
        if set(rows) != set(parameters.kinds):
            raise ValueError(
                f"operator model: got rows of {', '.join(sorted(rows))}, but parameters of "
                f"{', '.join(sorted(parameters.kinds))}; take the rows that the parameters were "
                "fitted to"
            )
        kinds = {
            kind: GaussianProcess.condition(parameters.kinds[kind], *row)
            for kind, row in rows.items()
        }
        return cls(parameters, kinds)

    @classmethod
    def held_out(
        cls,
        ops: Sequence[OpCall],
        ms: Sequence[float] | np.ndarray,
        *,
        folds: int = 5,
        seed: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict operations by models that were not fitted to them: k-fold by distinct operation.

        Rows of one operation are in one fold, so that no model predicts an operation that it was
        fitted to. Every kind of operation is spread over all folds.

        Args:
          ops: [n] operations.
          ms: [n] ms, time of one run of each.
          folds: Number of folds, each predicted from the others.
          seed: Random seed of the split.

        Returns:
          ms [n], relative deviation [n], as `predict`; NaN for an operation that is the only one of
          its kind.

        Raises:
          ValueError: As `fit`, or fewer than 2 folds.
        """
        if folds < 2:
            raise ValueError(f"operator model: got {folds} folds, expected at least 2")
        times, rng = np.asarray(ms, np.float64), np.random.default_rng(seed)
        fold_of_op: dict[OpCall, int] = {}
        for distinct, _ in _by_kind(ops, times).values():
            positions = rng.permutation(len(distinct)) % folds
            fold_of_op |= dict(zip(distinct, positions.tolist(), strict=True))
        fold_of = np.array([fold_of_op[op.folded] for op in ops])
        out, deviation = np.full(len(ops), math.nan), np.full(len(ops), math.nan)
        for fold in sorted(set(fold_of_op.values())):
            known = np.flatnonzero(fold_of != fold).tolist()
            kinds = {ops[row].kind for row in known}
            asked = np.flatnonzero(fold_of == fold).tolist()
            asked = [row for row in asked if ops[row].kind in kinds]
            if asked:
                model = cls.fit([ops[row] for row in known], times[known])
                out[asked], deviation[asked] = model.predict([ops[row] for row in asked])
        return out, deviation

    def predict(self, ops: Sequence[OpCall]) -> tuple[np.ndarray, np.ndarray]:
        """Predict the times of operations, measured or not, with the error to expect.

        Args:
          ops: [n] operations.

        Returns:
          ms [n] float64; relative deviation [n] float64: the standard deviation of
          log(measured / ms).

        Raises:
          ValueError: A kind of operation of which none was measured.
        """
        deviation = np.empty(len(ops))
        for name, rows in self._rows_by_kind(ops).items():
            deviation[rows] = self._kinds[name].deviation([ops[index] for index in rows])
        return self.predict_ms(ops), deviation

    def predict_ms(self, ops: Sequence[OpCall]) -> np.ndarray:
        """Predict the times of operations only, which is much faster than `predict`.

        Args:
          ops: [n] operations.

        Returns:
          ms [n] float64.

        Raises:
          ValueError: A kind of operation of which none was measured.
        """
        out = np.empty(len(ops))
        for name, rows in self._rows_by_kind(ops).items():
            out[rows] = self._kinds[name].predict_ms([ops[index] for index in rows])
        return out

    def _rows_by_kind(self, ops: Sequence[OpCall]) -> dict[str, list[int]]:
        """{kind: positions of its operations}. Raises ValueError for an unknown kind."""
        rows: dict[str, list[int]] = {}
        for index, op in enumerate(ops):
            rows.setdefault(op.kind, []).append(index)
        for name in rows:
            if name not in self._kinds:
                raise ValueError(
                    f"operator model: no {name} was measured, only "
                    f"{', '.join(sorted(self._kinds))}; measure some, or estimate {name} from "
                    "another source"
                )
        return rows


def _by_kind(
    ops: Sequence[OpCall], ms: Sequence[float] | np.ndarray
) -> dict[str, tuple[list[OpCall], np.ndarray]]:
    """{kind: distinct operations and their mean times}, the same for any order of the rows."""
    times = np.asarray(ms, np.float64)
    if times.shape != (len(ops),) or not len(ops):
        raise ValueError(
            f"operator model: got {len(ops)} operations and times of shape {times.shape}"
        )
    for index in np.flatnonzero(~(np.isfinite(times) & (times > 0))).tolist():
        raise ValueError(
            f"operator model: row {index}: got {times[index]} ms, expected a positive number"
        )
    seen: dict[OpCall, list[float]] = {}
    for op, value in zip(ops, times.tolist(), strict=True):
        seen.setdefault(op.folded, []).append(value)
    out: dict[str, tuple[list[OpCall], np.ndarray]] = {}
    for kind in sorted({op.kind for op in seen}):
        distinct = sorted((op for op in seen if op.kind == kind), key=repr)
        out[kind] = (distinct, np.array([math.fsum(seen[op]) / len(seen[op]) for op in distinct]))
    return out
