"""Clients of a model under evaluation: one interface, and the protocols that speak it.

In comes an endpoint (`evaluation.serving.endpoint`) and messages; out go completions with their usage, or a named error.
`interface` says what every client does, `retry` when a request is retried, `openai_compatible`, `bedrock` and
`bedrock_batch` speak the protocols, `opening` chooses by the endpoint's kind. One more client is one file here and one line
in `opening`.
"""
