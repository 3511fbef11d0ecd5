"""Statistics in the descriptions of shards, and the report made of them."""

from __future__ import annotations

import json
import pathlib

import pytest

from nas.cli import distil
from nas.data.distilled.manifest import read_manifest

from .conftest import Make, command


def test_shards_say_what_they_hold(
    photos: pathlib.Path, teacher_file: Make, tmp_path: pathlib.Path
) -> None:
    out = tmp_path / "out"
    more = ["--recipe", "plain", "--top-k", "1", "--teacher"]
    distil.main(command(photos, out, *more, f"onnx:{teacher_file()}"))
    for split in read_manifest(out).splits.values():
        for shard in split.shards:
            assert sum(shard.class_mass) == pytest.approx(shard.images)
            assert sum(shard.entropy) == shard.images
            # The teacher looks at the colours that name the classes.
            assert shard.agree == shard.labelled == shard.images
            assert 0 < shard.rest_mass < shard.images and 0 <= shard.lost_nats < shard.images
            described = json.loads((out / shard.file).with_suffix(".json").read_text())
            assert described["sha256"] == shard.sha256
    page = (out / "report.html").read_text()
    assert page.count("<img") == 30 and page.count("<svg") == 2 and "data:image/png" in page
    assert all(
        (out / name).stat().st_size
        for name in ("contact_sheet.png", "class_balance.svg", "entropy.svg")
    )
