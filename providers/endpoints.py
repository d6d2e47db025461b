"""From a request's model to what its provider calls it, and in what that differs from others."""

from collections.abc import Mapping
from typing import TypeVar

from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import GenerationRequest

EndpointT = TypeVar("EndpointT")


def endpoint_of(
    request: GenerationRequest, endpoints: Mapping[str, EndpointT]
) -> tuple[str, EndpointT]:
    """The provider's name for the request's model, and its row. Raise `GenerationFailed` with
    INTERNAL where there is none: the catalogue and the provider's own rows do not agree.
    """
    name = request.model.endpoint or request.model.id
    endpoint = endpoints.get(name)
    if endpoint is None:
        raise GenerationFailed(
            GenerationErrorCode.INTERNAL, retryable=False, detail=f"{name} is no endpoint"
        )
    return name, endpoint
