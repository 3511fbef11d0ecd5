"""Question: how fast is each operator, compared to PyTorch eager and to the machine's peaks?

    python -m experiments.benchmarks.operators [--torch-python PYTHON] [--rounds N] [--cases N ...]

Forward, and forward with the gradients of weights and input (not of images); float32, two cores,
alternating processes that both retain freed memory. The roof is the speed of a matrix product and
of a copy on the same cores in the same run; an operator whose tensors stay in the cache may exceed
it. Answer: `results/operators*` and experiments/RESULTS.md.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks import side_by_side
from experiments.benchmarks.side_by_side import Side, Timings
from nas.report import plots
from search_spaces import OpCall, Shape, blocks
from search_spaces.ops import Activation

SECONDS = 0.3
"""Length of a turn, in seconds."""

_GEMM = 1024
"""Side of the matrices."""
_COPY = 256 << 20
"""Bytes of a copy."""
_NORM_FLOPS = (6, 14)
"""FLOPs per value of a batch norm with relu: forward, and forward with the gradient.

Forward: two sums, scale and shift, relu. Gradient: mask, two sums, a * dy + b * x + c. Source:
ours.
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator on a batch.

    Attributes:
      operator: Name in the results.
      images: Batch size b.
      at: Shape h, w, c of its input.
      block: Block of the project with this operator only.
      activation: Activation after it.
      input_gradient: Whether training needs the gradient of the input, too.
    """

    operator: str
    images: int
    at: Shape
    block: blocks.BaseBlock
    activation: Activation = "none"
    input_gradient: bool = True

    @property
    def ops(self) -> tuple[OpCall, ...]:
        """Operations for one image."""
        return tuple(self.block.lower(self.at))

    @property
    def shape(self) -> str:
        """Shape for the results, e.g. "64x16x16x96 to 384"."""
        size = f"{self.images}x{self.at.height}x{self.at.width}x{self.at.channels}"
        return f"{size} to {self._out.channels}"

    @property
    def _out(self) -> Shape:
        return self.block.after(self.at)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Random input [b, h, w, c] and gradient of the output [b, h', w', c'], float32."""
        rng = np.random.default_rng(0)
        shapes = ((self.images, s.height, s.width, s.channels) for s in (self.at, self._out))
        x, dy = (rng.standard_normal(shape, np.float32) for shape in shapes)
        return x, dy

    def flops(self, backward: bool) -> int:
        """FLOPs: 2 per MAC, the same for each gradient, and those of norms.

        Softmax, residuals and scales are not counted.

        Args:
          backward: Whether gradients are included.
        """
        passes = 1 + backward * (1 + self.input_gradient)
        norms = sum(op.input.elements for op in self.ops if op.kind == "batch_norm")
        return self.images * (
            2 * passes * sum(op.macs for op in self.ops) + _NORM_FLOPS[backward] * norms
        )

    def least_bytes(self, backward: bool) -> int:
        """Least number of bytes that must be moved.

        Forward: input and weights are read, the output is written. Backward: these and dy are read,
        gradients are written. Nothing in between is counted.

        Args:
          backward: Whether gradients are included.
        """
        x, y, weights = (
            self.images * self.at.elements,
            self.images * self._out.elements,
            sum(o.params for o in self.ops),
        )
        forward = x + weights + y
        return 4 * (forward + backward * (forward + weights + self.input_gradient * x))


_BARE: dict[str, Any] = {"activation": "none", "norm": "none"}


def _conv(
    operator: str, images: int, at: Shape, filters: int, *, kernel: int = 1, stride: int = 1
) -> Case:
    block = blocks.Conv.model_validate(
        {**_BARE, "filters": filters, "kernel": kernel, "stride": stride}
    )
    return Case(operator, images, at, block, input_gradient=at.channels > 3)


