"""Mixing: from the usable rows of all sources to every arm's samples in training order.

Comes in: `UsableRows` per source, and the arms of the configuration. Goes out: the held-out rows, per arm an `ArmPlan`
(`mixture.json`) and shards with one record batch per optimizer step, which a rank reads with `samples.SampleReader`.

- `order`: any slice of the training order, computed from keyed permutations
- `draw`: how many rows each stratum gives, exact in samples or tokens
- `packing`: which samples share a packed row
- `samples`: shards, written and read
- `held_out`: what no arm draws, for validation
- `arms`: one arm from its weights to its shards

One more unit for an arm's weights: a name in `voc.mixture.Unit` and a column in `draw`.
"""
