"""What tests of Wavespeed and Replicate share: providers on their simulators, models, requests."""

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar, Final, TypeVar

from domain.generation import GenerationRequest
from domain.ids import ModelId
from domain.images import Image
from domain.models import AspectRatio, ImageFormat, ImageModel, Resolution, Scene
from domain.outputs import ProviderJob
from providers.http import MAX_BYTES
from providers.polled.provider import PolledProvider
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES
from providers.replicate.provider import ReplicateProvider
from providers.wavespeed.provider import WavespeedProvider
from tests.providers.pictures import a_request
from tests.providers.rows import rows_of
from tests.providers.runs import QUICK, SECONDS_LEFT, Played
from tests.simulators.replicate import ReplicateSimulator
from tests.simulators.simulator import Simulator
from tests.simulators.wavespeed import WavespeedSimulator

_FIVE: Final = ("1:1", "16:9", "9:16", "4:3", "3:4")
_EIGHT: Final = (*_FIVE, "3:2", "2:3", "21:9")
_TEN: Final = (*_EIGHT, "5:4", "4:5")


def _model(
    endpoint: str,
    *,
    provider: str = "replicate",
    ratios: tuple[str, ...] = _TEN,
    resolutions: tuple[Resolution, ...] = (Resolution.ONE_K,),
    formats: tuple[ImageFormat, ...] = (),
    max_images: int = 1,
    max_references: int = 0,
    supports_seed: bool = False,
) -> ImageModel:
    return ImageModel(
        id=ModelId(endpoint.rpartition("/")[2]),
        label="A model",
        description="A model",
        company="Somebody",
        provider=provider,
        scenes=frozenset(Scene if max_references else {Scene.TEXT_TO_IMAGE}),
        endpoint=endpoint,
        aspect_ratios=tuple(AspectRatio.parse(ratio) for ratio in ratios),
        resolutions=resolutions,
        formats=formats,
        max_images=max_images,
        max_references=max_references,
        supports_seed=supports_seed,
    )


IMAGEN: Final = rows_of("wavespeed")[0]
_REPLICATE: Final = {row.endpoint: row for row in rows_of("replicate")}
FLUX: Final = _REPLICATE["black-forest-labs/flux-schnell"]
NANO_BANANA: Final = replace(_REPLICATE["google/nano-banana"], max_images=1)
SEEDREAM: Final = replace(_REPLICATE["bytedance/seedream-4"], max_images=1)


P = TypeVar("P", bound=PolledProvider)
S = TypeVar("S", bound=Simulator)


class PlayedPredictions(Played[P, S]):
    """A simulated provider of predictions, and the providers that were opened on it."""

    model: ClassVar[ImageModel]
    """The one that is meant where none is named."""

    @property
    @abstractmethod
    def prefix(self) -> str:
        """The path of the provider's base URL."""

    def run(
        self,
        script: str = "",
        *references: Image,
        model: ImageModel | None = None,
        words: str = "A lighthouse",
        aspect_ratio: str = "1:1",
        resolution: Resolution = Resolution.ONE_K,
        image_count: int = 1,
        format: ImageFormat | None = None,
        seed: str | None = None,
        negative_prompt: str | None = None,
        seconds_left: float = SECONDS_LEFT,
        job: ProviderJob | None = None,
    ) -> GenerationRequest:
        """A request for a run that does what the script says."""
        asked = a_request(
            f"{words} [{self.simulator.provider} {script}]" if script else words,
            *references,
            size=None,
            image_count=image_count,
            format=format,
            seed=seed,
        )
        return replace(
            asked,
            model=model or self.model,
            aspect_ratio=AspectRatio.parse(aspect_ratio),
            resolution=resolution,
            negative_prompt=negative_prompt,
            seconds_left=seconds_left,
            job=job,
        )


class PlayedWavespeed(PlayedPredictions[WavespeedProvider, WavespeedSimulator]):
    model = IMAGEN
    prefix = "/api/v3"

    def provider(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> WavespeedProvider:
        provider = WavespeedProvider(
            self.references(max_together),
            key=key or WavespeedSimulator.key,
            url=f"{url or self.url}{self.prefix}",
            max_concurrent_runs=20,
            pace=pace,
            max_bytes=max_bytes,
        )
        self.stack.push_async_callback(provider.aclose)
        return provider


class PlayedReplicate(PlayedPredictions[ReplicateProvider, ReplicateSimulator]):
    model = FLUX
    prefix = "/v1"

    def provider(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> ReplicateProvider:
        provider = ReplicateProvider(
            self.references(max_together),
            key=key or ReplicateSimulator.key,
            url=f"{url or self.url}{self.prefix}",
            max_concurrent_runs=20,
            pace=pace,
            max_bytes=max_bytes,
        )
        self.stack.push_async_callback(provider.aclose)
        return provider


Predictions = PlayedPredictions[PolledProvider, Simulator]
