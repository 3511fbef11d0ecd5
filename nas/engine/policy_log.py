"""The log of a policy: probabilities of all options over time."""

from __future__ import annotations

import pathlib

from nas.engine.state import SearchState
from nas.run.log import MetricLog
from nas.searchers.base import Policy

_ROWS = 100  # at most about this many in a run
_LOOK_EVERY = 10  # the loop waits for the metrics that often anyway, see `nas.run.loop`


class PolicyLog:
    """Writes [policies][decisions][options] probabilities as JSON lines.

    A callback of `nas.run.loop`.

    Args:
      path: The file.
      policy: The policy.
      steps: Length of the run, which is logged about a hundred times.
    """

    def __init__(self, path: pathlib.Path, policy: Policy, steps: int):
        self._path = path
        self._policy = policy
        self._log: MetricLog | None = None
        self.every = _LOOK_EVERY * max(steps // (_LOOK_EVERY * _ROWS), 1)

    def start(self, first_step: int) -> None:
        """See `nas.run.loop.Callback`.

        Args:
          first_step: Steps done before.
        """
        self._log = MetricLog(self._path, first_step)

    def __call__(self, step: int, state: SearchState) -> None:
        """See `nas.run.loop.Callback`.

        Args:
          step: Steps done.
          state: The state after them.
        """
        assert self._log
        self._log.write(step - 1, {"probabilities": self._probabilities(state)})

    def _probabilities(self, state: SearchState) -> list[list[list[float]]]:
        import jax

        policies = jax.device_get(state.policy)
        count = len(jax.tree.leaves(policies)[0])
        rows = []
        for index in range(count):
            one = jax.tree.map(lambda leaf, index=index: leaf[index], policies)
            shares = self._policy.host_probabilities(one)
            rows.append(
                [
                    [round(float(p), 4) for p in row[:options]]
                    for row, options in zip(shares, self._policy.counts, strict=True)
                ]
            )
        return rows

    def flush(self) -> None:
        """See `nas.run.loop.Callback`."""
        if self._log:
            self._log.flush()

    def close(self) -> None:
        """See `nas.run.loop.Callback`."""
        if self._log:
            self._log.close()
