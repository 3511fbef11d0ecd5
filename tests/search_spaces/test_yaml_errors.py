"""Mistakes in files of specs: every message has the line, the key path, the value, and the cure."""

from __future__ import annotations

import pathlib
import typing

import pytest

from search_spaces import ArchSpec, yaml_io
from search_spaces.blocks import Block
from search_spaces.ops import Activation
from search_spaces.yaml_io import YamlError

HEAD = "schema: 1\nname: net\nresolution: 32\nblocks:\n"
TAIL = "- {kind: pool}\n- {kind: classifier, classes: 10}\n"
NEW_HEAD = "schema: 2\nname: net\nresolution: 32\nbackbone:\n"
NEW_TAIL = (
    "head:\n  kind: classifier\n  blocks:\n  - {kind: pool}\n  - {kind: classifier, classes: 9}\n"
)
OLD_KEYS = "schema, name, resolution, input_channels, blocks, found"
TOP_KEYS = "schema, name, resolution, input_channels, padding, backbone, head, endpoints, found"
KINDS = ", ".join(
    kind.model_fields["kind"].default for kind in typing.get_args(typing.get_args(Block)[0])
)
ACTIVATIONS = ", ".join(typing.get_args(Activation))

BAD_BLOCKS = [  # the block in line 6, message behind "net.yaml:"
    (
        "{kind: conv, filters: 16, kernl: 3}",
        "6: blocks[1].kernl: unknown key; allowed: present, filters, stride, kind, kernel, "
        "activation, norm, bias, "
        "groups; did you mean 'kernel'?",
    ),
    ("{kind: pool, filters: 16}", "6: blocks[1].filters: unknown key; allowed: present, kind"),
    (
        "{kind: uibb, filters: 16}",
        f"6: blocks[1].kind: got 'uibb', expected one of {KINDS}; did you mean 'uib'?",
    ),
    ("{kind: 3}", f"6: blocks[1].kind: got '3', expected one of {KINDS}"),
    ("{filters: 16}", "6: blocks[1]: missing `kind`, which says what this is"),
    (
        "{kind: conv, filters: 16, kernel: 4}",
        "6: blocks[1].kernel: got 4, expected one of 1, 3, 5, 7",
    ),
    (
        "{kind: uib, filters: 16, start_dw: 4}",
        "6: blocks[1].start_dw: got 4, expected one of 0, 3, 5",
    ),
    ("{kind: conv, filters: 16, stride: 3}", "6: blocks[1].stride: got 3, expected one of 1, 2"),
    (
        "{kind: conv, filters: 16, activation: reul}",
        f"6: blocks[1].activation: got 'reul', expected one of {ACTIVATIONS}; did you mean 'relu'?",
    ),
    (
        "{kind: conv, filters: sixteen}",
        "6: blocks[1].filters: got 'sixteen': input should be a valid integer",
    ),
    (
        "{kind: conv, filters: [8, 16]}",
        "6: blocks[1].filters: got [8, 16]: input should be a valid integer",
    ),
    (
        "{kind: conv, filters: 0}",
        "6: blocks[1].filters: got 0: input should be greater than or equal to 1",
    ),
    ("{kind: conv}", "6: blocks[1].filters: missing; this key is required"),
    (
        "{kind: uib, filters: 16, expansion: '4'}",
        "6: blocks[1].expansion: got '4': input should be a valid number",
    ),
    (
        "{kind: uib, filters: 16, expansion: .nan}",
        "6: blocks[1].expansion: got nan: input should be a finite number",
    ),
    (
        "{kind: uib, filters: 0, start_dw: 4}",
        "6: blocks[1].filters: got 0: input should be greater than or equal to 1 (and 1 more)",
    ),
    (
        "{kind: conv, filters: 16, groups: 3}",
        "6: blocks[1].groups: got 3, which must divide the input channels (8)",
    ),
    ("{kind: mqa, heads: 4}", "6: blocks[1].key_dim: missing; this key is required"),
    (
        "{kind: mqa, heads: 4, key_dim: 8, kv_stride: 3}",
        "6: blocks[1].kv_stride: got 3, expected one of 1, 2",
    ),
    (
        "{kind: residual, blocks: [{kind: conv, filters: 16}]}",
        "6: blocks[1].blocks: a residual needs an output like its input, but [32, 32, 8] becomes "
        "[32, 32, 16]",
    ),
    (
        "{kind: residual, blocks: [{kind: conv, filters: 8}, {kind: conv, filters: 8, groups: 5}]}",
        "6: blocks[1].blocks[1].groups: got 5, which must divide the input channels (8)",
    ),
    (
        "{kind: residual, blocks: [{kind: depthwise, kernel: 4}]}",
        "6: blocks[1].blocks[0].kernel: got 4, expected one of 1, 3, 5, 7",
    ),
    ("{kind: conv, filters: 16, filters: 8}", "6: blocks[1].filters: given twice"),
    ("{kind: conv, filters: 16, [a]: 1}", "6: not valid YAML: a key that is a list"),
    (
        "{kind: uib, filters: 16, middle_dw: 0, stride: 2}",
        "6: blocks[1]: stride 2 must always sit on the same depthwise layer, but middle_dw may be "
        "[0] and start_dw "
        "[0]; leave 0 out of middle_dw, or use stride 1",
    ),
    (
        "{kind: uib, filters: {one_of: [16], name: w}}",
        "6: blocks[1].filters.one_of: got [16], expected at least 2 values",
    ),
    (
        "{kind: uib, filters: {one_of: 16, name: w}}",
        "6: blocks[1].filters.one_of: got 16, expected a list",
    ),
    (
        "{kind: uib, filters: {one_of: [16, 24]}}",
        "6: blocks[1].filters.name: missing; this key is required",
    ),
    (
        "{kind: uib, filters: {name: w}}",
        "6: blocks[1].filters.one_of: missing; this key is required",
    ),
    (
        "{kind: uib, filters: {one_of: [16, 24], name: w, nam: v}}",
        "6: blocks[1].filters.nam: unknown key; allowed: one_of, name; did you mean 'name'?",
    ),
    (
        "{kind: uib, filters: 16, start_dw: {one_of: [0, 4], name: k}}",
        "6: blocks[1].start_dw.one_of[1]: got 4, expected one of 0, 3, 5 (and 1 more)",
    ),
    (
        "{kind: uib, filters: 16, present: false}",
        "6: blocks[1].present: got false in a block without a choice; leave the block out",
    ),
    (
        "{kind: uib, filters: 16, present: {one_of: [true, false], name: d}}",
        "6: blocks[1].present: only a block that keeps its input's shape can be left out; got "
        "stride 1, input channels "
        "8, filters 16",
    ),
    (
        "5",
        "6: blocks[1]: got 5: input should be a valid dictionary or object to extract fields from",
    ),
    (
        "{kind: conv, filters: 16, kernel: }",
        "6: blocks[1].kernel: got None, expected one of 1, 3, 5, 7",
    ),
    ("{kind: conv, filters: 16", "7: not valid YAML: expected ',' or '}', but got '{'"),
    (
        "{kind: !!python/name:os.system , filters: 16}",
        "6: not valid YAML: the tag 'tag:yaml.org,2002:python/name:os.system'; expected plain "
        "values without tags",
    ),
]
BAD_FILES = [  # name of the case, text, message behind "net.yaml:"
    ("empty", "", f"1: expected keys and values ({TOP_KEYS}), got None"),
    ("a list", "- a\n", f"1: expected keys and values ({TOP_KEYS}), got ['a']"),
    ("a word", "net\n", f"1: expected keys and values ({TOP_KEYS}), got 'net'"),
    (
        "open bracket",
        "schema: 1\nname: [\n",
        "3: not valid YAML: expected the node content, but found '<stream end>'",
    ),
    (
        "two colons",
        "schema: 1\nname: a: b\n",
        "2: not valid YAML: mapping values are not allowed here",
    ),
    (
        "tab",
        "schema: 1\n\tname: a\n",
        "2: not valid YAML: found character '\\t' that cannot start any token",
    ),
    (
        "two documents",
        HEAD + TAIL + "---\nname: b\n",
        "7: not valid YAML: a second document begins; give one",
    ),
    (
        "control character",
        "name: \x01\n",
        " not valid YAML: unacceptable character #x0001: special characters are not allowed in "
        '"<unicode string>", position 6',
    ),
    (
        "self reference",
        "blocks: &a [*a]\n",
        "1: not valid YAML: an alias that contains itself",
    ),
    ("top key twice", "schema: 1\nname: a\nname: b\n", "3: name: given twice"),
    (
        "misspelt top key",
        (HEAD + TAIL).replace("resolution", "resoluton"),
        f"3: resoluton: unknown key; allowed: {OLD_KEYS}; did you mean 'resolution'? (and 1 more)",
    ),
    (
        "missing top key",
        HEAD.replace("resolution: 32\n", "") + TAIL,
        "1: resolution: missing; this key is required",
    ),
    (
        "other schema",
        (HEAD + TAIL).replace("schema: 1", "schema: 3"),
        "1: schema: got 3, expected one of 1, 2",
    ),
    (
        "blocks in schema 2",
        (HEAD + TAIL).replace("schema: 1", "schema: 2"),
        f"4: blocks: unknown key; allowed: {TOP_KEYS} (and 2 more)",
    ),
    (
        "name with a space",
        (HEAD + TAIL).replace("name: net", "name: my net"),
        "2: name: got 'my net': string should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'",
    ),
    (
        "quoted number",
        (HEAD + TAIL).replace("32", "'32'"),
        "3: resolution: got '32': input should be a valid integer",
    ),
    ("no blocks", HEAD, "4: blocks: got None, expected a list"),
    (
        "empty blocks",
        HEAD.replace("blocks:", "blocks: []"),
        "4: blocks: the last block must be a classifier",
    ),
    (
        "classifier missing",
        HEAD + "- {kind: pool}\n",
        "4: blocks: the last block must be a classifier",
    ),
    (
        "pool missing",
        HEAD + "- {kind: conv, filters: 8}\n- {kind: classifier, classes: 10}\n",
        "6: blocks[1]: the classifier needs a pooled input; put a pool before it",
    ),
    (
        "classifier in between",
        HEAD + TAIL + "- {kind: pool}\n",
        "4: blocks: the last block must be a classifier",
    ),
    ("two classifiers", HEAD + TAIL + TAIL, "6: blocks[1]: a classifier must be the last block"),
    (
        "stride at 1 x 1",
        HEAD.replace("32", "2")
        + "- {kind: conv, filters: 8, stride: 2}\n- kind: conv\n  filters: 8\n  stride: 2\n"
        + TAIL,
        "8: blocks[1].stride: got 2, but the input is already 1 x 1; use stride 1 or a larger "
        "resolution",
    ),
    (
        "a key in a block of several lines",
        HEAD + "- kind: conv\n  filters: 8\n  kernel: 4\n" + TAIL,
        "7: blocks[0].kernel: got 4, expected one of 1, 3, 5, 7",
    ),
    (
        "incomplete provenance",
        HEAD + TAIL + "found:\n  stage: fine\n",
        "7: found.space: missing; this key is required (and 8 more)",
    ),
    (
        "unknown key deep in the provenance",
        HEAD
        + TAIL
        + "found: {stage: fine, space: a, seed: 1, config_hash: a, dataset_hash: b, quality: {}, "
        + "decisions: {}, versions: {}, seconds: 1,\n"
        + "  cost: {macs: {value: 1, target: 2, unit: M, most_likely: 1, unti: M}}}\n",
        "8: found.cost.macs.unti: unknown key; allowed: value, target, unit, most_likely; did you "
        "mean 'unit'?",
    ),
]


