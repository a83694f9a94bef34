"""One arm's training: steps, held-out losses, the guard, figures, early ends and the notice of a machine that is taken away.

In: an opened job. Out: metrics, checkpoints (`training.checkpointing`) and the trained model, which `training.export` writes.
`train` holds the loop; each other file is one thing that the loop asks at every step.
"""
