"""Processes as they are deployed: the real services with simulated ports."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

from domain.claims import Hint
from domain.errors import GenerationErrorCode, GenerationFailed
from domain.execution.dispatcher import Dispatcher
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.execution.permits import Permits
from domain.execution.runner import OutputRunner
from domain.execution.sweeper import Sweeper
from domain.ids import ModelId, OutputId, ViewerId
from domain.images import (
    DigitalSourceType,
    Drift,
    EditedImage,
    ProcessedImage,
    Provenance,
    Rendition,
)
from domain.outputs import Output
from domain.ports.accounts import AccountRepository
from domain.ports.conversations import ConversationRepository
from domain.ports.execution import ClaimRepository, ContactRepository
from domain.ports.idempotency import IdempotencyRepository
from domain.ports.images import ImageRepository
from domain.ports.model_availability import Unavailable
from domain.ports.objects import ObjectStore
from domain.ports.outputs import OutputRepository
from domain.ports.permits import PermitRepository
from domain.ports.posts import PostRepository
from domain.ports.providers import CaptionWriter, Provider
from domain.ports.turns import TurnRepository
from domain.services.accounts import AccountService
from domain.services.canceller import OutputCanceller
from domain.services.commands import CommandService
from domain.services.conversations import ConversationService
from domain.services.edit_planning import EditPlanner
from domain.services.images import ImageService
from domain.services.outputs import OutputService
from domain.services.posts import PostService
from domain.services.turns import TurnService
from tests.resilience.nobody_waits import NobodyWaits
from tests.resilience.simulated.model.repositories import Accounts, Contacts, Images, Turns
from tests.resilience.simulated.network import Line, Remote
from tests.resilience.simulated.site import HEARTBEAT, LEASE, MAX_QUEUED, Site
from tests.resilience.simulated.vendor import (
    BROKEN,
    DirectProvider,
    DirectWriter,
    FreeProvider,
    FreeWriter,
    QueueProvider,
)
from tests.resilience.simulated.world import Process

_PROVIDERS: Final = (QueueProvider, DirectProvider, FreeProvider)
_WRITERS: Final = (DirectWriter, FreeWriter)
_GRACE_SECONDS: Final = 8.0


class Node:
    """One process: answers requests, runs outputs, or both."""

    def __init__(self, site: Site, name: str, *, answers: bool, runs: bool) -> None:
        self.site = site
        self.answers = answers
        self.process = process = Process.of(site.injector.world, name)
        self.dispatcher: Dispatcher | None = None
        self.is_stopping = False
        self._stop = process.create_future()
        self._open_ports(site, process)
        if runs:
            self.dispatcher = self._a_dispatcher(site, process)
        if answers:
            self._open_services(site)
        process.begin(self._live(site.parts.sweeper), name=f"life of {name}")
        site.residents.append(self)
        process.when_it_dies(lambda: site.residents.remove(self))

    @property
    def runs(self) -> bool:
        return self.dispatcher is not None

    def take(self, hint: Hint) -> None:
        if self.dispatcher is not None:
            self.process.begin(self.dispatcher.start(hint), name=f"hint {hint.output_id}")

    def stop(self) -> None:
        """As SIGTERM does: take nothing new, hand over, wait a while, end."""
        self.is_stopping = True
        self.site.injector.inject(self.process, "asked to stop")
        if not self._stop.done():
            self._stop.set_result(None)

    async def _live(self, sweeps: type[Sweeper] | None) -> None:
        if sweeps is None:
            await self._stop
        else:
            sweeper = sweeps(
                self._claims, self.dispatcher, self._contacts, lease=LEASE, max_queued=MAX_QUEUED
            )
            async with sweeper.serve():
                await self._stop
        if self.dispatcher is not None:
            grace = _GRACE_SECONDS * self.site.injector.random.random()
            await self.dispatcher.stop(grace)
        self.site.injector.kill(self.process)

    def _open_ports(self, site: Site, process: Process) -> None:
        def remote(line: Line, target: object) -> Any:
            return Remote(process, line, target)

        tables, parts, database = site.tables, site.parts, site.database
        self._claims = cast("ClaimRepository", remote(database, parts.claims(tables, process)))
        self._contacts = cast("ContactRepository", remote(database, Contacts(tables)))
        # Nothing here is limited for all processes together.
        self._permits = cast("PermitRepository", remote(database, None))
        self._turns = cast("TurnRepository", remote(database, Turns(tables)))
        self._outputs = cast("OutputRepository", remote(database, parts.outputs(tables)))
        self._posts = cast("PostRepository", remote(database, parts.posts(tables)))
        self._conversations = cast(
            "ConversationRepository", remote(database, parts.conversations(tables))
        )
        self._images = cast("ImageRepository", remote(database, Images(tables)))
        self._accounts = cast("AccountRepository", remote(database, Accounts(tables)))
        self._receipts = cast("IdempotencyRepository", remote(database, parts.receipts(tables)))
        self._image_writer = ImageWriter(cast("ObjectStore", remote(site.store, site.bucket)))

    def _a_dispatcher(self, site: Site, process: Process) -> Dispatcher:
        providers: dict[str, Provider] = {
            kind.name: kind(process, site.vendor, site.places) for kind in _PROVIDERS
        }
        writers: dict[str, CaptionWriter] = {
            kind.name: kind(process, site.vendor, site.places) for kind in _WRITERS
        }
        runner = OutputRunner(
            claims=self._claims,
            images=self._images,
            image_writer=self._image_writer,
            image_processor=_ImageProcessor(),
            registry=site.registry,
            providers=providers,
            caption_models=site.caption_models,
            writers=writers,
            availability=ModelAvailability(_NoWithdrawals(), site.registry),
            lease=LEASE,
            heartbeat=HEARTBEAT,
        )
        return Dispatcher(self._claims, runner, Permits(self._permits, {}))

    def _open_services(self, site: Site) -> None:
        accounts = AccountService(self._accounts, site.starting_credits, site.max_active_outputs)
        images, hints, registry = (
            ImageService(self._images, self._image_writer),
            _Hints(self),
            site.registry,
        )
        commands = CommandService(
            records=self._receipts,
            conversations=self._conversations,
            turns=self._turns,
            accounts=accounts,
            hints=hints,
        )
        self.conversations = ConversationService(
            self._conversations, commands, accounts, images, registry, self._image_writer
        )
        canceller = OutputCanceller(outputs=self._outputs, hints=hints)
        self.turns = TurnService(
            turns=self._turns,
            conversations=self._conversations,
            commands=commands,
            accounts=accounts,
            edits=EditPlanner(self._turns, self._conversations, images, registry),
            canceller=canceller,
            waiting=NobodyWaits(),
        )
        self.outputs = OutputService(
            outputs=self._outputs,
            commands=commands,
            accounts=accounts,
            registry=registry,
            canceller=canceller,
            image_writer=self._image_writer,
        )
        self.posts = PostService(
            posts=self._posts,
            canceller=canceller,
            commands=commands,
            accounts=accounts,
            images=images,
            registry=registry,
            caption_models=site.caption_models,
            image_writer=self._image_writer,
        )


class _Hints:
    """A `HintQueue` that reaches the processes that run outputs."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def enqueue_written(self, viewer_id: ViewerId, outputs: Iterable[Output]) -> None:
        if self._node.process.is_alive:
            for output in outputs:
                self._node.site.carry(Hint(viewer_id, output.id))

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        if self._node.process.is_alive and self._node.dispatcher is not None:
            self._node.dispatcher.recall(output_ids)


