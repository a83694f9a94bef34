"""The suites that every model is measured with, one folder each: `registry` names them, `protocol` says what a suite is.

In comes a configuration, then an endpoint, then the lines of finished shards; out go planned suites (the DAG's tasks), lines,
keys of `results.json`, rows of `items.parquet`, gates of the decision and a part of the report. In pipeline order: `voc`,
`mmlu`, and `lm_eval`, on which `mmlu` stands.

To add a suite: a folder with a class of `protocol.Suite` (what it does not need it inherits), its command, and one line in
`registry.SUITES`. Nothing else outside this folder is touched; `tests/unit/evaluation/test_toy_suite.py` does it.
"""
