"""The wire format of polled models, which differ only in the names of a few fields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from domain.generation import GenerationRequest
from domain.models import ImageFormat
from providers.endpoints import endpoint_of
from providers.failures import MISCONFIGURED
from providers.seeds import seed_of
from providers.vocabulary import RESOLUTIONS

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How one model is asked: the `wire` of a row."""

    count: str | None = None
    """The field for the number of images; None for a model that makes one."""
    resolution: str | None = None
    """The field for a resolution."""
    references: str | None = None
    """The field for a list of links."""
    fixed: Fields = field(default_factory=dict, hash=False)
    """Fields that are sent with every request."""
    with_seed: Fields = field(default_factory=dict, hash=False)
    """Fields that are sent in addition to a seed."""


def payload_of(
    request: GenerationRequest, links: Sequence[str], *, formats: Mapping[ImageFormat, str]
) -> Fields:
    """The input of a job. `links` lead to the references, `formats` are the provider's names. A
    ratio is always sent: without it, that of the first reference would be used.
    """
    model, (name, endpoint) = request.model, endpoint_of(request, Endpoint)
    payload: dict[str, object] = {
        "prompt": request.prompt,
        "aspect_ratio": str(request.aspect_ratio),
        **endpoint.fixed,
    }
    if endpoint.count is not None:
        payload[endpoint.count] = request.image_count
    if endpoint.resolution is not None:
        payload[endpoint.resolution] = RESOLUTIONS[request.resolution]
    if links:
        if endpoint.references is None:
            raise MISCONFIGURED.failure(f"{name} takes no references")
        payload[endpoint.references] = list(links)
    if request.format is not None and model.formats:
        payload["output_format"] = formats[request.format]
    if request.negative_prompt is not None and model.supports_negative_prompt:
        payload["negative_prompt"] = request.negative_prompt
    seed = seed_of(request)
    if seed is not None and model.supports_seed:
        payload |= {"seed": seed, **endpoint.with_seed}
    return payload
