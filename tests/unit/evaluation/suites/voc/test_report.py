"""The labels one by one: those missed most, those invented, all of the test set."""

from evaluation.suites.voc.report import build_label_views, list_invented, list_missed


def _label(name, support, hits, *, predicted=None, bucket="tail", training=1):
    return {
        "label": ["A", "B", "C", name],
        "support": support,
        "predicted": hits if predicted is None else predicted,
        "true_positive": hits,
        "f1": 0.5,
        "training_support": training,
        "bucket": bucket,
    }


def test_the_labels_missed_most_come_first_with_their_interval():
    missed = list_missed([_label("x", 5, 4), _label("y", 9, 2), _label("z", 3, 3), _label("w", 1, 0, training=0)], 0.95)
    assert [(row["label"][3], row["missed"]) for row in missed] == [("y", 7), ("w", 1), ("x", 1)]
    assert missed[0]["recall"]["low"] < missed[0]["recall"]["value"] == 2 / 9 < missed[0]["recall"]["high"]
    assert missed[0]["recall"]["n"] == 9


def test_invented_labels_are_counted_apart_from_those_of_the_test_set():
    rows = [_label("x", 5, 4), *(_label(f"new {i}", 0, 0, predicted=i, bucket="invented") for i in range(1, 6))]
    views = build_label_views({"m": {"voc": {"labels": rows}}, "old": {"voc": {}}}, 0.95)
    assert [row["label"][3] for row in views["all"]] == ["x"]
    assert views["all"][0]["models"].keys() == {"m"}
    assert views["missed"].keys() == {"m"}
    assert list_invented(rows)["count"] == 5
    assert [entry["predicted"] for entry in views["invented"]["m"]["most"]] == [5, 4, 3]


def test_the_label_table_goes_from_the_head_to_the_tail():
    rows = [_label(f"l{n}", 1, 0, training=n) for n in (3, 9, 1)]
    found = build_label_views({"m": {"voc": {"labels": rows}}}, 0.95)["all"]
    assert [row["training_support"] for row in found] == [9, 3, 1]
