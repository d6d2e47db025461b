"""The provider of the models that OpenRouter passes requests on to.

Its Image API serves all of them, in one way. Its chats could do the same, in a different way for
each, and bring nothing but a few words in addition.
"""

from typing import Final

from providers.http import MAX_BYTES
from providers.one_call.provider import Dialect, OneCallProvider
from providers.openrouter.failures import of_answer
from providers.openrouter.wire import (
    MAX_REFERENCE_BYTES,
    MAX_REFERENCES_BYTES,
    PICTURES,
    OpenRouterReply,
    payload_of,
)
from providers.patience import Pace
from providers.references import References

OPENROUTER: Final = Dialect(
    name="openrouter",
    picture_names=PICTURES,
    headers=lambda key: {"authorization": f"Bearer {key}"},
    path=lambda _: "images",
    max_reference_bytes=MAX_REFERENCE_BYTES,
    max_references_bytes=lambda _: MAX_REFERENCES_BYTES,
    payload=payload_of,
    reply=OpenRouterReply,
    failure=of_answer,
)


class OpenRouterProvider(OneCallProvider):
    """A `Provider` on the Image API."""

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
            OPENROUTER, references, key=key, url=url, places=places, pace=pace, max_bytes=max_bytes
        )
