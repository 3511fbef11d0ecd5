"""Results are what they were before, to the bit."""

from __future__ import annotations

import json
import pathlib

import pytest

from experiments import golden

RECORD = pathlib.Path(golden.__file__).with_name("golden.json")


@pytest.mark.slow
def test_every_kind_of_search_gives_what_it_gave(tmp_path: pathlib.Path) -> None:
    before = json.loads(RECORD.read_text(encoding="utf-8"))
    here = golden.machine()
    if here != before["machine"]:
        pytest.skip(f"recorded on {before['machine']}, this is {here}: bits depend on it")
    after = {"machine": here, "hashes": golden.hashes(tmp_path)}
    assert golden.differences(before, after) == []


def test_the_record_covers_every_kind() -> None:
    names = json.loads(RECORD.read_text(encoding="utf-8"))["hashes"]
    kinds = (
        "coarse",
        "fine",
        "hybrid",
        "one-stage",
        "each/",
        "derived",
        "finals",
        "diagnose",
        "d1",
    )
    for kind in kinds:
        assert any(kind in name for name in names), kind


def test_another_machine_is_no_difference_of_the_code() -> None:
    machine = {"instructions": "avx2", "cores": 2, "jax": "0"}
    same = {"machine": machine, "hashes": {"a": "1", "b": "2"}}
    assert golden.differences(same, same) == []
    changed = {"machine": machine, "hashes": {"a": "1", "b": "3"}}
    assert golden.differences(same, changed) == ["b: differs"]
    other = {**same, "machine": {**machine, "cores": 4}}
    assert "machines differ" in golden.differences(same, other)[0]
