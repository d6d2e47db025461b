"""The local writer: composes captions in this process, without network or key."""

import asyncio
from typing import Final

from domain.captions import CaptionDelivery, CaptionRequest, primary_subtag
from domain.ports.providers import CaptionObserver
from providers.captions import tidy_caption
from providers.failures import REJECTED_INPUT
from providers.local.language.captions import compose

MAX_CONCURRENT_RUNS: Final = 50
WORD_SECONDS: Final = 0.06
"""The time per word, so that people can see how the caption grows."""
_MAX_SECONDS: Final = 1.2


class LocalWriter:
    """Writes captions. The same request gives the same caption. `pace` multiplies all times."""

    def __init__(self, *, pace: float = 1.0) -> None:
        self._pace = pace

    @property
    def name(self) -> str:
        return "local"

    @property
    def max_concurrent_runs(self) -> int:
        return MAX_CONCURRENT_RUNS

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        text = compose_caption(request)
        words = text.split(" ")
        pause = min(WORD_SECONDS, _MAX_SECONDS / len(words)) * self._pace
        for count in range(1, len(words)):
            await observer.text(" ".join(words[:count]))
            await asyncio.sleep(pause)
        return CaptionDelivery(text=text)


def compose_caption(request: CaptionRequest) -> str:
    """Compose the whole caption. Raise `GenerationFailed` if there is no text to use."""
    options = request.options
    text = compose(
        request.message,
        request.reference_prompts,
        language=None if options.language is None else primary_subtag(options.language),
        tone=options.tone,
        hashtags=options.hashtags,
        attempt=request.attempt,
    )
    caption = tidy_caption(text, request)
    if not caption:
        raise REJECTED_INPUT.failure("no words")
    return caption
