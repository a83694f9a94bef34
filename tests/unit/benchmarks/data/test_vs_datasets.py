from benchmarks.data.vs_datasets import format_table, summarise

MIB = 1 << 20
COUNTS = {"refused": {"schema": 2}, "efficiency": 0.98}


def make_run(rows, wall_s, pss_mib, **more):
    memory = {f"{part}_bytes": pss_mib * MIB for part in ("pss", "anon", "anon_shmem", "file")}
    shared = {
        "rows": rows,
        "wall_s": wall_s,
        "own_wall_s": wall_s - 1,
        "cpu_s": wall_s,
        "rows_per_s": rows / wall_s,
        "memory": memory,
    }
    return {**shared, "refused": {"schema": 2}, "tokens": 10 * rows, "efficiency": 0.98, **more}


def test_a_ratio_is_the_median_over_the_pairs_that_ran_one_after_the_other():
    peer = [make_run(100, wall_s, 500) for wall_s in (10, 40, 12)]
    ours = [make_run(100, wall_s, 250) for wall_s in (5, 10, 4)]  # the second pair met a slow minute
    sizes = summarise({"100": {"peer": peer, "ours": ours}})["sizes"]
    assert sizes["100"]["ratios"]["ours"]["rows_per_s"] == 3.0
    assert sizes["100"]["ratios"]["ours"]["pss"] == 0.5
    assert sizes["100"]["peer"]["wall_s"] == 12
    assert sizes["100"]["peer"]["wall_s_range"] == [10, 40]


def test_each_of_our_ways_is_compared_with_the_peer():
    found = {
        "100": {side: [make_run(100, wall_s, 500)] for side, wall_s in (("peer", 10), ("ours", 5), ("ours_on_ray", 8))}
    }
    ratios = summarise(found)["sizes"]["100"]["ratios"]
    assert {side: values["rows_per_s"] for side, values in ratios.items()} == {"ours": 2.0, "ours_on_ray": 1.25}


def test_counts_in_which_the_sides_differ_are_listed_and_equal_ones_are_not():
    found = {"100": {"peer": [make_run(100, 10, 500)], "ours": [make_run(100, 10, 500, tokens=990)]}}
    assert summarise(found)["sizes"]["100"]["differences"] == {"tokens": [1000, 990]}


def test_the_slope_of_memory_is_per_million_rows_and_needs_two_sizes():
    found = {"1000": {"ours": [make_run(1000, 10, 300)]}, "3000": {"ours": [make_run(3000, 10, 302)]}}
    slopes = summarise(found)["memory_slope_mib_per_million_rows"]
    assert slopes == {"ours": {"pss": 1000.0, "anon_shmem": 1000.0}}


def test_a_size_that_only_one_side_ran_has_a_row_and_no_ratio():
    summary = summarise({"100": {"ours": [make_run(100, 10, 500)]}})
    assert "ratios" not in summary["sizes"]["100"]
    assert len(format_table(summary).splitlines()) == 3
