from __future__ import annotations

import numpy as np
import pytest

from corpus.comparison import near_duplicates
from corpus.comparison.near_duplicates import choose_banding, cluster_texts, join_clusters, match_texts
from corpus.comparison.ngrams import WordHasher
from corpus.comparison.row_matches import digest_texts


def make_digests(texts: list[str], seed: int = 7) -> np.ndarray:
    return digest_texts([text.encode().split() for text in texts], WordHasher(), num_perm=128, seed=seed)


def make_words(start: int, count: int) -> list[str]:
    return [f"w{i}" for i in range(start, start + count)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_find_nearly_all_pairs_at_the_threshold(threshold: float) -> None:
    banding = choose_banding(threshold)
    assert banding.num_bands * banding.band_rows <= 128
    assert 1 - (1 - threshold**banding.band_rows) ** banding.num_bands >= 0.99


def test_a_threshold_that_no_bands_reach_gets_the_narrowest() -> None:
    assert choose_banding(0.001).band_rows == 1


def test_the_share_of_equal_values_estimates_the_similarity_of_word_3_grams() -> None:
    long, errors = make_words(0, 62), []
    for kept in range(10, 60, 5):
        digests = make_digests([" ".join(long), " ".join(long[: kept + 2])])
        errors.append((digests[0] == digests[1]).mean() - kept / 60)
    assert abs(np.mean(errors)) < 0.03
    assert np.max(np.abs(errors)) < 0.15


def test_near_texts_share_a_cluster_and_others_do_not() -> None:
    base = make_words(0, 60)
    texts = [" ".join(base), " ".join([*base, "more"]), " ".join(make_words(100, 60)), " ".join(base[:20])]
    assert cluster_texts(make_digests(texts), 0.8).matches.tolist() == [0, 0, 2, 3]


def test_texts_of_one_or_two_words_are_near_only_to_themselves() -> None:
    texts = ["good", "good camera", "bad camera", "good camera", "camera good"]
    assert cluster_texts(make_digests(texts), 0.8).matches.tolist() == [0, 1, 2, 1, 4]


def test_all_members_of_a_small_bucket_are_compared_though_the_first_is_unlike() -> None:
    digests = np.tile(np.arange(128, dtype=np.uint32), (4, 1))
    digests[0, 8:] += 1000
    digests[1, 8:] += 2000
    digests[2:, 8:] += 3000
    assert cluster_texts(digests, 0.8).matches.tolist() == [0, 1, 2, 2]


def test_a_large_bucket_costs_a_bounded_number_of_comparisons_and_what_is_left_is_counted() -> None:
    digests = np.arange(500, dtype=np.uint32)[:, None] * 1000 + np.arange(128, dtype=np.uint32)
    digests[:, :6] = 1
    found = cluster_texts(digests, 0.8)
    assert found.matches.tolist() == list(range(500))
    assert found.num_compared <= 500 * 16
    assert found.num_capped == 500 - 16


def test_many_copies_of_one_template_are_compared_once_each() -> None:
    base = make_words(0, 80)
    texts = [" ".join([*base, f"number{i}"]) for i in range(3000)]
    found = cluster_texts(make_digests(texts), 0.8)
    assert set(found.matches.tolist()) == {0}
    assert found.num_compared < 3 * len(texts)
    assert found.num_capped == 0


def test_a_text_is_matched_with_a_reference_that_it_is_near_to() -> None:
    base, other = make_words(0, 60), make_words(100, 60)
    texts = make_digests([" ".join(make_words(200, 60)), " ".join([*other, "more"]), " ".join(base)])
    references = make_digests([" ".join(base), " ".join(other)])
    assert match_texts(texts, references, 0.8).matches.tolist() == [-1, 1, 0]


def test_nothing_is_near_in_empty_data() -> None:
    nothing = np.zeros((0, 128), dtype=np.uint32)
    assert cluster_texts(nothing, 0.8).matches.tolist() == []
    assert match_texts(nothing, make_digests(["a b c"]), 0.8).matches.tolist() == []
    assert match_texts(make_digests(["a b c"]), nothing, 0.8).matches.tolist() == [-1]


def test_references_above_the_cap_of_a_bucket_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_MAX_LEADERS", 2)
    references = np.arange(5, dtype=np.uint32)[:, None] * 1000 + np.arange(128, dtype=np.uint32)
    references[:, :6] = 1
    texts = references[:1] + np.uint32(500)
    texts[:, :6] = 1
    found = match_texts(texts, references, 0.8)
    assert (found.matches.tolist(), found.num_compared, found.num_capped) == ([-1], 2, 1)


def test_clusters_are_named_by_their_smallest_text_however_they_are_joined() -> None:
    pairs = np.array([(5, 4), (3, 5), (2, 3), (7, 6), (1, 7)])
    for order in (pairs, pairs[::-1], pairs[:, ::-1]):
        roots = np.arange(8)
        for left, right in order:
            join_clusters(roots, np.array([left]), np.array([right]))
        assert roots.tolist() == [0, 1, 2, 2, 2, 2, 1, 1]
        at_once = np.arange(8)
        join_clusters(at_once, order[:, 0], order[:, 1])
        assert at_once.tolist() == roots.tolist()


def test_seeds_give_different_digests_and_one_seed_the_same() -> None:
    texts = [" ".join(make_words(0, 30))]
    assert np.array_equal(make_digests(texts), make_digests(texts))
    assert not np.array_equal(make_digests(texts), make_digests(texts, seed=8))
