"""Evaluation of every model of a run: serve it, ask it, gather the answers, decide, report, promote.

Each command is `python -m evaluation <command> --store-uri URI --run-id ID ...`; they meet only in the store.
"""
