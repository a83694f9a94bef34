import pytest

from benchmarks.evaluation.score_peer import binarize, score_lean, score_loop
from benchmarks.evaluation.score_rows import NUM_LEAVES, make_rows
from benchmarks.evaluation.score_vs_sklearn import find_difference, format_summary, summarise
from evaluation.intervals import Bootstrap
from evaluation.suites.voc.summary import BUCKET_NAMES, assign_buckets, measure_labels

MIB = 1 << 20


def make_side(wall_s, **more):
    memory = {"peak_rss_bytes": 9 * MIB, "input_pss_bytes": MIB}
    return {"wall_s": wall_s, "cpu_s": 1.0, **memory, "point": 0.5, "resampled": [], **more}


def test_the_peers_total_is_scaled_from_its_mean_resample_and_says_so():
    peer = make_side(0, fixed_s=10.0, resample_s=[1.0, 3.0], point=0.25)
    summary = summarise([make_side(2.0), make_side(4.0), make_side(9.0)], {"loop": peer, "lean": peer}, 100)
    assert summary["scikit_learn"]["loop"]["scaled_total_s"] == 210
    assert summary["scikit_learn"]["loop"]["ratio"] == 210 / 4
    assert summary["scikit_learn"]["loop"]["largest_difference"] == 0.25
    assert (summary["is_below_60_s"], summary["is_20x"]) == (True, True)
    assert "SCALED from 2 resamples" in format_summary(summary)


def test_different_figures_are_never_compared():
    assert find_difference({"a": [1, 2.5]}, {"a": [1, 2]}) == 0.5
    for other in ({"a": [1]}, {"b": [1, 2]}, {"a": None}):
        with pytest.raises(ValueError, match="different figures"):
            find_difference({"a": [1, 2]}, other)


def test_both_ways_of_the_peer_compute_what_we_do():
    rows = make_rows(300, 1)
    assert len(rows.taxonomy.leaves) == NUM_LEAVES
    assert all(rows.gold)
    buckets = assign_buckets(rows.taxonomy, rows.training_support)
    levels, classes = binarize(rows)
    places = {name: [i for i, c in enumerate(classes) if buckets.get(c) == name] for name in BUCKET_NAMES}
    loop, lean = score_loop(levels, places), score_lean(levels, places)
    assert find_difference(loop, lean) < 1e-12
    ours = measure_labels(rows.predicted, rows.gold, buckets, rows.training_support, Bootstrap(2, 0.9, 0))
    assert list(ours["levels"]["L2"]["macro"].values()) == pytest.approx(loop["L2"]["macro"])
    assert [ours["hierarchical"][name] for name in ("precision", "recall", "f1")] == pytest.approx(loop["hierarchical"])
