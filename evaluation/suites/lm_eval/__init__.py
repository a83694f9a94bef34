"""Tasks of lm-eval, asked over an endpoint. In come task names of the configuration; out go lm-eval's samples and merged figures.

In pipeline order: `suite` (what the rest of the pipeline sees), `tasks` (loading, needs, what answers depend on), `ask`,
`models` (chats and log-likelihoods over our clients), `scoring` (the ladder), `results` (shards merged), `report`. A further
task is an entry of `evaluation.lm_eval_tasks` and no code.
"""
