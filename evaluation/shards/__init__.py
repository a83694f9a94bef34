"""How any suite runs in pieces: `shard` (which items, the part file, running one), `cache` (the same question is asked once) and
`coverage` (every expected item exactly once).

In come a planned suite, what its answers depend on and a function that asks; out goes a finished shard: lines and manifest. A
suite uses it through `shard.run_shard`; nothing here knows which suites there are.
"""
