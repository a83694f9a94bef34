"""Evaluation of every model of a run: serve it, ask it, gather the answers, decide, report, promote.

Each command is `python -m evaluation <command> --store-uri URI --run-id ID ...`; they meet only in the store. In come
models.json and the run's data; out go, in pipeline order: an endpoint (`serving`, asked through `clients`), finished shards
(`shards`, `suites`), results and items per model (`gather`, `items`; their types in `results`), the decision and the
promotion (`decision`), the report (`report`). `intervals` is below all of them. To add a suite, see `suites`; a limit on a
figure is a line of `decision.metrics`.
"""
