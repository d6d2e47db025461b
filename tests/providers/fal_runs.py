"""What tests of fal share: a simulator with providers on it, requests, a watcher that remembers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import pytest
from starlette.types import Receive, Scope, Send

from domain.errors import GenerationFailed
from domain.generation import Delivery, GenerationRequest, SilentWatcher
from domain.images import Image
from domain.models import AspectRatio, ImageFormat, Quality, Resolution
from domain.outputs import ProviderJob
from providers.fal.provider import FalProvider
from providers.http import MAX_BYTES
from providers.patience import Pace
from providers.references import MAX_TOGETHER_BYTES, References
from storage.pictures import PillowDeveloper
from tests.providers.pictures import MODELS, Shelf, a_request
from tests.simulators.fal import KEY, FalSimulator
from tests.simulators.fal_bill import Entry
from tests.simulators.lines import Lines, serving_lines

QUICK: Final = Pace(first=0.002, longest=0.02, growth=1.5, spare=0.05)
SECONDS_LEFT: Final = 30.0
"""Long enough for a machine that is busy: runs that fail at once must not come near it."""


class Witness(SilentWatcher):
    """A `Watcher` that remembers everything in its order, and says when a job is known."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.took = asyncio.Event()

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    @property
    def job(self) -> ProviderJob:
        return next(job for kind, job in self.events if kind == "submitted")

    @property
    def positions(self) -> list[int]:
        return [position for kind, position in self.events if kind == "queued"]

    async def submitting(self) -> None:
        self.events.append(("submitting", None))

    async def submitted(self, job: ProviderJob) -> None:
        self.events.append(("submitted", dict(job)))
        self.took.set()

    async def queued(self, position: int) -> None:
        self.events.append(("queued", position))

    async def progress(self, fraction: float) -> None:
        self.events.append(("progress", fraction))


@dataclass
class PlayedFal:
    """A simulator at an address, and the providers that were opened on it."""

    simulator: FalSimulator
    url: str
    stack: AsyncExitStack
    shelf: Shelf = field(default_factory=Shelf)

    @property
    def bill(self) -> list[Entry]:
        return self.simulator.settled()

    @property
    def calls(self) -> list[str]:
        """What has been asked, as `POST /fal-ai/…`."""
        return [f"{seen.method} {seen.path}" for seen in self.simulator.seen]

    def provider(
        self,
        *,
        url: str | None = None,
        key: str = KEY,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> FalProvider:
        developer = PillowDeveloper()
        self.stack.push_async_callback(developer.aclose)
        provider = FalProvider(
            References(self.shelf, developer, max_together=max_together),
            key=key,
            url=url or self.url,
            places=20,
            pace=pace,
            max_bytes=max_bytes,
        )
        self.stack.push_async_callback(provider.aclose)
        return provider

    async def made(self, request: GenerationRequest) -> Delivery:
        return await self.provider().generate(request, Witness())

    async def failed(
        self,
        request: GenerationRequest,
        *,
        provider: FalProvider | None = None,
        watcher: Witness | None = None,
    ) -> GenerationFailed:
        with pytest.raises(GenerationFailed) as failed:
            await (provider or self.provider()).generate(request, watcher or Witness())
        return failed.value


class Stage:
    """One server for many simulators, one after the other: a server takes a while to stop."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.url = ""
        self._played: FalSimulator | None = None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Self]:
        async with serving_lines(self._answer, self.lines) as self.url:
            yield self

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[PlayedFal]:
        """A simulator that nobody has asked yet."""
        self._played = FalSimulator(lines=self.lines)
        async with AsyncExitStack() as stack:
            yield PlayedFal(self._played, self.url, stack)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._played is not None
        await self._played.app(scope, receive, send)


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
    witness = Witness()
    run = asyncio.create_task(fal.provider().generate(a_run(script), witness))
    await asyncio.wait_for(witness.took.wait(), 10)
    run.cancel()
    await asyncio.wait({run}, timeout=10)
    assert run.cancelled()
    return witness.job
