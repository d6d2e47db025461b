"""Finds the provider's name and parameters for the model of a request."""

from typing import Protocol, TypeVar

from domain.registry import RegisteredModel
from providers.failures import MISCONFIGURED

EndpointT = TypeVar("EndpointT")


class ModelRequest(Protocol):
    """A request to a model of any kind."""

    @property
    def model(self) -> RegisteredModel: ...


def endpoint_of(request: ModelRequest, kind: type[EndpointT]) -> tuple[str, EndpointT]:
    """The provider's name for the request's model, and the `wire` of the model's row.

    Raise `GenerationFailed` with INTERNAL where the row was written for another provider.
    """
    model = request.model
    name = model.endpoint or model.id
    if not isinstance(model.wire, kind):
        raise MISCONFIGURED.failure(f"{name} is not a model of this provider")
    return name, model.wire
