"""What tests share of providers of which one call is the whole run: rows, requests, a witness."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Final

from domain.generation import GenerationRequest
from domain.ids import ModelId
from domain.images import Image
from domain.models import (
    AspectRatio,
    ImageFormat,
    ImageModel,
    Quality,
    Resolution,
    Scene,
)
from domain.outputs import ProviderJob
from providers.catalogue import load_catalogue
from providers.gemini.provider import GeminiProvider
from providers.http import MAX_BYTES
from providers.openrouter.provider import OpenRouterProvider
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES
from providers.synchronous.provider import SynchronousProvider
from tests.providers.pictures import a_request
from tests.providers.rows import rows_of
from tests.providers.runs import QUICK, SECONDS_LEFT, Played
from tests.simulators.gemini import KEY as GEMINI_KEY
from tests.simulators.one_call import OneCallSimulator
from tests.simulators.openrouter import KEY as OPENROUTER_KEY
from tests.simulators.openrouter import PATH

KEYS: Final = {"gemini": GEMINI_KEY, "openrouter": OPENROUTER_KEY}
MODELS: Final = load_catalogue(rehearsals=False)


def _served(provider: str) -> Iterator[ImageModel]:
    for model in rows_of(provider):
        preferred = MODELS.get(model.id)
        assert preferred is not None
        is_preferred = preferred.provider == provider
        name = model.id if is_preferred else f"{model.id} at {provider}"
        yield replace(model, id=ModelId(name))


SERVED: Final = [model for provider in KEYS for model in _served(provider)]
"""All models as they are asked for at the two providers, on any route."""
BY_NAME: Final = {str(model.id): model for model in SERVED}


class PlayedOneCall(Played[SynchronousProvider, OneCallSimulator]):
    """A simulator of either provider, and the providers that were opened on it."""

    kind: ClassVar[type[GeminiProvider] | type[OpenRouterProvider]]
    path: ClassVar = ""

    def provider(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> SynchronousProvider:
        provider = self.kind(
            self.references(max_together),
            key=key or KEYS[self.simulator.provider],
            url=f"{url or self.url}{self.path}",
            max_concurrent_runs=20,
            pace=pace,
            max_bytes=max_bytes,
        )
        self.stack.push_async_callback(provider.aclose)
        return provider


class PlayedGemini(PlayedOneCall):
    """A simulated Gemini API."""

    kind: ClassVar = GeminiProvider


class PlayedOpenRouter(PlayedOneCall):
    """A simulated OpenRouter."""

    kind: ClassVar = OpenRouterProvider
    path: ClassVar = f"/{PATH}"


def a_run(
    script: str = "",
    *references: Image,
    model: str,
    words: str = "A lighthouse",
    aspect_ratio: AspectRatio | None = None,
    resolution: Resolution | None = None,
    image_count: int = 1,
    preview_count: int = 0,
    quality: Quality | None = None,
    format: ImageFormat | None = None,
    seed: str | None = None,
    seconds_left: float = SECONDS_LEFT,
    job: ProviderJob | None = None,
) -> GenerationRequest:
    """A request for a run that does what the script says."""
    known = BY_NAME[model]
    request = a_request(
        f"{words} [{known.provider} {script}]" if script else words,
        *references,
        size=None,
        image_count=image_count,
        preview_count=preview_count,
        format=format,
        seed=seed,
    )
    return replace(
        request,
        model=known,
        aspect_ratio=aspect_ratio or known.aspect_ratios[0],
        resolution=resolution or known.resolutions[0],
        quality=quality,
        seconds_left=seconds_left,
        job=job,
    )


def everything_of(model: ImageModel) -> Iterator[GenerationRequest]:
    """Requests that use each thing that a row offers."""
    count = model.max_images if model.images_per_run is None else model.images_per_run
    for ratio in model.aspect_ratios:
        for resolution in model.resolutions:
            yield a_run(
                model=model.id, aspect_ratio=ratio, resolution=resolution, image_count=count
            )
    for kind in model.formats:
        yield a_run(model=model.id, format=kind)
    for quality in model.qualities:
        yield a_run(model=model.id, quality=quality)
    if model.supports_seed:
        yield a_run(model=model.id, seed="a word")
    if model.supports_previews:
        yield a_run(model=model.id, preview_count=2)


PLAIN: Final = {"gemini": "img-nano-banana-2-1", "openrouter": "img-flux-2-flex"}
"""A model of each provider, which is answered with the whole at once."""
STREAMED: Final = {"gemini": "img-nano-banana-2-1", "openrouter": "img-gpt-5-image"}
"""One that is answered with events, where previews are wanted."""


def a_plain_run(played: PlayedOneCall, script: str = "", **options: Any) -> GenerationRequest:
    return a_run(script, model=PLAIN[played.simulator.provider], **options)


def a_streamed_run(played: PlayedOneCall, script: str = "", **options: Any) -> GenerationRequest:
    wanted = {"model": STREAMED[played.simulator.provider], "preview_count": 2}
    return a_run(script, **{**wanted, **options})


def edits(model: ImageModel) -> bool:
    return Scene.IMAGE_TO_IMAGE in model.scenes
