"""Which texts are there more than once, in which labels they differ, and what of the tests is in the training data."""
