"""What tests of OpenAI and Azure share: providers on their simulator, and requests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from domain.generation import GenerationRequest
from domain.images import Image
from domain.models import AspectRatio, ImageFormat, ImageModel, Quality, Resolution
from domain.outputs import ProviderJob
from providers.catalogue import load_catalogue
from providers.http import MAX_BYTES
from providers.openai.backends import AzureBackend, Backend, OpenAIBackend
from providers.openai.provider import OpenAIProvider
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES
from tests.providers.pictures import a_request
from tests.providers.rows import rows_of
from tests.providers.runs import QUICK, SECONDS_LEFT, Played, Witness
from tests.simulators.openai import KEY, OpenAISimulator

DEPLOYMENTS: Final = {"gpt-image-2": "our-pictures"}
MODELS: Final = load_catalogue(rehearsals=False, with_credentials={"openai", "azure"})
ROWS_OF_OPENAI: Final = [
    model
    for model in MODELS.all()
    if model.provider in (OpenAIBackend.provider, AzureBackend.provider)
]
ROWS_AT_AZURE: Final = rows_of(AzureBackend.provider)


class Onlooker(Witness):
    """A witness of partial images too."""

    @property
    def previews(self) -> list[bytes]:
        return [data for kind, data in self.events if kind == "preview"]

    async def preview(self, data: bytes) -> None:
        self.events.append(("preview", data))


class PlayedOpenAI(Played[OpenAIProvider, OpenAISimulator]):
    """A simulated OpenAI, which is an Azure too, and the providers that were opened on it."""

    def provider(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> OpenAIProvider:
        return self.behind(
            OpenAIBackend(key=key or KEY, url=f"{url or self.url}/v1"),
            pace=pace,
            max_bytes=max_bytes,
            max_together=max_together,
        )

    def azure(
        self,
        *,
        key: str = KEY,
        api_version: str = "preview",
        deployments: Mapping[str, str] = DEPLOYMENTS,
    ) -> OpenAIProvider:
        return self.behind(
            AzureBackend(key=key, url=self.url, api_version=api_version, deployments=deployments)
        )

    def behind(
        self,
        backend: Backend,
        *,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> OpenAIProvider:
        provider = OpenAIProvider(
            self.references(max_together),
            backend,
            max_concurrent_runs=20,
            pace=pace,
            max_bytes=max_bytes,
        )
        self.stack.push_async_callback(provider.aclose)
        return provider

    def provider_of(self, model: ImageModel) -> OpenAIProvider:
        """The one that a row of the catalogue names."""
        return self.azure() if model.provider == AzureBackend.provider else self.provider()


def a_run(
    script: str = "",
    *references: Image,
    model: str | ImageModel = "img-gpt-image-2-5-flare",
    words: str = "A lighthouse",
    aspect_ratio: str = "1:1",
    resolution: Resolution = Resolution.ONE_K,
    size: tuple[int, int] | None = None,
    image_count: int = 1,
    preview_count: int = 0,
    quality: Quality | None = None,
    format: ImageFormat | None = None,
    seconds_left: float = SECONDS_LEFT,
    job: ProviderJob | None = None,
) -> GenerationRequest:
    """A request for a run that does what the script says."""
    row = MODELS.get(model) if isinstance(model, str) else model
    assert row is not None
    request = a_request(
        f"{words} [openai {script}]" if script else words,
        *references,
        size=size,
        image_count=image_count,
        preview_count=preview_count,
        format=format,
    )
    return replace(
        request,
        model=row,
        aspect_ratio=AspectRatio.parse(aspect_ratio),
        resolution=resolution,
        quality=quality,
        seconds_left=seconds_left,
        job=job,
    )
