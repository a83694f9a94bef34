"""The labels: a CSV of four levels goes in, a taxonomy with its digest comes out (`taxonomy`).

How labels of older taxonomies are carried over to it, and which leaves two taxonomies share, is said by the list of changes
(`changes`). To add a kind of change: its keys there, what it does with a label, and what makes it impossible to apply.
"""
