"""What tests of simulated providers share: a served simulator with providers on it, a watcher that
remembers.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Self, TypeVar

import pytest
from starlette.types import Receive, Scope, Send

from domain.errors import GenerationFailed
from domain.generation import Delivery, GenerationRequest, SilentWatcher
from domain.outputs import ProviderJob
from domain.ports.providers import Provider
from providers.http import MAX_BYTES
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES, References
from storage.imaging.threaded import ThreadedImageProcessor
from tests.providers.pictures import Shelf
from tests.simulators.bill import Entry
from tests.simulators.lines import Lines, serving_lines
from tests.simulators.simulator import Simulator

ROOT: Final = Path(__file__).parents[2]
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

    @property
    def fractions(self) -> list[float]:
        return [fraction for kind, fraction in self.events if kind == "progress"]

    async def submitting(self) -> None:
        self.events.append(("submitting", None))

    async def submitted(self, job: ProviderJob) -> None:
        self.events.append(("submitted", dict(job)))
        self.took.set()

    async def queued(self, position: int) -> None:
        self.events.append(("queued", position))

    async def progress(self, fraction: float) -> None:
        self.events.append(("progress", fraction))


P = TypeVar("P", bound=Provider)
S = TypeVar("S", bound=Simulator)


@dataclass
class Played(ABC, Generic[P, S]):
    """A simulator at an address, and the providers that were opened on it."""

    simulator: S
    url: str
    stack: AsyncExitStack
    shelf: Shelf = field(default_factory=Shelf)

    @abstractmethod
    def provider(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> P:
        """Another one on the simulator, closed at the test's end."""

    @property
    def bill(self) -> list[Entry]:
        return self.simulator.settled()

    @property
    def calls(self) -> list[str]:
        """What has been asked, as `POST /fal-ai/…`."""
        return [f"{seen.method} {seen.path}" for seen in self.simulator.seen]

    def references(self, max_together: int) -> References:
        image_processor = ThreadedImageProcessor()
        self.stack.push_async_callback(image_processor.aclose)
        return References(self.shelf, image_processor, max_together=max_together)

    async def made(self, request: GenerationRequest) -> Delivery:
        return await self.provider().generate(request, Witness())

    async def failed(
        self,
        request: GenerationRequest,
        *,
        provider: P | None = None,
        observer: Witness | None = None,
    ) -> GenerationFailed:
        with pytest.raises(GenerationFailed) as failed:
            await (provider or self.provider()).generate(request, observer or Witness())
        return failed.value

    async def crashed(self, request: GenerationRequest) -> ProviderJob:
        """A run whose process ends as soon as the job is known; what is stored of it."""
        witness = Witness()
        run = asyncio.create_task(self.provider().generate(request, witness))
        await asyncio.wait_for(witness.took.wait(), 10)
        run.cancel()
        await asyncio.wait({run}, timeout=10)
        assert run.cancelled()
        return witness.job


class Stage:
    """One server for many simulators, one after the other: a server takes a while to stop."""

    def __init__(self) -> None:
        self.lines = Lines()
        self.url = ""
        self._played: Simulator | None = None

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Self]:
        async with serving_lines(self._answer, self.lines) as self.url:
            yield self

    @asynccontextmanager
    async def playing(
        self, kind: type[S], play: Callable[[S, str, AsyncExitStack], Played[P, S]]
    ) -> AsyncIterator[Played[P, S]]:
        """A simulator that nobody has asked yet."""
        simulator = kind(lines=self.lines)
        self._played = simulator
        async with AsyncExitStack() as stack:
            yield play(simulator, self.url, stack)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._played is not None
        await self._played.app(scope, receive, send)


async def end_of(provider: Provider, request: GenerationRequest) -> object:
    """The code that a run fails with; None where it delivers."""
    try:
        await provider.generate(request, Witness())
    except GenerationFailed as failure:
        return failure.code
    return None


async def processed(provider: Provider, request: GenerationRequest) -> None:
    """A run as the runner takes it: whether bytes are a picture is found out by the developer."""
    image_processor = ThreadedImageProcessor(threads=1)
    try:
        delivery = await provider.generate(request, Witness())
        await image_processor.process(delivery.images[0].data)
    finally:
        await image_processor.aclose()


@asynccontextmanager
async def simulator_process(provider: str, *arguments: str) -> AsyncIterator[str]:
    """A provider's simulator as a process of its own; its base URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", f"tests.simulators.{provider}", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        ready = await asyncio.wait_for(process.stdout.readline(), 60)
        yield ready.decode().split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