def message_of(text: str) -> str:
    with pytest.raises(YamlError) as caught:
        yaml_io.parse_model(text, ArchSpec, "net.yaml")
    return str(caught.value)


@pytest.mark.parametrize(("block", "message"), BAD_BLOCKS, ids=[row[0] for row in BAD_BLOCKS])
def test_a_damaged_block(block: str, message: str) -> None:
    got = message_of(f"{HEAD}- {{kind: conv, filters: 8}}\n- {block}\n{TAIL}")
    assert got == f"net.yaml:{message}"


@pytest.mark.parametrize(
    ("block", "message"),
    [row for row in BAD_BLOCKS if row[1].startswith("6: blocks[1]")],
)
def test_a_damaged_block_of_a_backbone(block: str, message: str) -> None:
    got = message_of(f"{NEW_HEAD}- {{kind: conv, filters: 8}}\n- {block}\n{NEW_TAIL}")
    assert got == f"net.yaml:{message.replace('blocks[1]', 'backbone[1]', 1)}"


@pytest.mark.parametrize(
    ("text", "message"),
    [row[1:] for row in BAD_FILES],
    ids=[row[0] for row in BAD_FILES],
)
def test_a_damaged_file(text: str, message: str) -> None:
    assert message_of(text) == f"net.yaml:{message}"


def test_a_missing_file_names_its_neighbour(tmp_path: pathlib.Path) -> None:
    (tmp_path / "conv_s.yaml").write_text(HEAD + TAIL)
    for name, hint in [
        ("conv_x.yaml", "; did you mean conv_s.yaml?"),
        ("zzz", ""),
        ("none/conv_s.yaml", ""),
    ]:
        with pytest.raises(YamlError) as caught:
            yaml_io.load_model(tmp_path / name, ArchSpec)
        assert str(caught.value) == f"{tmp_path / name}: no such file{hint}"


def test_an_unreadable_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    for path, reason in [
        (tmp_path, "is a folder"),
        (tmp_path / "latin.yaml", "not UTF-8 text (byte 9 is wrong)"),
    ]:
        with pytest.raises(YamlError) as caught:
            yaml_io.load_model(path, ArchSpec)
        assert str(caught.value).startswith(f"{path}: cannot be read: ")
        assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_validate_without_lines() -> None:
    with pytest.raises(YamlError) as caught:
        yaml_io.validate(
            {"name": "net", "resolution": 32, "blocks": [{"kind": "conv"}]}, ArchSpec, "here"
        )
    assert str(caught.value) == "here: blocks[0].filters: missing; this key is required"
