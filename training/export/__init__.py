"""From trained weights to a folder that is proven: written file by file, read again by plain transformers and by vLLM.

In pipeline order: `weights` > `verification` > `export` (manifests) > `vllm_smoke` (by `vllm_answers`, its own process).
"""
