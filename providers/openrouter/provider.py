"""The provider of the models that OpenRouter passes requests on to.

Its Image API serves all of them in the same way. Its chat API could do the same, in a different way
for each model, and would only add a few words.
"""

from providers.http import MAX_BYTES
from providers.openrouter.failures import explain_answer
from providers.openrouter.wire import (
    MAX_REFERENCE_BYTES,
    MAX_REFERENCES_BYTES,
    body_of,
    reply_to,
)
from providers.polling import Pace
from providers.references import References
from providers.safe_http import Sources
from providers.synchronous.dialect import PictureDialect
from providers.synchronous.images_reply import PICTURES
from providers.synchronous.provider import SynchronousProvider


class OpenRouterProvider(SynchronousProvider):
    """A `Provider` on the Image API."""

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
        address = f"{url.rstrip('/')}/images"
        dialect = PictureDialect(
            name="openrouter",
            key=key,
            headers={"authorization": f"Bearer {key}"},
            url=lambda _: address,
            picture_names=PICTURES,
            sources=Sources.of("openrouter.ai", ".openrouter.ai", base_url=url),
            max_reference_bytes=MAX_REFERENCE_BYTES,
            max_references_bytes=lambda _: MAX_REFERENCES_BYTES,
            body=body_of,
            reply=reply_to,
            failure=explain_answer,
        )
        super().__init__(
            dialect,
            references,
            max_concurrent_runs=max_concurrent_runs,
            pace=pace,
            max_bytes=max_bytes,
        )
