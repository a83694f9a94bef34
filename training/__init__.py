"""Full-parameter fine-tuning: one training per arm of the mixture, on Ray or in one process.

In come a prepared run (`corpus`) and a base; out go checkpoints, metrics and an export that was proven. In pipeline order:
`start` (memory plan, room, Ray), `job` (what a training depends on), `loop` (steps) on `engine` (pure torch),
`checkpointing`, `export`. `stages` is what the commands do, `metrics` the ground of figures. How to add one more of a kind
stands in each room.
"""
