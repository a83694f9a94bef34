"""Comparison: which texts are there more than once, in which labels they differ, and what of the tests is in the training data.

Comes in: the part files of all sources, the test set among them. Goes out: `DuplicateFindings` (which rows are dropped and why,
who is near to whom) and `ContaminationFindings` (what each source shares with each evaluation set).

- `ngrams`: texts normalised, cut into words, hashed as n-grams
- `near_duplicates`: clusters of MinHash digests
- `row_matches`: hashes and digests of every part, and which rows repeat which
- `duplicates`: what is found, dropped and refused because of it
- `contamination`: the sources against the evaluation sets

One more evaluation set is one line in `contamination.read_evaluation_sets`.
"""
