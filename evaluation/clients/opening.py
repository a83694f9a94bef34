"""Which client speaks to which kind of endpoint."""

from __future__ import annotations

from evaluation.clients.interface import ChatClient
from evaluation.clients.openai_compatible import EndpointClient
from evaluation.serving.endpoint import Endpoint, read_key


def open_client(endpoint: Endpoint, *, concurrency: int) -> ChatClient:
    """Return the client of an endpoint's kind, with at most `concurrency` requests in flight, or fewer if the endpoint says so.

    Raises:
        ConfigError: If the endpoint's key is not in the environment.
    """
    concurrency = min(concurrency, endpoint.concurrency or concurrency)
    if endpoint.kind != "bedrock":
        return EndpointClient(endpoint, read_key(endpoint.key_variable), concurrency=concurrency)
    # boto3 costs half a second, which other kinds need not pay
    if endpoint.batch is not None:
        from evaluation.clients.bedrock_batch import BedrockBatchClient

        return BedrockBatchClient(endpoint, concurrency=concurrency)
    from evaluation.clients.bedrock import BedrockClient

    return BedrockClient(endpoint, concurrency=concurrency)
