"""Shared by tests of remote providers: a served simulator with providers that use it, and an
observer that records.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from domain.errors import GenerationFailed
from domain.generation import Delivery, GenerationRequest, SilentObserver
from domain.outputs import ProviderJob
from domain.ports.providers import Provider
from providers.http import MAX_BYTES
from providers.polling import Pace
from providers.references import MAX_TOGETHER_BYTES, References
from storage.imaging.threaded import ThreadedImageProcessor
from tests.http import open_http
from tests.providers.pictures import Shelf
from tests.providers.vendors import RemoteProvider, Vendor
from tests.simulators.bill import Entry
from tests.simulators.cut_connections import Connections, serving_connections
from tests.simulators.simulator import Simulator

ROOT: Final = Path(__file__).parents[2]
QUICK: Final = Pace(first=0.002, longest=0.02, growth=1.5, spare=0.05)


class Witness(SilentObserver):
    """An observer that remembers everything in its order, and says when a job is known."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.took = asyncio.Event()

    def _all(self, wanted: str) -> list[Any]:
        return [value for kind, value in self.events if kind == wanted]

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    @property
    def job(self) -> ProviderJob:
        job: ProviderJob = self._all("submitted")[0]
        return job

    @property
    def positions(self) -> list[int]:
        return self._all("queued")

    @property
    def fractions(self) -> list[float]:
        return self._all("progress")

    @property
    def previews(self) -> list[bytes]:
        return self._all("preview")

    async def submitting(self) -> None:
        self.events.append(("submitting", None))

    async def submitted(self, job: ProviderJob) -> None:
        self.events.append(("submitted", dict(job)))
        self.took.set()

    async def queued(self, position: int) -> None:
        self.events.append(("queued", position))

    async def progress(self, fraction: float) -> None:
        self.events.append(("progress", fraction))

    async def preview(self, data: bytes) -> None:
        self.events.append(("preview", data))


@dataclass
class Played:
    """A simulator at an address, and the providers that were opened on it."""

    vendor: Vendor
    simulator: Any
    url: str
    stage: "Stage"
    stack: AsyncExitStack
    shelf: Shelf = field(default_factory=Shelf)

    def provider(
        self,
        *,
        url: str | None = None,
        key: str | None = None,
        pace: Pace = QUICK,
        max_bytes: int = MAX_BYTES,
        max_together: int = MAX_TOGETHER_BYTES,
    ) -> RemoteProvider:
        """Another one on the simulator, closed at the test's end."""
        return self.closing(
            self.vendor.open(
                self.references(max_together),
                key=key or self.simulator.key,
                url=f"{url or self.url}{self.vendor.path}",
                max_concurrent_runs=20,
                pace=pace,
                max_bytes=max_bytes,
            )
        )

    def restarted(self, bill: Path) -> Simulator:
        """Another simulator in its place, which knows only what is on the bill."""
        simulator: Simulator = self.vendor.simulator(bill=bill, connections=self.stage.connections)
        self.stage.played = simulator
        # One that is killed does not close its bill.
        self.stack.callback(simulator.bill.close)
        return simulator

    def closing(self, provider: RemoteProvider) -> RemoteProvider:
        self.stack.push_async_callback(provider.aclose)
        return provider

    @property
    def bill(self) -> list[Entry]:
        entries: list[Entry] = self.simulator.settled()
        return entries

    @property
    def calls(self) -> list[str]:
        """The requests, as `POST /fal-ai/…`."""
        return [f"{seen.method} {seen.path}" for seen in self.simulator.seen]

    @property
    def submissions(self) -> list[str]:
        return [
            call for call in self.calls if call.startswith("POST") and not call.endswith("/cancel")
        ]

    def references(self, max_together: int = MAX_TOGETHER_BYTES) -> References:
        image_processor = ThreadedImageProcessor()
        self.stack.push_async_callback(image_processor.aclose)
        return References(self.shelf, image_processor, max_together=max_together)

    async def made(self, request: GenerationRequest) -> Delivery:
        return await self.provider().generate(request, Witness())

    async def failed(
        self,
        request: GenerationRequest,
        *,
        provider: Provider | None = None,
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
        self.connections = Connections()
        self.url = ""
        self.played: Simulator | None = None
        """None while the provider is away."""

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Self]:
        async with serving_connections(self._answer, self.connections) as self.url:
            yield self

    @asynccontextmanager
    async def playing(self, vendor: Vendor) -> AsyncIterator[Played]:
        """A simulator without requests so far."""
        simulator = self.played = vendor.simulator(connections=self.connections)
        async with AsyncExitStack() as stack:
            yield Played(vendor, simulator, self.url, self, stack)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.played is None:
            self.connections.of(Request(scope)).cut_after(0)
            await Response()(scope, receive, send)
            return
        await self.played.app(scope, receive, send)


class Processes:
    """Simulators as processes of their own, each started once: it takes a second or two."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._urls: dict[str, str] = {}

    async def aclose(self) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def playing(self, provider: str, script: str) -> AsyncIterator[str]:
        """The base URL of a provider's simulator all of whose jobs do this."""
        if provider not in self._urls:
            process = simulator_process(provider)
            self._urls[provider] = await self._stack.enter_async_context(process)
        url = self._urls[provider]
        async with open_http() as http:
            (await http.post(f"{url}/script", json={"script": script})).raise_for_status()
            yield url
            (await http.delete(f"{url}/script")).raise_for_status()


@asynccontextmanager
async def simulator_process(provider: str, *arguments: str) -> AsyncIterator[str]:
    """A provider's simulator as its own process; its base URL."""
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


async def end_of(provider: Provider, request: GenerationRequest) -> Any:
    """The code that a run fails with; None where it delivers."""
    try:
        await provider.generate(request, Witness())
    except GenerationFailed as failure:
        return failure.code
    return None


async def ends_of(provider: Provider, requests: Iterable[GenerationRequest]) -> list[Any]:
    """The deliveries or errors of runs at the same time."""
    return await asyncio.gather(
        *(provider.generate(request, Witness()) for request in requests), return_exceptions=True
    )


async def processed(provider: Provider, request: GenerationRequest) -> None:
    """A run as the runner takes it: whether bytes are a picture shows when they are decoded."""
    image_processor = ThreadedImageProcessor(threads=1)
    try:
        delivery = await provider.generate(request, Witness())
        await image_processor.process(delivery.images[0].data)
    finally:
        await image_processor.aclose()
