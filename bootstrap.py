"""The composition root: the only place that knows concrete classes."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import httpx2
from pydantic import SecretStr
from starlette.routing import Route

from domain.cleanup.collector import OrphanCollector
from domain.cleanup.reconciliation import ObjectReconciler
from domain.cursors import PageCursors, TurnCursors
from domain.execution.dispatcher import Dispatcher
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.execution.runner import OutputRunner
from domain.execution.sweeper import Sweeper
from domain.models import ModelRegistry
from domain.ports.objects import ObjectStore, UploadStore
from domain.ports.providers import Provider
from domain.services.accounts import AccountService
from domain.services.commands import CommandService
from domain.services.conversations import ConversationService
from domain.services.edit_planning import EditPlanner
from domain.services.favourites import FavouriteService
from domain.services.images import ImageService
from domain.services.plans import PlanService
from domain.services.prompts import PromptService
from domain.services.turns import TurnService
from domain.services.uploads import UploadService
from domain.services.viewers import SampleMaker, ViewerService
from domain.signing import Signer
from edge.admission import Admission
from edge.auth import Authenticator, FetchedKeys
from edge.dev_tokens import DevelopmentIssuer
from edge.signed_objects import signed_object_routes
from edge.signed_uploads import signed_upload_routes
from providers.catalogue import load_catalogue
from providers.fal.provider import FalProvider
from providers.gemini.provider import GeminiProvider
from providers.local.provider import LocalProvider
from providers.openai.backends import AzureBackend, OpenAIBackend
from providers.openai.provider import OpenAIProvider
from providers.openrouter.provider import OpenRouterProvider
from providers.references import References
from providers.rehearsal import RehearsalProvider
from providers.replicate.provider import ReplicateProvider
from providers.wavespeed.provider import WavespeedProvider
from schema.services import Services
from settings import Settings, SettingsError, origin_pattern, secret_of
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.change_feed import MongoChangeFeed
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.idempotency import MongoIdempotencyRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_availability import MongoWithdrawnModelRepository
from storage.mongo.periodic import MongoPeriodicJobRepository
from storage.mongo.prompts import MongoPromptRepository
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.uploads import MongoUploadRepository
from storage.mongo.viewers import MongoViewerRepository
from storage.objects.folder import FolderObjectStore
from storage.objects.s3 import Bucket, open_bucket
from storage.queue.jobs import TaskiqJobQueue, make_broker
from subscriptions.conversations import ConversationUpdates
from subscriptions.hub import Hub
from subscriptions.turns import TurnUpdates
from subscriptions.viewer import ViewerUpdates


class Objects(ObjectStore, UploadStore, Protocol):
    """The store of all bytes, ours and those that clients bring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Everything that answers requests, open and ready."""

    services: Services
    admission: Admission
    database: Database
    object_routes: Sequence[Route]
    """Where signed URLs lead to, if they lead to this process."""


class _RemoteProvider(Provider, Protocol):
    async def aclose(self) -> None: ...


class _Opens(Protocol):
    """A provider that is opened with nothing but a key, an address, and a number of runs."""

    def __call__(
        self, references: References, /, *, key: str, url: str, max_concurrent_runs: int
    ) -> _RemoteProvider: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """What makes pictures and looks at them. It needs no database."""

    objects: Objects
    object_routes: Sequence[Route]
    signer: Signer
    image_processor: ThreadedImageProcessor
    remote: Mapping[str, Provider]
    """Providers that have credentials here, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What every process has, whether it answers requests or runs outputs."""

    database: Database
    studio: Studio
    registry: ModelRegistry
    providers: Mapping[str, Provider]
    """All that can be used here, the remote ones and our own."""
    image_writer: ImageWriter
    images: MongoImageRepository
    claims: MongoClaimRepository
    withdrawals: ModelAvailability
    jobs: TaskiqJobQueue


@asynccontextmanager
async def open_api(
    settings: Settings, *, grace_left: Callable[[], float] | None = None
) -> AsyncIterator[Api]:
    """Open everything that answers requests, and close it in reverse."""
    async with AsyncExitStack() as stack:
        base = await _open_base(settings, stack)
        database, image_writer, registry = base.database, base.image_writer, base.registry
        conversation_repository = MongoConversationRepository(database)
        turn_repository = MongoTurnRepository(database)
        turn_cursors = TurnCursors(base.studio.signer)
        hub = Hub(MongoChangeFeed(database), turn_repository, turn_cursors)
        jobs = base.jobs
        upload_processor = UploadSandbox()
        stack.push_async_callback(upload_processor.aclose)
        images = ImageService(base.images, image_writer)
        prompts = MongoPromptRepository(database)
        accounts = _accounts(settings, database)
        commands = CommandService(
            MongoIdempotencyRepository(database),
            conversation_repository,
            turn_repository,
            accounts,
            jobs,
        )
        conversations = ConversationService(
            conversation_repository, commands, accounts, images, registry, image_writer
        )
        turns = TurnService(
            turn_repository,
            conversation_repository,
            commands,
            accounts,
            EditPlanner(turn_repository, conversation_repository, images, registry),
            registry,
            jobs,
            image_writer,
        )
        services = Services(
            registry=registry,
            conversations=conversations,
            turns=turns,
            plans=PlanService(conversations, turns),
            images=images,
            uploads=UploadService(
                MongoUploadRepository(database),
                base.images,
                base.studio.objects,
                upload_processor,
                image_writer,
                max_bytes=settings.max_upload_bytes,
            ),
            prompts=PromptService(prompts),
            favourites=FavouriteService(base.images, prompts),
            accounts=accounts,
            turn_updates=TurnUpdates(hub, turn_repository, conversation_repository, turn_cursors),
            conversation_updates=ConversationUpdates(hub, conversation_repository),
            viewer_updates=ViewerUpdates(hub, accounts),
            links=base.studio.objects,
            turn_cursors=turn_cursors,
            page_cursors=PageCursors(base.studio.signer),
        )
        viewers = ViewerService(
            MongoViewerRepository(database), image_writer, _sample_maker(settings, base)
        )
        admission = Admission(await _authenticator(settings, stack), viewers)
        await stack.enter_async_context(hub.serve())
        await stack.enter_async_context(jobs.publishing())
        if settings.nats_url is None:
            await _run_outputs(base, stack, grace_left or (lambda: settings.shutdown_grace))
        else:
            await stack.enter_async_context(Sweeper(base.claims, None).serve())
        await stack.enter_async_context(_tidier(base).serve())
        yield Api(
            services=services,
            admission=admission,
            database=database,
            object_routes=base.studio.object_routes,
        )


@asynccontextmanager
async def open_worker(
    settings: Settings, *, grace_left: Callable[[], float]
) -> AsyncIterator[None]:
    """Run outputs until the block ends, and stop in order."""
    async with AsyncExitStack() as stack:
        base = await _open_base(settings, stack)
        await stack.enter_async_context(base.jobs.publishing())
        await _run_outputs(base, stack, grace_left)
        await stack.enter_async_context(_tidier(base).serve())
        yield


@asynccontextmanager
async def open_studio(settings: Settings) -> AsyncIterator[Studio]:
    """Open the providers that the settings have credentials for, and close them at the end."""
    async with AsyncExitStack() as stack:
        signer = Signer(secret_of(settings))
        objects, object_routes = await stack.enter_async_context(open_objects(settings, signer))
        image_processor = ThreadedImageProcessor()
        stack.push_async_callback(image_processor.aclose)
        remote: dict[str, Provider] = {}
        for provider in _providers_with_keys(settings, References(objects, image_processor)):
            stack.push_async_callback(provider.aclose)
            remote[provider.name] = provider
        yield Studio(
            objects=objects,
            object_routes=object_routes,
            signer=signer,
            image_processor=image_processor,
            remote=remote,
        )


async def _run_outputs(
    base: "_Base", stack: AsyncExitStack, grace_left: Callable[[], float]
) -> None:
    runner = OutputRunner(
        claims=base.claims,
        images=base.images,
        image_writer=base.image_writer,
        image_processor=base.studio.image_processor,
        registry=base.registry,
        providers=base.providers,
        withdrawals=base.withdrawals,
    )
    dispatcher = Dispatcher(base.claims, runner, base.registry, base.providers)
    # The end goes backwards: nothing new is looked for or taken, then what runs is brought to rest.
    stack.push_async_callback(lambda: dispatcher.stop(grace_left()))
    await stack.enter_async_context(base.jobs.receiving(dispatcher, places=dispatcher.places))
    await stack.enter_async_context(Sweeper(base.claims, dispatcher).serve())


def _tidier(base: _Base) -> OrphanCollector:
    return OrphanCollector(
        MongoPeriodicJobRepository(base.database),
        MongoUploadRepository(base.database),
        ObjectReconciler(base.studio.objects, MongoReferencedObjectRepository(base.database)),
    )


async def _open_base(settings: Settings, stack: AsyncExitStack) -> _Base:
    if settings.mongodb_uri is None:
        raise SettingsError(["DARKROOM_MONGODB_URI is needed here; `make run` starts a mongod."])
    database = await stack.enter_async_context(
        open_database(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)
    )
    studio = await stack.enter_async_context(open_studio(settings))
    local = LocalProvider(studio.objects)
    stack.push_async_callback(local.aclose)
    development = settings.environment == "development"
    providers: dict[str, Provider] = {local.name: local, **studio.remote}
    if development:
        rehearsal = RehearsalProvider(local)
        providers[rehearsal.name] = rehearsal
    registry = load_catalogue(rehearsals=development, with_credentials=providers)
    withdrawals = ModelAvailability(MongoWithdrawnModelRepository(database), registry)
    await stack.enter_async_context(withdrawals.serve())
    return _Base(
        database=database,
        studio=studio,
        registry=registry,
        providers=providers,
        image_writer=ImageWriter(studio.objects),
        images=MongoImageRepository(database),
        claims=MongoClaimRepository(database),
        withdrawals=withdrawals,
        jobs=TaskiqJobQueue(make_broker(settings.nats_url, database=settings.mongodb_database)),
    )


@asynccontextmanager
async def open_objects(
    settings: Settings, signer: Signer
) -> AsyncIterator[tuple[Objects, Sequence[Route]]]:
    """Where the bytes of pictures are, and the routes that links and offers lead to, if to us."""
    bucket = bucket_of(settings)
    if bucket is not None:
        async with open_bucket(bucket, operation_seconds=settings.s3_seconds) as store:
            yield store, ()
        return
    folder = FolderObjectStore(
        settings.data_dir / "objects", public_url=settings.public_url, signer=signer
    )
    origins = origin_pattern(settings.allowed_origins)
    try:
        yield (
            folder,
            [
                *signed_object_routes(folder),
                *signed_upload_routes(folder, origins=origins),
            ],
        )
    finally:
        await folder.aclose()


def bucket_of(settings: Settings) -> Bucket | None:
    """The bucket that the settings name, if they do."""
    if settings.s3_bucket is None:
        return None
    assert settings.s3_key_id
    assert settings.s3_secret
    assert settings.s3_addressing
    return Bucket(
        name=settings.s3_bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        addressing=settings.s3_addressing,
        key_id=settings.s3_key_id,
        secret=settings.s3_secret.get_secret_value(),
    )


def _providers_with_keys(settings: Settings, references: References) -> Iterator[_RemoteProvider]:
    ways: list[tuple[_Opens, SecretStr | None, str | None, int]] = [
        (FalProvider, settings.fal_key, settings.fal_url, settings.fal_places),
        (_openai, settings.openai_key, settings.openai_url, settings.openai_places),
        (partial(_azure, settings), settings.azure_key, settings.azure_url, settings.azure_places),
        (GeminiProvider, settings.gemini_key, settings.gemini_url, settings.gemini_places),
        (
            OpenRouterProvider,
            settings.openrouter_key,
            settings.openrouter_url,
            settings.openrouter_places,
        ),
        (
            ReplicateProvider,
            settings.replicate_key,
            settings.replicate_url,
            settings.replicate_places,
        ),
        (
            WavespeedProvider,
            settings.wavespeed_key,
            settings.wavespeed_url,
            settings.wavespeed_places,
        ),
    ]
    for opens, key, url, places in ways:
        if key is not None:
            assert url is not None
            yield opens(references, key=key.get_secret_value(), url=url, max_concurrent_runs=places)


def _openai(
    references: References, *, key: str, url: str, max_concurrent_runs: int
) -> OpenAIProvider:
    return OpenAIProvider(
        references, OpenAIBackend(key=key, url=url), max_concurrent_runs=max_concurrent_runs
    )


def _azure(
    settings: Settings, references: References, *, key: str, url: str, max_concurrent_runs: int
) -> OpenAIProvider:
    backend = AzureBackend(
        key=key,
        url=url,
        api_version=settings.azure_api_version,
        deployments=settings.azure_deployments,
    )
    return OpenAIProvider(references, backend, max_concurrent_runs=max_concurrent_runs)


def _accounts(settings: Settings, database: Database) -> AccountService:
    return AccountService(
        MongoAccountRepository(database),
        starting_credits=settings.starting_credits or 0,
        max_active_outputs=settings.max_active_outputs,
    )


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


def _sample_maker(settings: Settings, base: _Base) -> SampleMaker | None:
    if settings.environment != "development":
        return None
    local = base.providers["local"]
    models = tuple(model for model in base.registry.all() if model.provider == local.name)
    return SampleMaker(local, models, base.studio.image_processor)
