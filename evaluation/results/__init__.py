"""What the stages of the evaluation hand to each other, as types with the unit and the meaning of every figure.

In pipeline order: `lines` (what a shard writes, a line per item), `gathered` (`results.json` of one model), `decided`
(`decision.json` and `promotion.json`); `figures` has what they share, `describe` makes docs/results.md of all of them.

Who writes a file returns its type, who reads one gets it from `read_results`, `read_decision` or `read_promotion`. To add a
figure: add its key with unit and meaning here, let the producer return it, and run `make docs`. A key that may be missing,
because older files do not have it, is `NotRequired`; a figure that was not measured is null.
"""