CASES = (
    *(
        Case(
            f"depthwise {kernel}x{kernel} stride {stride}",
            images,
            at,
            blocks.Depthwise.model_validate({**_BARE, "kernel": kernel, "stride": stride}),
        )
        for images, at in ((32, Shape(28, 28, 96)), (64, Shape(8, 8, 192)))
        for kernel in (3, 5)
        for stride in (1, 2)
    ),
    _conv("pointwise", 64, Shape(16, 16, 96), 384),
    _conv("pointwise", 32, Shape(14, 14, 256), 1024),
    _conv("stem", 64, Shape(64, 64, 3), 32, kernel=3, stride=2),
    _conv("stem", 32, Shape(224, 224, 3), 32, kernel=3, stride=2),
    Case("batch norm + relu", 32, Shape(28, 28, 96), blocks.BatchNorm(), "relu"),
    Case("batch norm + relu", 32, Shape(56, 56, 96), blocks.BatchNorm(), "relu"),
    Case(
        "attention, kv stride 2",
        32,
        Shape(16, 16, 160),
        blocks.MQA(heads=4, key_dim=64, kv_stride=2),
    ),
    Case("attention", 64, Shape(8, 8, 256), blocks.MQA(heads=4, key_dim=64)),
)
"""Operators to compare.

Attention is MQA as in MNv4-Hybrid-M's stages 4 and 5, with norm and residual."""


@dataclasses.dataclass(frozen=True)
class Peaks:
    """Best speed of the machine.

    Attributes:
      gflops: GFLOP/s of a matrix product.
      gbs: GB/s that a copy reads plus writes.
    """

    gflops: float
    gbs: float

    def share(self, flops: float, bytes_: float, seconds: float) -> float:
        """Least possible time on this machine / measured time.

        Args:
          flops: FLOPs of the operator.
          bytes_: Bytes that it moves at least.
          seconds: Measured time.
        """
        return max(flops / self.gflops, bytes_ / self.gbs) / 1e9 / seconds


def gemm() -> Callable[[], object]:
    """Function that multiplies two float32 matrices [n, n]."""
    a, b = np.random.default_rng(0).standard_normal((2, _GEMM, _GEMM), np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out)


def copy() -> Callable[[], object]:
    """Function that copies an array, each core one part of it."""
    source, cores = np.ones(_COPY // 4, np.float32), len(os.sched_getaffinity(0))
    pairs = list(zip(np.split(np.empty_like(source), cores), np.split(source, cores), strict=True))
    pool = concurrent.futures.ThreadPoolExecutor(cores)
    return lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))


def peaks(rounds: int) -> Peaks:
    """Measure the peaks, in the fastest of several rounds.

    Args:
      rounds: Number of rounds.

    Returns:
      The peaks.
    """
    sides = [
        Side(name, f"experiments.benchmarks.operators:{name}", {}) for name in ("gemm", "copy")
    ]
    timings = side_by_side.compare(sides, rounds=rounds, seconds=SECONDS)
    return Peaks(
        2 * _GEMM**3 / min(timings["gemm"].seconds) / 1e9,
        2 * _COPY / min(timings["copy"].seconds) / 1e9,
    )


def row(number: int, backward: bool, ours: Timings, torch: Timings, roof: Peaks) -> dict[str, Any]:
    """Row of the results for one case in one direction.

    Args:
      number: Index of the case in `CASES`.
      backward: Whether gradients are included.
      ours: Timings of the project.
      torch: Timings of PyTorch.
      roof: Peaks of the machine.

    Returns:
      {column: value}.
    """
    case = CASES[number]
    flops, bytes_ = case.flops(backward), case.least_bytes(backward)
    gradients = "backward" if case.input_gradient else "weight gradient"
    sides = {"ours": ours.median, "torch": torch.median}
    return {
        **{"case": number, "operator": case.operator, "shape": case.shape},
        "direction": f"forward + {gradients}" if backward else "forward",
        **{f"ms_{side}": f"{seconds * 1e3:.3f}" for side, seconds in sides.items()},
        **ours.ratio(torch),
        **{
            "mflops": f"{flops / 1e6:.1f}",
            "least_mb": f"{bytes_ / 1e6:.2f}",
            "intensity": f"{flops / bytes_:.3f}",
        },
        **{f"gflops_{side}": f"{flops / seconds / 1e9:.2f}" for side, seconds in sides.items()},
        **{
            f"roof_share_{side}": f"{roof.share(flops, bytes_, seconds):.3f}"
            for side, seconds in sides.items()
        },
        **{"peak_gflops": f"{roof.gflops:.1f}", "peak_gbs": f"{roof.gbs:.2f}"},
    }


