"""MMLU in three protocols, on the machinery of `lm_eval`.

In come questions and an endpoint; out go samples, readings and kinds of loss.

In pipeline order: `suite` (what the rest of the pipeline sees), `protocols` (the exact words; `tasks/*.yaml` for lm-eval),
`ask`, `readings` (what an answer says), `general` (accuracies), `decomposition` (knowledge or form), `report`. To add a
protocol: a task file, its words in `protocols`, its reading in `ask`, and a line in `suite.KINDS`.
"""
