"""The provider of Gemini's image models."""

from providers.gemini.failures import explain_answer
from providers.gemini.wire import (
    MAX_REQUEST_BYTES,
    PICTURES,
    GeminiReply,
    body_of,
    bytes_for_references,
    path_of,
)
from providers.http import MAX_BYTES
from providers.polling import Pace
from providers.references import References
from providers.safe_http import Sources
from providers.synchronous.dialect import PictureDialect
from providers.synchronous.provider import SynchronousProvider


class GeminiProvider(SynchronousProvider):
    """A `Provider` on `generateContent`, which makes one image at a time."""

    def __init__(
        self,
        references: References,
        *,
        key: str,
        url: str,
        max_concurrent_runs: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        root = url.rstrip("/")
        dialect = PictureDialect(
            name="gemini",
            key=key,
            headers={"x-goog-api-key": key},
            url=lambda request: f"{root}/{path_of(request)}",
            picture_names=PICTURES,
            # Gemini names no images by links: they come inside its answers.
            sources=Sources.of(base_url=url),
            max_reference_bytes=MAX_REQUEST_BYTES,
            max_references_bytes=bytes_for_references,
            body=body_of,
            reply=GeminiReply,
            failure=explain_answer,
        )
        super().__init__(
            dialect,
            references,
            max_concurrent_runs=max_concurrent_runs,
            pace=pace,
            max_bytes=max_bytes,
        )
