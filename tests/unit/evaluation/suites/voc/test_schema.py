"""What the schema lets a model write, judged by a validator that is not ours."""

import json

import pytest
from jsonschema import Draft202012Validator

from evaluation.suites.voc.schema import build_response_format, build_segment_schema, describe_decoding
from voc.config.night import VocSuiteConfig
from voc.labels.taxonomy import Leaf, Taxonomy
from voc.prompts import render_answer
from voc.records.records import Segment
from voc.responses import KEYS


def make_taxonomy(num):
    return Taxonomy(
        tuple(Leaf((f"a{i % 2}", f"b{i % 4}", f"c{i % 8}", f"leaf {i % 5}-{i // 40}-{i % 8}"), "x") for i in range(num))
    )


def is_allowed(taxonomy, answer):
    schema = build_response_format(taxonomy)["json_schema"]["schema"]
    return Draft202012Validator(schema).is_valid(json.loads(answer))


@pytest.mark.parametrize("num", [6, 400])
def test_every_leaf_can_be_written(num):
    taxonomy = make_taxonomy(num)
    assert is_allowed(taxonomy, render_answer([Segment("x", leaf.path, "any") for leaf in taxonomy.leaves]))
    assert is_allowed(taxonomy, "[]")


@pytest.mark.parametrize("num", [6, 400])
def test_no_path_can_mix_names_of_different_branches(num):
    taxonomy = make_taxonomy(num)
    names = [sorted({leaf.path[depth] for leaf in taxonomy.leaves}) for depth in range(4)]
    mixed = [(a, b, c, d) for a in names[0] for b in names[1] for c in names[2][:3] for d in names[3][:40]]
    allowed = {path for path in mixed if is_allowed(taxonomy, render_answer([Segment("x", path, "any")]))}
    assert allowed == {path for path in mixed if path in taxonomy.paths}
    assert len(allowed) < len(mixed)


def test_there_is_one_alternative_per_parent_of_leaves():
    assert len(build_segment_schema(make_taxonomy(400))["anyOf"]) == 8


@pytest.mark.parametrize(
    "change",
    [{"L4": "new"}, {"emotion": None}, {"more": "x"}, {"content": 3}],
    ids=["leaf", "emotion", "key", "content"],
)
def test_other_objects_cannot_be_written(change):
    taxonomy = make_taxonomy(6)
    segment = {**Segment("x", taxonomy.leaves[0].path, "sad").to_json(), **change}
    assert not is_allowed(taxonomy, json.dumps([segment]))


def test_every_key_of_the_contract_is_required_in_order():
    for option in build_segment_schema(make_taxonomy(300))["anyOf"]:
        assert list(option["properties"]) == option["required"] == list(KEYS)


def test_a_row_declares_its_decoding():
    taxonomy = make_taxonomy(6)
    free = describe_decoding(VocSuiteConfig(), taxonomy)
    bound = describe_decoding(VocSuiteConfig(structured_output=True), taxonomy)
    assert (free["structured_output"], free["schema_hash"]) == (False, None)
    assert bound["structured_output"]
    assert (
        bound["schema_hash"]
        != describe_decoding(VocSuiteConfig(structured_output=True), make_taxonomy(7))["schema_hash"]
    )
