"""From JSONL to packed rows: `base` writes a tokenizer of the real size, `vs_datasets` runs `ours` and `peer` on the same rows.

`comparisons` times what only we do: duplicates, leakage, contamination. One more side: a module with the options of `ours`, and a
line in `vs_datasets`.
"""