def draw(rows: Sequence[dict[str, Any]], roof: Peaks, path: pathlib.Path) -> None:
    """Plot the rows under the roof, with one panel per direction.

    A line joins both sides of a case, which is labelled by its number.

    Args:
      rows: Rows of the results.
      roof: Peaks of the machine.
      path: SVG file.
    """
    figure, panels = plots.panels(9, rows=2, width=10)
    forward, both = (
        [r for r in rows if r["direction"] == "forward"],
        [r for r in rows if r["direction"] != "forward"],
    )
    for axes, title, panel in zip(
        panels, ("forward", "forward + gradients"), (forward, both), strict=True
    ):
        x = _apart(np.array([float(row["intensity"]) for row in panel]))
        ends = np.array([min(x.min(), 0.5) / 1.3, roof.gflops / roof.gbs, x.max() * 1.5])
        axes.plot(ends, np.minimum(ends * roof.gbs, roof.gflops), color="#4a5568", linewidth=1.2)
        for at, row in zip(x, panel, strict=True):
            ours, torch, number = (
                float(row["gflops_ours"]),
                float(row["gflops_torch"]),
                str(row["case"]),
            )
            axes.plot([at, at], [ours, torch], color="#a0aec0", linewidth=0.8, zorder=1)
            axes.plot(
                at, ours, "o", color="#2b6cb0", markersize=5, label="ours" if row is rows[0] else ""
            )
            axes.plot(
                at,
                torch,
                "s",
                color="#c05621",
                markersize=4,
                label="PyTorch" if row is rows[0] else "",
            )
            label = {"xytext": (0, -5), "textcoords": "offset points", "ha": "center", "va": "top"}
            axes.annotate(number, (at, min(ours, torch)), fontsize=7, **label)
            axes.plot([], [], " ", label=f"{number}  {row['operator']}, {row['shape']}")
        axes.set(xscale="log", yscale="log", ylabel="GFLOP/s")
        axes.set_title(
            f"{title}; roof: {roof.gflops:.0f} GFLOP/s, {roof.gbs:.1f} GB/s",
            fontsize=10,
            loc="left",
        )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=7.5, frameon=False, loc="outside right center", handlelength=1
    )
    panels[1].set_xlabel(
        "FLOP / least bytes moved (operators of equal intensity stand side by side)"
    )
    plots.save(figure, path)


def _apart(x: np.ndarray, gap: float = 1.1) -> np.ndarray:
    """Spread values that would touch by a factor `gap` around their geometric mean: [n] -> [n]."""
    order = np.argsort(x, kind="stable")
    out = x.copy()
    for group in np.split(order, np.flatnonzero(x[order][1:] > gap**2 * x[order][:-1]) + 1):
        out[group] = np.exp(np.log(x[group]).mean()) * gap ** (
            np.arange(len(group)) - (len(group) - 1) / 2
        )
    return out


def main() -> None:
    """Measure the peaks and all cases, print their rows, and write the CSV file and its plot."""
    options = side_by_side.parser(__doc__, len(CASES)).parse_args()
    torch_python, roof, rows = options.torch_python, peaks(options.rounds), []
    for case in options.cases:
        sides = []
        for backward in (False, True):
            arguments = {"case": case, "backward": backward}
            for name, module, python in (
                ("ours", "ours", sys.executable),
                ("torch", "torch_side", torch_python),
            ):
                maker = f"experiments.benchmarks.{module}:operator"
                sides.append(Side(f"{name} {backward}", maker, arguments, python))
        found = side_by_side.compare(sides, rounds=options.rounds, seconds=SECONDS)
        for backward in (False, True):
            rows.append(
                row(case, backward, found[f"ours {backward}"], found[f"torch {backward}"], roof)
            )
            side_by_side.show(rows[-1])
    versions = side_by_side.versions(torch_python)
    path = side_by_side.write("operators", rows, dtype="float32", versions=versions)
    draw(rows, roof, path.with_suffix(".svg"))
    print(f"written: {path} and .svg")


if __name__ == "__main__":
    main()
