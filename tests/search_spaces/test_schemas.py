"""The two forms of a spec: one chain of blocks (schema 1), backbone and head (schema 2)."""

from __future__ import annotations

import pathlib

import pytest

import search_spaces
from search_spaces import ArchSpec, OneOf, SearchSpace, freeze, yaml_io
from search_spaces.blocks import MQA, UIB, BaseBlock, Classifier, Conv, PatchConv, Pool
from search_spaces.heads import ClassifierHead, split
from search_spaces.yaml_io import YamlError

STEM = "- {kind: conv, filters: 8}\n"
HEAD = "schema: 2\nname: net\nresolution: 32\nbackbone:\n"
TAIL = (
    "head:\n  kind: classifier\n  blocks:\n  - {kind: pool}\n  - {kind: classifier, classes: 9}\n"
)
OLD = "schema: 1\nname: net\nresolution: 32\nblocks:\n"
OLD_TAIL = "- {kind: pool}\n- {kind: classifier, classes: 9}\n"
OLD_KEYS = "schema, name, resolution, input_channels, blocks, found"

DAMAGED = [  # of schema 2: name of the case, text, message behind "net.yaml:"
    (
        "no head",
        HEAD + STEM,
        "1: head: missing; this key is required",
    ),
    (
        "no backbone",
        HEAD.replace("backbone:\n", "") + TAIL,
        "1: backbone: missing; this key is required",
    ),
    ("empty backbone", HEAD + TAIL, "4: backbone: got None, expected a list"),
    (
        "schema 1 with the keys of schema 2",
        (HEAD + STEM + TAIL).replace("schema: 2", "schema: 1"),
        f"4: backbone: unknown key; allowed: {OLD_KEYS} (and 2 more)",
    ),
    (
        "another kind of head",
        (HEAD + STEM + TAIL).replace("kind: cl", "kind: c", 1),
        "7: head.kind: got 'cassifier', expected one of classifier; did you mean 'classifier'?",
    ),
    (
        "unknown key in the head",
        HEAD + STEM + TAIL + "  classes: 3\n",
        "11: head.classes: unknown key; allowed: kind, blocks",
    ),
    (
        "damaged block in the head",
        HEAD + STEM + TAIL.replace("s: 9", "s: 1"),
        "10: head.blocks[1].classes: got 1: input should be greater than or equal to 2",
    ),
    (
        "misspelt key in a block of the head",
        HEAD + STEM + TAIL.replace("classes:", "clases:"),
        "10: head.blocks[1].clases: unknown key; allowed: present, kind, classes, dropout; did you "
        "mean 'classes'? (and 1 more)",
    ),
    (
        "head without a pool",
        HEAD + STEM + TAIL.replace("  - {kind: pool}\n", ""),
        "6: head: the first block of a classifier head must be a pool, got classifier; move what "
        "comes before the pool to the backbone",
    ),
    (
        "head without a classifier",
        HEAD + STEM + TAIL[: TAIL.rindex("  -")],
        "6: head: the last block of a classifier head must be a classifier",
    ),
    (
        "pool in the backbone",
        HEAD + "- {kind: conv, filters: 8}\n- {kind: pool}\n" + TAIL,
        "6: backbone[1]: a pool belongs to the head; move it to head.blocks",
    ),
    (
        "classifier in the backbone",
        HEAD + "- {kind: classifier, classes: 3}\n" + TAIL,
        "5: backbone[0]: a classifier must be the last block",
    ),
    (
        "stride behind the pool",
        HEAD
        + STEM
        + TAIL.replace("- {kind: cl", "- {kind: conv, filters: 8, stride: 2}\n  - {kind: cl"),
        "10: head.blocks[1].stride: got 2, but the input is already 1 x 1; use stride 1 or a "
        "larger resolution",
    ),
    (
        "endpoint behind the backbone",
        HEAD + STEM + TAIL + "endpoints: {c1: 0,\n  c2: 1}\n",
        "12: endpoints.c2: got 1, expected the index of a backbone block, 0 to 0",
    ),
    (
        "endpoint before the backbone",
        HEAD + STEM + TAIL + "endpoints: {c1: -1}\n",
        "11: endpoints.c1: got -1: input should be greater than or equal to 0",
    ),
]


def read(text: str) -> ArchSpec:
    return yaml_io.parse_model(text, ArchSpec, "net.yaml")


def spec(*blocks: BaseBlock, resolution: int = 32, **fields: object) -> ArchSpec:
    head = ClassifierHead(blocks=(Pool(), Classifier(classes=4)))
    return ArchSpec.model_validate(
        {"name": "net", "resolution": resolution, "backbone": blocks, "head": head, **fields}
    )


