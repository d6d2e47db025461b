"""The two sides of each comparison: our provider, and the least that would make the same calls."""

from base64 import b64decode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import httpx2

from domain.generation import GenerationRequest
from domain.ports.providers import Provider
from providers.fal.provider import FalProvider
from providers.gemini.provider import GeminiProvider
from providers.openai.backends import AzureBackend, OpenAIBackend
from providers.openai.provider import OpenAIProvider
from providers.openrouter.provider import OpenRouterProvider
from providers.polling import Pace
from providers.references import References
from providers.replicate.provider import ReplicateProvider
from providers.wavespeed.provider import WavespeedProvider
from storage.imaging.threaded import ThreadedImageProcessor
from tests.providers.pictures import Shelf, a_request
from tests.providers.vendors import rows_of
from tests.simulators.fal import FalSimulator
from tests.simulators.gemini import GeminiSimulator
from tests.simulators.openai import OpenAISimulator
from tests.simulators.openrouter import OpenRouterSimulator
from tests.simulators.replicate import ReplicateSimulator
from tests.simulators.wavespeed import WavespeedSimulator

PLACES: Final = 20
PROMPT: Final = "A red boat"
AT_ONCE: Final = Pace(first=0.0, longest=0.0)
"""Without any pauses: what is left is work."""

_DEPLOYMENT: Final = "our-pictures"
_IMAGES: Final = {"prompt": PROMPT, "n": 1, "size": "1024x1024", "quality": "medium"}


class OpenProvider(Provider, Protocol):
    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How a provider is asked for one picture, by whichever side."""

    simulator: str
    endpoint: str
    path: str
    payload: Mapping[str, Any]
    headers: Mapping[str, str]


SIDES: Final[Mapping[str, Side]] = {
    "openai": Side(
        simulator="openai",
        endpoint="gpt-image-2",
        path="/v1/images/generations",
        payload={"model": "gpt-image-2", **_IMAGES},
        headers={"authorization": f"Bearer {OpenAISimulator.key}"},
    ),
    "azure": Side(
        simulator="openai",
        endpoint="gpt-image-2",
        path="/openai/v1/images/generations?api-version=preview",
        payload={"model": _DEPLOYMENT, **_IMAGES},
        headers={"api-key": OpenAISimulator.key},
    ),
    "gemini": Side(
        simulator="gemini",
        endpoint="gemini-2.5-flash-image",
        path="/v1beta/models/gemini-2.5-flash-image:generateContent",
        payload={
            "contents": [{"role": "user", "parts": [{"text": PROMPT}]}],
            "generationConfig": {
                "responseModalities": ["TEXT", "IMAGE"],
                "imageConfig": {"aspectRatio": "1:1"},
            },
        },
        headers={"x-goog-api-key": GeminiSimulator.key},
    ),
    "openrouter": Side(
        simulator="openrouter",
        endpoint="black-forest-labs/flux.2-flex",
        path="/api/v1/images",
        payload={
            "model": "black-forest-labs/flux.2-flex",
            "prompt": PROMPT,
            "aspect_ratio": "1:1",
        },
        headers={"authorization": f"Bearer {OpenRouterSimulator.key}"},
    ),
    "fal": Side(
        simulator="fal",
        endpoint="fal-ai/gemini-25-flash-image",
        path="/fal-ai/gemini-25-flash-image",
        payload={"prompt": PROMPT, "num_images": 1, "aspect_ratio": "1:1"},
        headers={"authorization": f"Key {FalSimulator.key}"},
    ),
    "replicate": Side(
        simulator="replicate",
        endpoint="black-forest-labs/flux-schnell",
        path="/v1/models/black-forest-labs/flux-schnell/predictions",
        payload={"input": {"prompt": PROMPT, "aspect_ratio": "1:1", "num_outputs": 1}},
        headers={"authorization": f"Bearer {ReplicateSimulator.key}"},
    ),
    "wavespeed": Side(
        simulator="wavespeed",
        endpoint="google/imagen3",
        path="/api/v3/google/imagen3",
        payload={"prompt": PROMPT, "aspect_ratio": "1:1", "num_images": 1},
        headers={"authorization": f"Bearer {WavespeedSimulator.key}"},
    ),
}
"""Each provider's, by its name in the catalogue."""


