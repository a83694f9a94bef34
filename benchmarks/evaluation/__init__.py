"""Serving and scoring: is it fast, is it the same as what others compute, and does it name a loss that was planted?

`served` starts one vLLM for `mmlu_fast_vs_stock`, `long_prompt` and `planted_losses`, which `fine_tuning` makes its models for;
`score_vs_sklearn` runs `score_ours` and `score_peer` on the answers of `score_rows`. One more plant: a line in
`planted_losses.PLANTS`.
"""
