"""The wire format of OpenRouter's Image API.

The record of a model at `/images/models/<model>/endpoints` lists what it takes: anything else is
refused, or has no effect.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.generation import GenerationRequest
from providers.endpoints import endpoint_of
from providers.lenient import Fields, object_of, objects_of
from providers.openrouter.failures import error_in, explain_error
from providers.references import Reference
from providers.seeds import seed_of
from providers.synchronous.dialect import LeaveOut
from providers.synchronous.images_reply import ImagesReply, Words
from providers.vocabulary import FORMATS, QUALITIES, RESOLUTIONS

MAX_REFERENCE_BYTES: Final = 10_000_000
"""The size of each reference. OpenRouter passes them on to the model's host; the strictest one
takes this many bytes.
"""
MAX_REFERENCES_BYTES: Final = 14_800_000
"""The size of all references. In base64 they fit into a request to Google, the strictest host here
too.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What one model's record lists: the `wire` of a row."""

    ratio: bool = True
    resolution: bool = False
    quality: bool = False
    format: bool = False
    seed: bool = False
    count: bool = False
    """Whether it makes several images in one call. Others refuse such a request."""
    streams: bool = False
    """Whether it shows an image while it works on it."""


def body_of(request: GenerationRequest, references: Sequence[Reference]) -> Fields:
    name, endpoint = endpoint_of(request, Endpoint)
    payload: dict[str, object] = {"model": name, "prompt": request.prompt}
    if endpoint.ratio:
        payload["aspect_ratio"] = str(request.aspect_ratio)
    if endpoint.resolution:
        payload["resolution"] = RESOLUTIONS[request.resolution]
    if endpoint.quality and request.quality is not None:
        payload["quality"] = QUALITIES[request.quality]
    if endpoint.format and request.format is not None:
        payload["output_format"] = FORMATS[request.format]
    seed = seed_of(request)
    if endpoint.seed and seed is not None:
        payload["seed"] = seed
    if endpoint.count:
        payload["n"] = request.image_count
    if references:
        payload["input_references"] = [
            {"type": "image_url", "image_url": {"url": reference.as_link()}}
            for reference in references
        ]
    if _wants_stream(request, endpoint):
        payload["stream"] = True
    return payload


def _wants_stream(request: GenerationRequest, endpoint: Endpoint) -> bool:
    """Whether events are requested: they do not say which of several images they belong to."""
    return endpoint.streams and request.preview_count > 0 and request.image_count == 1


def reply_to(request: GenerationRequest, leave_out: LeaveOut) -> ImagesReply:
    """The reply to one run: an object with all its images, or events."""
    _, endpoint = endpoint_of(request, Endpoint)
    seed = seed_of(request) if endpoint.seed else None
    return ImagesReply(request, leave_out, words=_WORDS, seed=None if seed is None else str(seed))


def _is_refusal(fields: Fields) -> bool:
    """Whether a chat model refuses in words, as some do."""
    return any(
        choice.get("finish_reason") == "content_filter"
        or bool(object_of(choice.get("message")).get("refusal"))
        for choice in objects_of(fields.get("choices"))[:1]
    )


_WORDS: Final = Words(
    error_in=error_in,
    explain_error=explain_error,
    is_refused=_is_refusal,
    input_tokens="prompt_tokens",
    output_tokens="completion_tokens",
)
