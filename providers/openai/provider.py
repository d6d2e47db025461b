"""The provider of OpenAI's models behind one door."""

from functools import partial
from typing import Final

from domain.generation import GenerationRequest
from providers.endpoints import endpoint_of
from providers.http import MAX_BYTES
from providers.openai.backends import Door, Verb
from providers.openai.failures import of_answer
from providers.openai.wire import MODELS, PICTURES, OpenAIReply, question_of
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES, References
from providers.synchronous.dialect import Dialect
from providers.synchronous.provider import OneCallProvider

MAX_REFERENCE_BYTES: Final = 50_000_000 - 1
PAUSE_SECONDS: Final = 120.0
"""For so long an answer that has begun may be silent."""


class OpenAIProvider(OneCallProvider):
    """A `Provider` on the Images API. It has no jobs: see docs/decisions/0017."""

    def __init__(
        self,
        references: References,
        backend: Door,
        *,
        places: int,
        pace: Pace | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        def url_of(request: GenerationRequest) -> str:
            model, _ = endpoint_of(request, MODELS)
            return backend.url(Verb.EDIT if request.references else Verb.GENERATE, model)

        dialect = Dialect(
            name=backend.provider,
            key=backend.key,
            headers=backend.headers,
            url=url_of,
            picture_names=PICTURES,
            max_reference_bytes=MAX_REFERENCE_BYTES,
            max_references_bytes=lambda _: MAX_TOGETHER_BYTES,
            reference_types=backend.reference_types,
            pause_seconds=PAUSE_SECONDS,
            question=partial(question_of, backend=backend),
            reply=OpenAIReply,
            failure=of_answer,
        )
        super().__init__(dialect, references, places=places, pace=pace, max_bytes=max_bytes)
