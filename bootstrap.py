"""The composition root: the only place that knows concrete classes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2

from auth import Authenticator, FetchedKeys
from domain.cursors import PageCursors, TurnCursors
from domain.models import ModelRegistry
from domain.ports import Provider
from domain.sealing import Seal
from domain.services.conversations import ConversationService
from domain.services.images import ImageService
from domain.services.keeping import ImageKeeper
from domain.services.receipts import ReceiptService
from domain.services.runner import OutputRunner
from domain.services.sweeper import Sweeper
from domain.services.turns import TurnService
from domain.services.viewers import SampleMaker, ViewerService
from domain.viewers import Viewer
from issuer import DevelopmentIssuer
from providers.catalogue import load_catalogue
from providers.local.provider import LocalProvider
from providers.rehearsal import RehearsalProvider
from resolvers.loaders import make_loaders
from schema.context import Context
from settings import Settings, SettingsError, secret_of
from storage.changes import MongoChangeFeed
from storage.conversations import MongoConversationRepository
from storage.database import Database, open_database
from storage.idempotency import MongoReceiptRepository
from storage.images import MongoImageRepository
from storage.jobs import LocalJobQueue
from storage.objects import FolderObjectStore
from storage.pictures import PillowDeveloper
from storage.turns import MongoTurnRepository
from storage.viewers import MongoViewerRepository
from subscriptions.conversations import ConversationUpdates
from subscriptions.hub import Hub
from subscriptions.turns import TurnUpdates


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a request may need, open and ready."""

    authenticator: Authenticator
    database: Database
    registry: ModelRegistry
    conversations: ConversationService
    turns: TurnService
    images: ImageService
    viewers: ViewerService
    turn_updates: TurnUpdates
    conversation_updates: ConversationUpdates
    objects: FolderObjectStore
    turn_cursors: TurnCursors
    page_cursors: PageCursors

    async def admit(self, token: str) -> Viewer:
        """The viewer that a token vouches for. Raise Unauthenticated."""
        viewer = await self.authenticator.authenticate(token)
        await self.viewers.greet(viewer)
        return viewer

    def make_context(self, request_id: str, signed_in: Viewer | None) -> Context:
        context = Context(
            request_id=request_id,
            signed_in=signed_in,
            registry=self.registry,
            conversations=self.conversations,
            turns=self.turns,
            images=self.images,
            turn_updates=self.turn_updates,
            conversation_updates=self.conversation_updates,
            links=self.objects,
            turn_cursors=self.turn_cursors,
            page_cursors=self.page_cursors,
            load=make_loaders(
                lambda: context.viewer,
                conversations=self.conversations,
                turns=self.turns,
                images=self.images,
            ),
        )
        return context


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open everything in order, and close it in reverse."""
    development = settings.environment == "development"
    if settings.mongodb_uri is None:
        raise SettingsError(["DARKROOM_MONGODB_URI is needed here; `make run` starts a mongod."])
    seal = Seal(secret_of(settings))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)
        )
        objects = FolderObjectStore(
            settings.data_dir / "objects", public_url=settings.public_url, seal=seal
        )
        stack.push_async_callback(objects.aclose)
        developer = PillowDeveloper()
        stack.push_async_callback(developer.aclose)
        local = LocalProvider(objects)
        stack.push_async_callback(local.aclose)

        registry = load_catalogue(rehearsals=development)
        providers: dict[str, Provider] = {local.name: local}
        if development:
            rehearsal = RehearsalProvider(local)
            providers[rehearsal.name] = rehearsal

        conversation_repository = MongoConversationRepository(database)
        turn_repository = MongoTurnRepository(database)
        image_repository = MongoImageRepository(database)
        keeper = ImageKeeper(objects)
        hub = Hub(MongoChangeFeed(database), turn_repository)
        turn_cursors = TurnCursors(seal)

        runner = OutputRunner(
            turns=turn_repository,
            images=image_repository,
            keeper=keeper,
            developer=developer,
            registry=registry,
            providers=providers,
        )
        jobs = LocalJobQueue(runner.run)
        images = ImageService(image_repository)
        receipts = ReceiptService(
            MongoReceiptRepository(database), conversation_repository, turn_repository
        )
        services = Services(
            authenticator=await _authenticator(settings, stack),
            database=database,
            registry=registry,
            conversations=ConversationService(
                conversation_repository, receipts, images, registry, jobs, keeper
            ),
            turns=TurnService(
                turn_repository,
                conversation_repository,
                receipts,
                images,
                registry,
                jobs,
                keeper,
            ),
            images=images,
            viewers=ViewerService(
                MongoViewerRepository(database),
                keeper,
                _sample_maker(local, registry, developer) if development else None,
            ),
            turn_updates=TurnUpdates(hub, turn_repository, conversation_repository, turn_cursors),
            conversation_updates=ConversationUpdates(hub, conversation_repository),
            objects=objects,
            turn_cursors=turn_cursors,
            page_cursors=PageCursors(seal),
        )
        await stack.enter_async_context(hub.serve())
        await stack.enter_async_context(jobs.serve())
        await stack.enter_async_context(Sweeper(turn_repository, jobs).serve())
        yield services


async def _authenticator(settings: Settings, stack: AsyncExitStack) -> Authenticator:
    if settings.environment == "development":
        return DevelopmentIssuer(settings.data_dir).authenticator()
    assert settings.jwks_url
    assert settings.token_issuer
    assert settings.token_audience
    http = await stack.enter_async_context(httpx2.AsyncClient())
    keys = FetchedKeys(settings.jwks_url, http)
    stack.push_async_callback(keys.aclose)
    return Authenticator(keys, issuer=settings.token_issuer, audience=settings.token_audience)


def _sample_maker(
    local: LocalProvider, registry: ModelRegistry, developer: PillowDeveloper
) -> SampleMaker:
    models = tuple(model for model in registry.all() if model.provider == local.name)
    return SampleMaker(local, models, developer)
