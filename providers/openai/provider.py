"""The provider of OpenAI's models, at OpenAI or at Azure."""

from functools import partial
from typing import Final

from domain.generation import GenerationRequest
from providers.endpoints import endpoint_of
from providers.http import MAX_BYTES
from providers.openai.backends import Backend, Verb
from providers.openai.failures import explain_answer
from providers.openai.wire import Endpoint, body_of, reply_to
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES, References
from providers.synchronous.dialect import PictureDialect
from providers.synchronous.images_reply import PICTURES
from providers.synchronous.provider import SynchronousProvider

MAX_REFERENCE_BYTES: Final = 50_000_000 - 1
PAUSE_SECONDS: Final = 120.0
"""How long an answer that has begun may be silent."""


class OpenAIProvider(SynchronousProvider):
    """A `Provider` on the Images API. It has no jobs: see docs/decisions/0017."""

    def __init__(
        self,
        references: References,
        backend: Backend,
        *,
        max_concurrent_runs: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        def url_of(request: GenerationRequest) -> str:
            model, _ = endpoint_of(request, Endpoint)
            return backend.url(Verb.EDIT if request.references else Verb.GENERATE, model)

        dialect = PictureDialect(
            name=backend.provider,
            key=backend.key,
            headers=backend.headers,
            url=url_of,
            picture_names=PICTURES,
            sources=backend.sources,
            max_reference_bytes=MAX_REFERENCE_BYTES,
            max_references_bytes=lambda _: MAX_TOGETHER_BYTES,
            reference_types=backend.reference_types,
            pause_seconds=PAUSE_SECONDS,
            body=partial(body_of, backend=backend),
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
