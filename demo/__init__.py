"""The laptop twin's world: a tiny base model, its facts, and the customer feedback that it has never seen.

Production code never imports this package; it meets the rest in files only (`python -m demo make`).
"""
