"""Amazon Bedrock: clients, what its errors mean, and whether a model can be asked at all.

Retries are the caller's: botocore's own would be counted nowhere. Credentials are the environment's (variables, profile, role).

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html;
https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
"""

from __future__ import annotations

from typing import Any, Literal

from voc.config.external import BedrockModelConfig
from voc.errors import EndpointError

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 600
_CREDENTIALS = frozenset(
    {
        "ExpiredTokenException",
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "MissingAuthenticationTokenException",
    }
)
_UNKNOWN = frozenset({"ResourceNotFoundException", "ValidationException"})


def make_client(
    service: Literal["bedrock", "bedrock-runtime"],
    region: str,
    url: str | None = None,
    *,
    connections: int = 1,
    read_timeout_s: float = READ_TIMEOUT_S,
) -> Any:
    """Return a boto3 client that sends every request once; it may be shared by threads."""
    import boto3.session
    from botocore.client import Config

    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1},
    )
    return boto3.session.Session().client(service, region_name=region, endpoint_url=url or None, config=config)


def explain(error: Exception, model: str, region: str) -> EndpointError:
    """Return the named error for what botocore raised about a request, with what to do about it."""
    from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

    what = f"{model} in {region}"
    if isinstance(error, NoCredentialsError):
        return EndpointError(f"there are no AWS credentials to ask {what}", remedy="set them where this process runs")
    if isinstance(error, EndpointConnectionError):
        return EndpointError(
            f"Bedrock cannot be reached for {what}: {error}",
            expected=f"a region with Bedrock, such as {', '.join(list_regions())}",
            remedy="check region, url and network",
        )
    if not isinstance(error, ClientError):
        return EndpointError(f"the request to {what} failed: {type(error).__name__}: {error}")
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    remedy = "see the troubleshooting page of Bedrock for this code"
    if code == "AccessDeniedException":
        remedy = "request access to the model for this account and region, and allow bedrock:InvokeModel"
    elif code in _CREDENTIALS:
        remedy = "renew the AWS credentials of this process"
    elif code in _UNKNOWN:
        remedy = "check that the model id or inference profile exists in this region"
    return EndpointError(f"Bedrock answered {code} for {what}: {message}", remedy=remedy)


def list_regions() -> list[str]:
    """Return the regions that botocore knows Bedrock in; new ones may be missing."""
    import boto3.session

    return sorted(
        name for name in boto3.session.Session().get_available_regions("bedrock") if not name.startswith("bedrock")
    )


def check_bedrock(model: BedrockModelConfig) -> tuple[None, str]:
    """Ask the model for one token, which needs everything that the night needs: credentials, region, access, model id.

    A service that is throttling has let the request in, so that passes.

    Raises:
        EndpointError: If the model cannot be asked there.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = make_client("bedrock-runtime", model.region, model.url, read_timeout_s=60)
    try:
        client.converse(
            modelId=model.model,
            messages=[{"role": "user", "content": [{"text": "Hello"}]}],
            inferenceConfig={"maxTokens": 1},
        )
    except ClientError as error:
        if error.response["Error"].get("Code") == "ThrottlingException":
            return None, f"{model.model} in {model.region} may be asked; the service is throttling just now"
        raise explain(error, model.model, model.region) from error
    except BotoCoreError as error:
        raise explain(error, model.model, model.region) from error
    return None, f"{model.model} in {model.region} answers"
