"""A model under evaluation is an endpoint: started, awaited, found, stopped.

In comes an entry of models.json; out goes `endpoint.json` while the model is healthy. In pipeline order: `serve` (with
`vllm_command` and `server_process`) > `endpoint` (what clients must know) > `wait`; `connect` for external models. One more
engine is a command like `vllm_command` that `serve` starts.
"""
