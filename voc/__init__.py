"""The domain of Nightforge: taxonomy, records, prompts, mixture, config, run layout and store.

Everything here runs in the Airflow environment and in the Ray environment, so nothing in this package imports torch, ray,
vllm, transformers, lm_eval or airflow at module level.
"""

__version__ = "0.1.0"