@asynccontextmanager
async def our_side(name: str, url: str, *, pace: Pace | None = None) -> AsyncIterator[OpenProvider]:
    """The provider as workers have it, on a simulator."""
    image_processor = ThreadedImageProcessor(threads=1)
    provider = _opened(name, url, References(Shelf(), image_processor), pace)
    try:
        yield provider
    finally:
        await provider.aclose()
        await image_processor.aclose()


def request_of(name: str) -> GenerationRequest:
    """For one picture in the model's usual size."""
    row = next(row for row in rows_of(name) if row.endpoint == SIDES[name].endpoint)
    asked = a_request(PROMPT, size=None, format=None)
    return replace(asked, model=row, resolution=row.resolutions[0])


async def bare_side(name: str, url: str, client: httpx2.AsyncClient) -> bytes:
    """The same calls, without looking at anything that is not needed when all goes well."""
    side = SIDES[name]
    answer = await client.post(f"{url}{side.path}", json=side.payload, headers=side.headers)
    fields: Any = answer.json()
    match name:
        case "openai" | "azure" | "openrouter":
            return b64decode(fields["data"][0]["b64_json"])
        case "gemini":
            return b64decode(fields["candidates"][0]["content"]["parts"][-1]["inlineData"]["data"])
        case "fal":
            while fields.get("status") != "COMPLETED":
                answer = await client.get(fields["status_url"], headers=side.headers)
                fields = answer.json()
            result = await client.get(fields["response_url"], headers=side.headers)
            link = result.json()["images"][0]["url"]
        case "replicate":
            while fields["status"] != "succeeded":
                answer = await client.get(fields["urls"]["get"], headers=side.headers)
                fields = answer.json()
            output = fields["output"]
            link = output[0] if isinstance(output, list) else output
        case _:
            while fields["data"]["status"] != "completed":
                answer = await client.get(fields["data"]["urls"]["get"], headers=side.headers)
                fields = answer.json()
            link = fields["data"]["outputs"][0]
    return (await client.get(link)).content


def _opened(name: str, url: str, references: References, pace: Pace | None) -> OpenProvider:
    match name:
        case "openai":
            backend = OpenAIBackend(key=OpenAISimulator.key, url=f"{url}/v1")
            return OpenAIProvider(references, backend, max_concurrent_runs=PLACES, pace=pace)
        case "azure":
            azure = AzureBackend(
                key=OpenAISimulator.key,
                url=url,
                api_version="preview",
                deployments={"gpt-image-2": _DEPLOYMENT},
            )
            return OpenAIProvider(references, azure, max_concurrent_runs=PLACES, pace=pace)
        case "gemini":
            return GeminiProvider(
                references, key=GeminiSimulator.key, url=url, max_concurrent_runs=PLACES, pace=pace
            )
        case "openrouter":
            return OpenRouterProvider(
                references,
                key=OpenRouterSimulator.key,
                url=f"{url}/api/v1",
                max_concurrent_runs=PLACES,
                pace=pace,
            )
        case "fal":
            return FalProvider(
                references, key=FalSimulator.key, url=url, max_concurrent_runs=PLACES, pace=pace
            )
        case "replicate":
            return ReplicateProvider(
                references,
                key=ReplicateSimulator.key,
                url=f"{url}/v1",
                max_concurrent_runs=PLACES,
                pace=pace,
            )
    return WavespeedProvider(
        references,
        key=WavespeedSimulator.key,
        url=f"{url}/api/v3",
        max_concurrent_runs=PLACES,
        pace=pace,
    )
