"""The domain of Nightforge and the ground that all stages stand on.

Read in this order: `store` (objects under keys, manifests), `config` (the one tree), `labels` and `records` (what a row is and
which are accepted), `prompts` and `responses` (what a model reads and what its answer says), `mixture` (how many rows of each
source), `models` and `memory` (what is trained, and whether it fits), `run` (what a stage opens), `preflight` (all checks before
anything is paid for). An import contract states which of them may import which.

Everything here runs in the Airflow environment and in the Ray environment, so nothing in this package imports torch, ray,
vllm, transformers, lm_eval or airflow at module level. Tables of commands (`arguments`) name their functions by address.
"""

__version__ = "0.1.0"
