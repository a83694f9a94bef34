"""Checkpoints: written beside the training, manifest last, and found again, whole or not at all."""
