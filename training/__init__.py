"""Full-parameter fine-tuning: data preparation, and one Ray Train job per arm of the mixture.

The order of the pipeline: `prepare` (`base_model`, `encode`), then `job`, `driver` (Ray), `loop` (pure torch: `data`,
`packing`, `model`, `optim`, `checkpoint`), `export`.
"""
