"""The training engine, pure torch: no configuration model, no Ray, no store; runs on a machine with torch and transformers only.

In: samples of token ids and a loss mask, a model, plain settings. Out: one optimizer step at a time. In the order of a step:
`batches` (rows of a micro-batch), `prefixes`, `model` (with `attention`, `experts`, `routing` and `linear_loss` inside), `step`,
`optim`; `process_group` is the ground. One more optimizer is a branch of `optim.build_optimizers`; one more model kind is what
`attention` and `experts` find in a model.
"""
