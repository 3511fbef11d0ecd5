"""`nas-export`: write a trained network for a device, and check the file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nas.cli.errors import one_line_for_users
from nas.cli.messages import say

_EXAMPLES = """\
examples:
  nas-export runs/quickstart                            INT8 for TFLite, checked and timed
  nas-export runs/quickstart --format tflite-uint8      raw pixels in, as MediaPipe takes them
  nas-export runs/t --format onnx --format stablehlo --out models

formats: tflite-int8, tflite-uint8, tflite-fp16, tflite-fp32 (extra export), onnx (extra onnx),
stablehlo, pytorch (weights and code for timm), coreml (extra coreml)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exit code 2 for a user's mistake, or for a file that fails its check.

    Args:
      arguments: Command line; None: that of the process.
    """
    options = _parser().parse_args(arguments)
    with one_line_for_users("nas-export"):
        from nas.api.exporting import DEFAULT_FORMAT, export

        for name in options.format or [DEFAULT_FORMAT]:
            done = export(
                options.trained,
                format=name,
                out=options.out,
                data=options.data,
                samples=options.samples,
                images=options.images,
                allow_loss=options.allow_loss,
                device=options.device,
            )
            _print(done.path, done.record)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-export",
        description="Write a trained network for a device. A file gets its name only after it has "
        "been compared with the network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("trained", metavar="RUN", help="folder of a training, or of a search with one training")
    add(
        "--format", action="append", metavar="NAME", help="format (default tflite-int8); repeatable"
    )
    add("--out", metavar="DIR", help="folder of the files; default: export in that of the training")
    add(
        "--data", metavar="SOURCE", help="data for calibration and checks (default: the training's)"
    )
    samples = "training images that show the ranges of INT8 activations (default 500)"
    add("--samples", type=int, default=500, metavar="N", help=samples)
    images = "validation images on which the file is evaluated (default 2000)"
    add("--images", type=int, default=2000, metavar="N", help=images)
    device = "its prediction stands beside the time (default: the search's targets)"
    add("--device", metavar="NAME|FILE", help=device)
    loss = "accuracy that the file may lose against the network (default 1%%)"
    add("--allow-loss", type=_share, default=0.01, metavar="P", help=loss)
    return parser


def _share(text: str) -> float:
    try:
        value = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a share such as 2% or 0.02")
    return value


def _print(path: object, record: object) -> None:
    from nas.exporters.record import ExportRecord

    assert isinstance(record, ExportRecord)
    say(f"{path}: {record.bytes / 1e6:.2f} MB")
    if record.accuracy is not None and record.float_accuracy is not None:
        say(
            f"  accuracy {record.accuracy:.4f}, of the network {record.float_accuracy:.4f} "
            f"({record.images} validation images; same class for {record.agreement:.1%})"
        )
        say(f"  logits differ by {record.difference:.1e} of their range")
    if record.milliseconds is not None and record.float_milliseconds is not None:
        ratio = record.milliseconds / record.float_milliseconds
        say(
            f"  {record.milliseconds:.3g} ms on one thread here, float32 "
            f"{record.float_milliseconds:.3g} ms ({ratio:.2f} of it)"
        )
    for prediction in record.predictions:
        say(f"  {prediction}")
    for warning in record.warnings:
        say(f"  warning: {warning}")


if __name__ == "__main__":
    main()
