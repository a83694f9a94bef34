from evaluation.voc_schema import MAX_LEAVES_AS_PATHS, build_response_format, build_segment_schema
from voc.responses import KEYS
from voc.taxonomy import Leaf, Taxonomy


def make_taxonomy(num):
    return Taxonomy(tuple(Leaf((f"a{i % 2}", f"b{i % 3}", f"c{i % 5}", f"d{i}"), "x") for i in range(num)))


def test_a_small_taxonomy_allows_whole_paths_only():
    schema = build_segment_schema(make_taxonomy(6))
    paths = [[option["properties"][key]["enum"] for key in KEYS[1:5]] for option in schema["anyOf"]]
    assert paths[4] == [["a0"], ["b1"], ["c4"], ["d4"]]
    assert len(paths) == 6


def test_a_large_taxonomy_restricts_each_level_to_its_names():
    schema = build_segment_schema(make_taxonomy(MAX_LEAVES_AS_PATHS + 1))
    assert schema["properties"]["L1"]["enum"] == ["a0", "a1"]
    assert len(schema["properties"]["L4"]["enum"]) == MAX_LEAVES_AS_PATHS + 1


def test_every_key_of_the_contract_is_required_in_order():
    schema = build_segment_schema(make_taxonomy(300))
    assert list(schema["properties"]) == schema["required"] == list(KEYS)
    assert schema["additionalProperties"] is False


def test_an_answer_is_a_list_of_segments():
    schema = build_response_format(make_taxonomy(2))["json_schema"]["schema"]
    assert schema["type"] == "array"
