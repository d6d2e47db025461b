"""What tests of fal share: providers on its simulator, and requests."""

from dataclasses import replace

from domain.generation import GenerationRequest
from domain.images import Image
from domain.models import AspectRatio, ImageFormat, Quality, Resolution
from domain.outputs import ProviderJob
from providers.fal.provider import FalProvider
from providers.http import MAX_BYTES
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES
from tests.providers.pictures import MODELS, a_request
from tests.providers.runs import QUICK, SECONDS_LEFT, Played
from tests.simulators.fal import KEY, FalSimulator


class PlayedFal(Played[FalProvider, FalSimulator]):
    """A simulated fal, and the providers that were opened on it."""

    def provider(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> FalProvider:
        provider = FalProvider(
            self.references(max_together),
            key=key or KEY,
            url=url or self.url,
            max_concurrent_runs=20,
            pace=pace,
            max_bytes=max_bytes,
        )
        self.stack.push_async_callback(provider.aclose)
        return provider


def a_run(
    script: str = "",
    *references: Image,
    model: str = "img-nano-banana",
    words: str = "A lighthouse",
    aspect_ratio: str = "1:1",
    resolution: Resolution = Resolution.ONE_K,
    image_count: int = 1,
    format: ImageFormat | None = None,
    quality: Quality | None = None,
    negative_prompt: str | None = None,
    seed: str | None = None,
    seconds_left: float = SECONDS_LEFT,
    job: ProviderJob | None = None,
) -> GenerationRequest:
    """A request for a run that does what the script says."""
    assert MODELS.get(model) is not None
    request = a_request(
        f"{words} [fal {script}]" if script else words,
        *references,
        model=model,
        size=None,
        image_count=image_count,
        format=format,
        seed=seed,
    )
    return replace(
        request,
        aspect_ratio=AspectRatio.parse(aspect_ratio),
        resolution=resolution,
        quality=quality,
        negative_prompt=negative_prompt,
        seconds_left=seconds_left,
        job=job,
    )


async def crashed_run(fal: PlayedFal, script: str) -> ProviderJob:
    """A run whose process ends as soon as the job is known; what is stored of it."""
    return await fal.crashed(a_run(script))
