"""The Voice-of-Customer suite.

In come test comments and an endpoint, or a file of answers; out go predictions, figures and a part of the report.

In pipeline order: `suite` (what the rest of the pipeline sees), `schema` (decoding), `ask`, `import_outputs`, `answers`
(questions and answers side by side), `label_scores`, `resampling` and `segments` (the measures), `summary` (all of them),
`compare` (two nights), `report`. To add a measure: a function of `VocAnswer`s in one of the three, a line in
`summary.measure_voc`, its type in `evaluation.results`.
"""
