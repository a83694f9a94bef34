"""Training beside others, on the study corpus and on the same steps.

`base` and `rows` write what all sides train, `side` says how; `vs_trl` runs `ours` and `peer`, whose steps `side` notes
and `loss_curves` lays over each other. `ray_share` runs one training under Ray Train and under torchrun. One more peer: a name in
`side.PEER_SIDES` and its trainer in `peer`.
"""