class _NoWithdrawals:
    """A `ModelAvailabilityRepository` of a vendor that keeps all its models."""

    async def withdraw(self, model_id: ModelId, provider: str) -> None:
        raise AssertionError(model_id, provider)

    async def find_unavailable(self) -> Unavailable:
        return Unavailable(withdrawn=(), off=())

    async def switch_off(self, name: str, *, reason: str) -> None:
        raise AssertionError(name, reason)

    async def switch_on(self, name: str) -> bool:
        raise AssertionError(name)


class _ImageProcessor:
    """An `ImageProcessor` that takes any bytes for a picture, but those that say they are none."""

    async def process(
        self, data: bytes, *, source: DigitalSourceType | None = None
    ) -> ProcessedImage:
        await asyncio.sleep(0.01)
        if data == BROKEN:
            raise GenerationFailed(GenerationErrorCode.PROVIDER_BAD_RESPONSE, retryable=True)
        return ProcessedImage(
            original=_rendition(data, 64),
            thumbhash="",
            thumbnails=(_rendition(data, 16),),
            provenance=None if source is None else Provenance(source, content_credentials=False),
        )

    async def preview(
        self,
        data: bytes,
        *,
        source: DigitalSourceType | None = None,  # noqa: ARG002 - of the port
    ) -> Rendition:
        await asyncio.sleep(0.01)
        return _rendition(data, 16)

    async def compare(
        self,
        base: bytes,  # noqa: ARG002 - of the port
        edited: bytes,  # noqa: ARG002 - of the port
        *,
        mask: bytes | None = None,
        feather: int = 0,  # noqa: ARG002 - of the port
    ) -> Drift:
        await asyncio.sleep(0.01)
        return Drift(changed=0.5, outside_mask=None if mask is None else 0.0)

    async def put_back(
        self,
        edited: bytes,
        base: bytes,
        *,
        mask: bytes,
        feather: int,
        content_type: str | None = None,  # noqa: ARG002 - of the port
        source: DigitalSourceType | None = None,
    ) -> EditedImage:
        processed = await self.process(edited, source=source)
        return EditedImage(processed, await self.compare(base, edited, mask=mask, feather=feather))

    async def make_mask_for_model(
        self,
        mask: bytes,
        *,
        width: int,
        height: int,  # noqa: ARG002 - of the port
        feather: int,  # noqa: ARG002 - of the port
    ) -> Rendition:
        await asyncio.sleep(0.01)
        return _rendition(mask, width)

    async def shrink(self, data: bytes, *, max_bytes: int) -> Rendition:
        return _rendition(data[:max_bytes], 16)


def _rendition(data: bytes, side: int) -> Rendition:
    return Rendition(data=data, content_type="image/png", width=side, height=side)
