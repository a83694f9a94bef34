"""Checkpoints: written beside the training, manifest last, and found again, whole or not at all.

In comes the state of all ranks; out go folders `step-00000100/`. `checkpoint` copies and writes (`background` in a thread,
`train_state` is what is kept beside weights), `folders` finds the newest valid one and refuses to start over in silence.
"""