@pytest.mark.parametrize(
    ("text", "message"), [row[1:] for row in DAMAGED], ids=[row[0] for row in DAMAGED]
)
def test_a_damaged_file_of_schema_2(text: str, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        read(text)
    assert str(caught.value) == f"net.yaml:{message}"


@pytest.mark.parametrize("first", ["schema: 1\n", ""])
def test_a_file_of_schema_1_is_the_network_of_schema_2(first: str) -> None:
    old = read((OLD + STEM + OLD_TAIL).replace("schema: 1\n", first))
    new = read(HEAD + STEM + TAIL)
    assert old == new and hash(old) == hash(new) and old.schema_version == 2
    assert new.backbone == (Conv(filters=8),)
    assert new.head == ClassifierHead(blocks=(Pool(), Classifier(classes=9)))
    assert new.blocks == (*new.backbone, *new.head.blocks) and new.classes == 9
    assert yaml_io.to_yaml(old) == yaml_io.to_yaml(new) == HEAD + STEM + TAIL


def test_the_head_starts_with_the_first_pool() -> None:
    blocks = (Conv(filters=8), Pool(), Conv(filters=16, kernel=1), Classifier(classes=3))
    assert split(blocks) == (blocks[:1], ClassifierHead(blocks=blocks[1:]))
    assert split(blocks[1:]) == ((), ClassifierHead(blocks=blocks[1:]))


@pytest.mark.parametrize("path", sorted(pathlib.Path("experiments/found").glob("*.yaml")), ids=str)
def test_found_architectures_of_schema_1_are_read(path: pathlib.Path) -> None:
    assert path.read_text().startswith("schema: 1\n")
    network = search_spaces.load(path)
    assert network.found and network.is_frozen
    assert network.head.classes == network.classes and network.blocks[-1] is network.head.classifier


DIGESTS = {  # as of the version that knew schema 1 only
    "mnv4-conv-s": "d2a9963540cb3ec9",
    "mnv4-hybrid-m": "28cd722946cc5950",
    "convnext-t": "4cecaed64bd5311c",
}
SPACE_DIGESTS = {
    "coarse": "b41d3799b23b72b5",
    "fine": "91cc6369a6a92436",
    "hybrid": "6d9094647f4fca73",
    "one-stage": "50d449b1d42a48ad",
}


class TestDigest:
    @pytest.mark.parametrize("name", DIGESTS)
    def test_of_a_network_is_that_of_older_versions(self, name: str) -> None:
        assert search_spaces.zoo(name).digest() == DIGESTS[name]

    @pytest.mark.parametrize("stage", SPACE_DIGESTS)
    def test_of_a_space_is_that_of_older_versions(self, stage: str, small_32: ArchSpec) -> None:
        """Run records of older versions hold it, and are compared with it when a run resumes."""
        space = search_spaces.STAGES[stage].space(small_32)
        assert space.spec.digest() == SPACE_DIGESTS[stage]

    def test_with_provenance_is_that_of_older_versions(self) -> None:
        found = search_spaces.load("experiments/found/quickstart-fine.yaml")
        assert found.digest() == "49450b136c8da13e"
        assert found.model_copy(update={"found": None}).digest() != found.digest()

    def test_depends_on_endpoints(self, small_32: ArchSpec) -> None:
        digests = {
            small_32.model_copy(update={"endpoints": endpoints}).digest()
            for endpoints in (None, {"c3": 1}, {"c3": 2}, {"c4": 2})
        }
        assert len(digests) == 4


class TestEndpoints:
    @pytest.mark.parametrize(
        ("blocks", "expected"),
        [
            ((Conv(filters=8, stride=2), UIB(filters=8), UIB(filters=16, stride=2)), [1, 1, 2, 2]),
            ((Conv(filters=8), Conv(filters=8, stride=2)), [0, 0, 1, 1]),
            ((PatchConv(filters=8, size=4), UIB(filters=8)), [2, 1]),
            ((), []),
        ],
    )
    def test_by_default_the_last_block_of_each_stride(
        self, blocks: tuple[BaseBlock, ...], expected: list[int]
    ) -> None:
        """Pairs of k and the index of the last block whose output is 2^k times smaller."""
        pairs = zip(expected[::2], expected[1::2], strict=True)
        assert spec(*blocks).named_endpoints == {f"c{k}": index for k, index in pairs}

    def test_of_conv_s(self) -> None:
        network = search_spaces.zoo("mnv4-conv-s")
        assert network.named_endpoints == {"c1": 0, "c2": 1, "c3": 2, "c4": 8, "c5": 15}
        sides = [height for _, _, _, (height, _) in network.walk()]
        behind = {at: sides[index + 1] for at, index in network.named_endpoints.items()}
        assert behind == {"c1": 112, "c2": 56, "c3": 28, "c4": 14, "c5": 7}

    def test_of_a_users_own_are_kept(self, tmp_path: pathlib.Path) -> None:
        network = spec(Conv(filters=8, stride=2), UIB(filters=8), endpoints={"stem": 0, "end": 1})
        assert network.named_endpoints == {"stem": 0, "end": 1}
        search_spaces.dump(network, tmp_path / "net.yaml")
        assert search_spaces.load(tmp_path / "net.yaml") == network
        assert hash(network) == hash(network.model_copy())

    @pytest.mark.parametrize(("option", "end"), [(0, 2), (1, 1)])
    def test_behind_an_absent_block_are_those_of_the_block_before(
        self, option: int, end: int
    ) -> None:
        optional = UIB(filters=8, present=OneOf(options=(True, False), name="depth"))
        blocks = (Conv(filters=8), UIB(filters=8), optional, Conv(filters=16, stride=2))
        space = SearchSpace(spec(*blocks, endpoints={"a": 0, "b": 2, "c": 3}))
        assert freeze(space, [option]).endpoints == {"a": 0, "b": end, "c": end + 1}
        assert freeze(SearchSpace(spec(*blocks)), [option]).endpoints is None

    def test_move_behind_the_attention_of_a_hybrid(self) -> None:
        base = spec(
            Conv(filters=8, stride=2), UIB(filters=8), UIB(filters=16, stride=2), UIB(filters=16)
        ).model_copy(update={"endpoints": {"c1": 1, "c2": 3}})
        space = search_spaces.hybrid_space(base)
        kinds = [block.kind for block in space.spec.backbone]
        assert kinds == ["conv", "uib", "mqa", "uib", "uib", "mqa"]
        assert space.spec.endpoints == {"c1": 2, "c2": 5}
        frozen = freeze(space, [0] * len(space.decisions))
        assert frozen.endpoints == base.endpoints and frozen.backbone == base.backbone
        attended = freeze(space, [1] + [0] * (len(space.decisions) - 1))
        assert isinstance(attended.backbone[1], MQA) and attended.endpoints == base.endpoints


class TestWithBlocks:
    def test_replaces_the_chain_and_drops_the_provenance(self) -> None:
        found = search_spaces.load("experiments/found/quickstart-fine.yaml")
        longer = found.with_blocks([found.blocks[0], *found.blocks], name="longer")
        assert longer.blocks == (found.blocks[0], *found.blocks) and longer.head == found.head
        assert (longer.name, longer.found, longer.resolution) == ("longer", None, found.resolution)
        assert found.with_blocks(found.blocks, found=found.found) == found

    def test_checks_the_blocks_again(self, small_32: ArchSpec) -> None:
        block = small_32.blocks[0]
        damaged = block.model_copy(update={"filters": 0})
        with pytest.raises(ValueError, match="^Conv: filters: got 0: input should be greater"):
            small_32.with_blocks([damaged, *small_32.blocks[1:]])
        for blocks, message in [
            ((), "^blocks: the last block must be a classifier$"),
            ([small_32.blocks[-1]], r"^blocks\[0\]: the classifier needs a pooled input"),
            (
                [*[Conv(filters=8, stride=2)] * 6, *small_32.head.blocks],
                r"^ArchSpec: backbone\[5\].stride: got 2, but the input is already 1 x 1",
            ),
        ]:
            with pytest.raises(ValueError, match=message):
                small_32.with_blocks(blocks)

    def test_is_named_by_a_copy_that_would_ignore_the_blocks(self, small_32: ArchSpec) -> None:
        message = r"^model_copy: blocks cannot be updated; use with_blocks\(blocks\)$"
        with pytest.raises(ValueError, match=message):
            small_32.model_copy(update={"blocks": ()})


def test_padding_is_part_of_a_network() -> None:
    """A spec without the key keeps the hash that it had before there was one."""
    spec = search_spaces.base("small-32")
    symmetric = yaml_io.parse_model(
        yaml_io.to_yaml(spec).replace("backbone:", "padding: symmetric\nbackbone:"), ArchSpec, "net"
    )
    assert symmetric.padding == "symmetric" and symmetric.digest() != spec.digest()
    assert "padding" not in yaml_io.to_yaml(spec)
    with pytest.raises(YamlError, match="padding: got 'valid', expected one of same, symmetric"):
        text = yaml_io.to_yaml(symmetric).replace("symmetric", "valid")
        yaml_io.parse_model(text, ArchSpec, "net")
