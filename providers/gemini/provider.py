"""The provider of Gemini's image models."""

from typing import Final

from providers.gemini.failures import of_answer
from providers.gemini.wire import (
    MAX_REQUEST_BYTES,
    PICTURES,
    GeminiReply,
    bytes_for_references,
    path_of,
    payload_of,
)
from providers.http import MAX_BYTES
from providers.one_call.provider import Dialect, OneCallProvider
from providers.patience import Pace
from providers.references import References

GEMINI: Final = Dialect(
    name="gemini",
    picture_names=PICTURES,
    headers=lambda key: {"x-goog-api-key": key},
    path=path_of,
    max_reference_bytes=MAX_REQUEST_BYTES,
    max_references_bytes=bytes_for_references,
    payload=payload_of,
    reply=GeminiReply,
    failure=of_answer,
)


class GeminiProvider(OneCallProvider):
    """A `Provider` on `generateContent`, which makes one picture at a time."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str,
        places: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(
            GEMINI, references, key=key, url=url, places=places, pace=pace, max_bytes=max_bytes
        )
