"""The composition root: the only module that knows concrete classes."""

import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx2
import structlog
from starlette.routing import Route

from domain.captions import CaptionModelRegistry
from domain.cleanup.collector import OrphanCollector
from domain.cleanup.erasure import ViewerEraser
from domain.cursors import PageCursors, TurnCursors
from domain.delivery.deliverer import Deliverer
from domain.errors import Overloaded, StoreUnavailable
from domain.execution.dispatcher import Dispatcher
from domain.execution.exporter import Exporter
from domain.execution.image_writer import ImageWriter
from domain.execution.importer import Importer
from domain.execution.model_availability import ModelAvailability
from domain.execution.runner import OutputRunner
from domain.execution.sweeper import Sweeper
from domain.models import ModelRegistry, Scene
from domain.ports.execution import HintQueue
from domain.ports.imaging import UploadProcessor
from domain.ports.objects import Objects
from domain.ports.providers import CaptionWriter, Provider
from domain.rates import Allowance, Rate
from domain.registry import RegisteredModel
from domain.retries import RetryPolicy, retry
from domain.services.accounts import AccountService
from domain.services.albums import AlbumService
from domain.services.blocked_viewers import BlockedViewers
from domain.services.branches import BranchService
from domain.services.choices import ChoiceService
from domain.services.commands import CommandService
from domain.services.conversations import ConversationService
from domain.services.edit_planning import EditPlanner
from domain.services.exports import ExportService
from domain.services.favourites import FavouriteService
from domain.services.images import ImageService
from domain.services.imports import ImportService
from domain.services.outputs import OutputService
from domain.services.plans import PlanService
from domain.services.posts import PostService
from domain.services.prompts import PromptService
from domain.services.rate_limits import RateLimits
from domain.services.shares import ShareService
from domain.services.turns import TurnService
from domain.services.uploads import UploadService
from domain.services.viewers import ViewerService
from domain.services.waiting_turns import WaitingTurns
from domain.services.webhooks import WebhookService
from domain.shares import ShareTokens
from domain.signing import Signer
from domain.webhooks import DeliveryRules
from edge.admission import Admission
from edge.auth import Authenticator
from edge.dev_tokens import DevelopmentIssuer
from edge.health import HealthRoutes
from edge.logos import logo_path, logo_routes
from edge.persisted import PersistedDocuments, read_trusted_documents
from edge.signed_objects import signed_object_routes
from edge.signed_uploads import signed_upload_routes
from edge.studio import SHARED_PATH
from edge.token_keys import FetchedKeys
from metrics.backlog import BacklogCollector
from metrics.outputs import ObservedClaims, ObservedOutputs, ObservedProvider, ObservedWriter
from metrics.series import Metrics
from metrics.storage import (
    DatabaseMetrics,
    ObservedObjects,
    ObservedReconciler,
    ObservedUploads,
)
from metrics.updates import ObservedFeed, UpdateMetrics
from outbound.webhooks import HttpWebhookSender
from providers.catalogue import (
    CatalogueError,
    UnknownDefaultModel,
    load_caption_models,
    load_catalogue,
)
from providers.fal.provider import FalProvider
from providers.gemini.provider import GeminiProvider
from providers.gemini.writer import GeminiWriter
from providers.local.provider import LocalProvider
from providers.local.writer import LocalWriter, compose_caption
from providers.openai.backends import AzureBackend, OpenAIBackend
from providers.openai.provider import OpenAIProvider
from providers.openai.writer import OpenAIWriter
from providers.openrouter.provider import OpenRouterProvider
from providers.openrouter.writer import OpenRouterWriter
from providers.own_catalogue import OwnCatalogue, OwnCatalogueError, read_own_catalogue
from providers.references import References
from providers.rehearsal import RehearsalProvider, RehearsalWriter
from providers.replicate.provider import ReplicateProvider
from providers.wavespeed.provider import WavespeedProvider
from schema.services import Services
from settings import (
    AzureSettings,
    ProviderSettings,
    Settings,
    SettingsError,
    origin_pattern,
    other_secrets_of,
    secret_of,
    variable_of,
)
from storage.imaging.content_credentials import ContentCredentials, CredentialsError
from storage.imaging.samples import load_samples
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.threaded import ThreadedImageProcessor
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.backlog import MongoBacklogRepository
from storage.mongo.branches import MongoBranchRepository
from storage.mongo.buckets import MongoBucketRepository
from storage.mongo.change_feed import MongoChangeFeed
from storage.mongo.choices import MongoChoiceRepository
from storage.mongo.contacts import MongoContactRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database, open_database
from storage.mongo.documents import MongoDocumentRepository
from storage.mongo.erasures import MongoErasureRepository
from storage.mongo.idempotency import MongoIdempotencyRepository
from storage.mongo.images import MongoImageRepository
from storage.mongo.jobs import MongoExportRepository, MongoImportRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository
from storage.mongo.model_stats import MongoModelStatsRepository
from storage.mongo.outbox import MongoOutboxRepository
from storage.mongo.parents import MongoOutputRepository
from storage.mongo.periodic import MongoPeriodicJobRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.prompts import MongoPromptRepository
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from storage.mongo.shares import MongoShareRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.uploads import MongoUploadRepository
from storage.mongo.viewers import MongoViewerRepository
from storage.mongo.waiting_turns import MongoWaitingTurnRepository
from storage.mongo.webhooks import MongoWebhookRepository
from storage.objects.folder import FolderObjectStore
from storage.objects.s3 import Bucket, open_bucket
from subscriptions.conversations import ConversationUpdates
from subscriptions.hub import Hub
from subscriptions.posts import PostUpdates
from subscriptions.shares import SharedTurnUpdates
from subscriptions.turns import TurnUpdates
from subscriptions.viewer import ViewerUpdates

_WHILE_STARTING: Final = RetryPolicy(
    first_pause_seconds=0.2, longest_pause_seconds=1.0, max_seconds=60
)
DELIVERY_RULES: Final = DeliveryRules()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Everything that answers requests, open and ready."""

    services: Services
    admission: Admission
    blocked_viewers: BlockedViewers
    database: Database
    metrics: Metrics
    persisted_documents: PersistedDocuments
    object_routes: Sequence[Route]
    """Where signed URLs lead to, if they lead to this process."""
    logo_routes: Sequence[Route]


class _RemoteProvider(Provider, Protocol):
    async def aclose(self) -> None: ...


class _RemoteWriter(CaptionWriter, Protocol):
    async def aclose(self) -> None: ...


class _OpenProvider(Protocol):
    """A provider that is opened with a key, a URL, and its maximum of concurrent runs."""

    def __call__(
        self, references: References, /, *, key: str, url: str, max_concurrent_runs: int
    ) -> _RemoteProvider: ...


class _OpenWriter(Protocol):
    """The same for a writer."""

    def __call__(
        self, references: References, /, *, key: str, url: str, max_concurrent_runs: int
    ) -> _RemoteWriter: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTools:
    """What makes, decodes and stores images. It needs no database."""

    objects: Objects
    object_routes: Sequence[Route]
    signer: Signer
    image_processor: ThreadedImageProcessor
    remote: Mapping[str, Provider]
    """Providers that have credentials here, by name."""
    remote_writers: Mapping[str, CaptionWriter]
    """The writers among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What every process has, whether it answers requests or runs outputs."""

    metrics: Metrics
    database: Database
    image_tools: ImageTools
    objects: Objects
    registry: ModelRegistry
    providers: Mapping[str, Provider]
    """All that can be used here: with credentials, local, and rehearsals."""
    caption_models: CaptionModelRegistry
    writers: Mapping[str, CaptionWriter]
    image_writer: ImageWriter
    images: MongoImageRepository
    claims: ObservedClaims
    availability: ModelAvailability
    webhook_sender: HttpWebhookSender


@asynccontextmanager
async def open_api(
    settings: Settings,
    *,
    grace_left: Callable[[], float] | None = None,
    metrics_listener: socket.socket | None = None,
) -> AsyncIterator[Api]:
    """Open everything that answers requests, and close it in reverse."""
    async with AsyncExitStack() as stack:
        base = await _open_base(settings, stack)
        dispatcher = None if settings.nats_url else _make_dispatcher(base)
        hints = dispatcher or await _open_publisher(settings, stack)
        upload_processor = UploadSandbox()
        stack.push_async_callback(upload_processor.aclose)
        hub = _make_hub(base)
        eraser = _make_viewer_eraser(base)
        waiting = _make_waiting_turns(settings, base, hints=hints)
        exporter = _make_exporter(base)
        importer = _make_importer(base, upload_processor)
        services = _make_services(
            settings,
            base,
            hub=hub,
            hints=hints,
            upload_processor=upload_processor,
            eraser=eraser,
            waiting=waiting,
            exporter=exporter,
            importer=importer,
        )
        blocked = BlockedViewers(MongoViewerRepository(base.database))
        # Known before the first request is answered.
        await retry(blocked.refresh, on=Overloaded, policy=_WHILE_STARTING)
        await stack.enter_async_context(blocked.serve())
        _show_subscriptions(base.metrics, hub)
        admission = Admission(await _open_authenticator(settings, stack), services.viewers, blocked)
        await stack.enter_async_context(hub.serve())
        if dispatcher is not None:
            _stop_at_end(dispatcher, stack, grace_left or (lambda: settings.shutdown_grace))
            await stack.enter_async_context(_make_deliverer(base).serve())
            _show_slots(base.metrics, dispatcher)
        await stack.enter_async_context(_make_sweeper(base, dispatcher).serve())
        await stack.enter_async_context(_make_orphan_collector(base).serve())
        await stack.enter_async_context(eraser.serve())
        await stack.enter_async_context(waiting.serve())
        await stack.enter_async_context(exporter.serve())
        await stack.enter_async_context(importer.serve())
        await _serve_operators(base, metrics_listener, stack)
        yield Api(
            services=services,
            admission=admission,
            blocked_viewers=blocked,
            database=base.database,
            metrics=base.metrics,
            persisted_documents=PersistedDocuments(
                MongoDocumentRepository(base.database),
                trusted=load_trusted_documents(settings),
                only_trusted=settings.only_trusted_documents,
            ),
            object_routes=base.image_tools.object_routes,
            logo_routes=logo_routes({model.company for model in base.registry.all()}),
        )


@asynccontextmanager
async def open_worker(
    settings: Settings,
    *,
    grace_left: Callable[[], float],
    metrics_listener: socket.socket | None = None,
) -> AsyncIterator[None]:
    """Run outputs until the block ends, and stop in order."""
    async with AsyncExitStack() as stack:
        base = await _open_base(settings, stack)
        dispatcher = _make_dispatcher(base)
        _stop_at_end(dispatcher, stack, grace_left)
        _show_slots(base.metrics, dispatcher)
        await _receive_hints(settings, dispatcher, stack)
        await stack.enter_async_context(_make_deliverer(base).serve())
        await stack.enter_async_context(_make_sweeper(base, dispatcher).serve())
        await stack.enter_async_context(_make_orphan_collector(base).serve())
        await stack.enter_async_context(_make_viewer_eraser(base).serve())
        await stack.enter_async_context(_make_exporter(base).serve())
        await _serve_operators(base, metrics_listener, stack)
        yield


async def _serve_operators(
    base: _Base, listener: socket.socket | None, stack: AsyncExitStack
) -> None:
    if listener is None:
        return
    # Imported here, because it is a server that most installations do not start.
    from metrics.server import serve_metrics  # noqa: PLC0415

    backlog = BacklogCollector(
        MongoBacklogRepository(base.database), base.registry, base.caption_models
    )
    health = HealthRoutes(base.database.ping)
    await stack.enter_async_context(
        serve_metrics(listener, base.metrics, backlog=backlog, health=health)
    )


def _show_subscriptions(metrics: Metrics, hub: Hub) -> None:
    metrics.read("darkroom_subscriptions", "Open subscriptions.", lambda: hub.subscriber_count)
    metrics.read(
        "darkroom_followed_conversations",
        "Conversations with subscribers to their turns.",
        lambda: hub.conversation_count,
    )


def _show_slots(metrics: Metrics, dispatcher: Dispatcher) -> None:
    for provider, limit in dispatcher.limits.items():
        metrics.slots.labels(provider).set(limit)
        taken = partial(_count_running, dispatcher, provider)
        metrics.slots_taken.labels(provider).set_function(taken)


def _count_running(dispatcher: Dispatcher, provider: str) -> int:
    return dispatcher.running.get(provider, 0)


@asynccontextmanager
async def open_image_tools(settings: Settings) -> AsyncIterator[ImageTools]:
    """Open the providers that the settings have credentials for, and close them at the end."""
    async with AsyncExitStack() as stack:
        signer = Signer(secret_of(settings), accepted=other_secrets_of(settings))
        objects, object_routes = await stack.enter_async_context(open_objects(settings, signer))
        image_processor = ThreadedImageProcessor(credentials=_read_credentials(settings))
        stack.push_async_callback(image_processor.aclose)
        references = References(objects, image_processor)
        remote: dict[str, Provider] = {}
        for provider in _open_providers(settings, references):
            stack.push_async_callback(provider.aclose)
            remote[provider.name] = provider
        remote_writers: dict[str, CaptionWriter] = {}
        for writer in _open_writers(settings, references):
            stack.push_async_callback(writer.aclose)
            remote_writers[writer.name] = writer
        yield ImageTools(
            objects=objects,
            object_routes=object_routes,
            signer=signer,
            image_processor=image_processor,
            remote=remote,
            remote_writers=remote_writers,
        )


def _read_credentials(settings: Settings) -> ContentCredentials | None:
    """What signs generated images, if anything does. Raise `SettingsError` if it cannot."""
    if settings.c2pa_certificate is None or settings.c2pa_key is None:
        return None
    try:
        return ContentCredentials.read(settings.c2pa_certificate, settings.c2pa_key)
    except CredentialsError as error:
        raise SettingsError([f"{variable_of('c2pa_certificate')}: {error}"]) from error


def _make_hub(base: _Base) -> Hub:
    return Hub(
        ObservedFeed(MongoChangeFeed(base.database), base.metrics),
        TurnCursors(base.image_tools.signer),
        MongoAccountRepository(base.database).list_existing,
        observer=UpdateMetrics(base.metrics),
    )


def _make_services(
    settings: Settings,
    base: _Base,
    *,
    hub: Hub,
    hints: HintQueue,
    upload_processor: UploadProcessor,
    eraser: ViewerEraser,
    waiting: WaitingTurns,
    exporter: Exporter,
    importer: Importer,
) -> Services:
    """Put together what resolvers call. It opens nothing."""
    conversation_repository = MongoConversationRepository(base.database)
    turn_repository = MongoTurnRepository(base.database)
    output_repository = ObservedOutputs(
        base.database, base.metrics, base.registry, base.caption_models
    )
    prompt_repository = MongoPromptRepository(base.database)
    turn_cursors = TurnCursors(base.image_tools.signer)
    images = ImageService(base.images, base.image_writer)
    accounts = _make_account_service(settings, base.database)
    commands = CommandService(
        records=MongoIdempotencyRepository(base.database),
        conversations=conversation_repository,
        turns=turn_repository,
        accounts=accounts,
        hints=hints,
    )
    conversations = ConversationService(
        conversation_repository,
        commands,
        accounts,
        images,
        base.registry,
        base.image_writer,
        timedelta(days=settings.restore_days) if settings.restore_days else None,
    )
    turns = TurnService(
        turns=turn_repository,
        conversations=conversation_repository,
        commands=commands,
        accounts=accounts,
        edits=waiting.edits,
        outputs=output_repository,
        hints=hints,
        waiting=waiting,
    )
    outputs = OutputService(
        outputs=output_repository,
        commands=commands,
        accounts=accounts,
        registry=base.registry,
        hints=hints,
        image_writer=base.image_writer,
    )
    post_repository = MongoPostRepository(base.database)
    posts = PostService(
        posts=post_repository,
        outputs=output_repository,
        commands=commands,
        accounts=accounts,
        images=images,
        registry=base.registry,
        caption_models=base.caption_models,
        hints=hints,
        image_writer=base.image_writer,
    )
    turn_updates = TurnUpdates(hub, turn_repository, turn_cursors)
    shares = ShareService(
        MongoShareRepository(base.database),
        conversation_repository,
        ShareTokens(base.image_tools.signer),
        page_url=settings.public_url + SHARED_PATH,
    )
    return Services(
        registry=base.registry,
        caption_models=base.caption_models,
        conversations=conversations,
        turns=turns,
        branches=BranchService(
            MongoBranchRepository(base.database), turn_repository, hints, base.image_writer
        ),
        choices=ChoiceService(
            turn_repository,
            MongoChoiceRepository(base.database),
            MongoModelStatsRepository(base.database),
        ),
        outputs=outputs,
        posts=posts,
        plans=PlanService(conversations, turns),
        images=images,
        uploads=_make_upload_service(settings, base, upload_processor=upload_processor),
        prompts=PromptService(prompt_repository),
        webhooks=WebhookService(
            MongoWebhookRepository(base.database), accounts, base.webhook_sender
        ),
        favourites=FavouriteService(base.images, prompt_repository),
        albums=AlbumService(MongoAlbumRepository(base.database), base.images),
        exports=ExportService(
            MongoExportRepository(base.database), conversation_repository, accounts, exporter.look
        ),
        imports=ImportService(
            MongoImportRepository(base.database),
            MongoUploadRepository(base.database),
            accounts,
            base.objects,
            importer.look,
        ),
        shares=shares,
        viewers=_make_viewer_service(settings, base, eraser=eraser),
        accounts=accounts,
        rate_limits=_make_rate_limits(settings, base.database),
        turn_updates=turn_updates,
        shared_turn_updates=SharedTurnUpdates(hub, turn_updates, shares),
        conversation_updates=ConversationUpdates(hub, conversation_repository),
        post_updates=PostUpdates(hub, post_repository),
        viewer_updates=ViewerUpdates(hub, accounts),
        links=base.objects,
        turn_cursors=turn_cursors,
        page_cursors=PageCursors(base.image_tools.signer),
    )


def _make_rate_limits(settings: Settings, database: Database) -> RateLimits:
    limit = settings.limit
    cost = Rate(limit.cost, limit.cost_per_second)
    viewer = Rate(limit.viewer_requests, limit.viewer_requests_per_second)
    address = Rate(limit.address_requests, limit.address_requests_per_second)
    return RateLimits(
        MongoBucketRepository(database),
        viewer=Allowance(requests=viewer, cost=cost),
        address=Allowance(requests=address, cost=cost),
    )


def _make_waiting_turns(settings: Settings, base: _Base, *, hints: HintQueue) -> WaitingTurns:
    turns = MongoTurnRepository(base.database)
    conversations = MongoConversationRepository(base.database)
    images = ImageService(base.images, base.image_writer)
    return WaitingTurns(
        waiting=MongoWaitingTurnRepository(base.database),
        turns=turns,
        conversations=conversations,
        edits=EditPlanner(turns, conversations, images, base.registry),
        accounts=_make_account_service(settings, base.database),
        hints=hints,
    )


def _make_upload_service(
    settings: Settings, base: _Base, *, upload_processor: UploadProcessor
) -> UploadService:
    return UploadService(
        ObservedUploads(base.database, base.metrics),
        base.images,
        store=base.objects,
        image_processor=upload_processor,
        image_writer=base.image_writer,
        max_bytes=settings.max_upload_bytes,
        max_import_bytes=settings.max_import_bytes,
    )


def _make_viewer_eraser(base: _Base) -> ViewerEraser:
    return ViewerEraser(
        MongoErasureRepository(base.database),
        MongoOutputRepository(base.database),
        MongoConversationRepository(base.database),
        MongoPostRepository(base.database),
        base.objects,
    )


def _make_importer(base: _Base, upload_processor: UploadProcessor) -> Importer:
    """Only API processes have a sandbox."""
    return Importer(
        MongoImportRepository(base.database),
        base.images,
        base.objects,
        upload_processor=upload_processor,
        image_processor=base.image_tools.image_processor,
    )


def _make_exporter(base: _Base) -> Exporter:
    return Exporter(
        MongoExportRepository(base.database),
        MongoConversationRepository(base.database),
        MongoTurnRepository(base.database),
        base.images,
        base.objects,
    )


def _make_viewer_service(settings: Settings, base: _Base, *, eraser: ViewerEraser) -> ViewerService:
    return ViewerService(
        MongoViewerRepository(base.database),
        base.image_writer,
        load_samples if settings.environment == "development" else None,
        eraser,
    )


def _make_sweeper(base: _Base, dispatcher: Dispatcher | None) -> Sweeper:
    return Sweeper(base.claims, dispatcher, MongoContactRepository(base.database))


def _make_deliverer(base: _Base) -> Deliverer:
    outbox = MongoOutboxRepository(base.database)
    return Deliverer(outbox, base.webhook_sender, rules=DELIVERY_RULES)


def _make_dispatcher(base: _Base) -> Dispatcher:
    runner = OutputRunner(
        claims=base.claims,
        images=base.images,
        image_writer=base.image_writer,
        image_processor=base.image_tools.image_processor,
        registry=base.registry,
        providers=base.providers,
        caption_models=base.caption_models,
        writers=base.writers,
        availability=base.availability,
    )
    return Dispatcher(base.claims, runner)


def _stop_at_end(
    dispatcher: Dispatcher, stack: AsyncExitStack, grace_left: Callable[[], float]
) -> None:
    # The stack closes in reverse: what starts outputs has ended before the runs are stopped.
    stack.push_async_callback(lambda: dispatcher.stop(grace_left()))


async def _open_publisher(settings: Settings, stack: AsyncExitStack) -> HintQueue:
    # Imported here, because most installations have no NATS.
    from storage.queue.connection import NatsConnection  # noqa: PLC0415
    from storage.queue.publisher import NatsPublisher  # noqa: PLC0415

    assert settings.nats_url
    connection = NatsConnection(
        settings.nats_url, database=settings.mongodb_database, ca_file=settings.nats_ca_file
    )
    await stack.enter_async_context(connection.serve())
    publisher = NatsPublisher(connection)
    await stack.enter_async_context(publisher.serve())
    return publisher


async def _receive_hints(settings: Settings, dispatcher: Dispatcher, stack: AsyncExitStack) -> None:
    from storage.queue.connection import NatsConnection  # noqa: PLC0415
    from storage.queue.consumer import NatsConsumer  # noqa: PLC0415

    assert settings.nats_url
    connection = NatsConnection(
        settings.nats_url, database=settings.mongodb_database, ca_file=settings.nats_ca_file
    )
    await stack.enter_async_context(connection.serve())
    limit = dispatcher.max_concurrent_runs
    consumer = NatsConsumer(connection, dispatcher, max_concurrent_runs=limit)
    await stack.enter_async_context(consumer.serve())


def _make_orphan_collector(base: _Base) -> OrphanCollector:
    return OrphanCollector(
        MongoPeriodicJobRepository(base.database),
        MongoUploadRepository(base.database),
        ObservedReconciler(
            base.objects, MongoReferencedObjectRepository(base.database), base.metrics
        ),
    )


async def _open_base(settings: Settings, stack: AsyncExitStack) -> _Base:
    if settings.mongodb_uri is None:
        raise SettingsError(["DARKROOM_MONGODB_URI is needed here; `make run` starts a mongod."])
    metrics = Metrics()
    database = await stack.enter_async_context(
        open_database(
            settings.mongodb_uri.get_secret_value(),
            settings.mongodb_database,
            observer=DatabaseMetrics(metrics),
        )
    )
    tools = await stack.enter_async_context(open_image_tools(settings))
    local = LocalProvider(tools.objects)
    stack.push_async_callback(local.aclose)
    development = settings.environment == "development"
    providers: dict[str, Provider] = {local.name: local, **tools.remote}
    local_writer = LocalWriter()
    writers: dict[str, CaptionWriter] = {local_writer.name: local_writer, **tools.remote_writers}
    if development:
        rehearsal = RehearsalProvider(local)
        providers[rehearsal.name] = rehearsal
        rehearsal_writer = RehearsalWriter(compose_caption)
        writers[rehearsal_writer.name] = rehearsal_writer
    registry = load_registry(settings, with_credentials=providers)
    caption_models = load_caption_registry(settings, with_credentials=writers)
    _log_defaults(registry, caption_models)
    in_use = registry.providers_in_use() | caption_models.providers_in_use()
    for name in sorted(tools.remote.keys() - in_use):
        log.warning("key opens no model", provider=name)
    availability = ModelAvailability(
        MongoModelAvailabilityRepository(database), registry, caption_models
    )
    await stack.enter_async_context(availability.serve())
    sender = HttpWebhookSender(allows_loopback=development, seconds=DELIVERY_RULES.request_seconds)
    stack.push_async_callback(sender.aclose)
    objects = ObservedObjects(tools.objects, metrics)
    return _Base(
        metrics=metrics,
        database=database,
        image_tools=tools,
        objects=objects,
        registry=registry,
        providers={name: ObservedProvider(one, metrics) for name, one in providers.items()},
        caption_models=caption_models,
        writers={name: ObservedWriter(one, metrics) for name, one in writers.items()},
        image_writer=ImageWriter(objects),
        images=MongoImageRepository(database),
        claims=ObservedClaims(database, metrics, registry, caption_models),
        availability=availability,
        webhook_sender=sender,
    )


def load_registry(settings: Settings, *, with_credentials: Collection[str] = ()) -> ModelRegistry:
    """The model catalogue under these settings. Raise `SettingsError` if they do not fit it."""
    with _catalogue_errors("default_models"):
        return load_catalogue(
            rehearsals=settings.environment == "development",
            with_credentials=with_credentials,
            local_models=bool(settings.local_models),
            default_models=settings.default_models,
            logo_url_of=lambda company: settings.public_url + logo_path(company),
            own=_own_catalogue(settings),
        )


def load_caption_registry(
    settings: Settings, *, with_credentials: Collection[str] = ()
) -> CaptionModelRegistry:
    """The same for caption models."""
    with _catalogue_errors("default_caption_models"):
        return load_caption_models(
            rehearsals=settings.environment == "development",
            with_credentials=with_credentials,
            local_models=bool(settings.local_models),
            default_models=settings.default_caption_models,
            own=_own_catalogue(settings),
        )


def _own_catalogue(settings: Settings) -> OwnCatalogue | None:
    return read_own_catalogue(settings.catalogue) if settings.catalogue is not None else None


@contextmanager
def _catalogue_errors(defaults: str) -> Iterator[None]:
    """Say which setting does not fit the catalogue."""
    try:
        yield
    except UnknownDefaultModel as error:
        raise SettingsError([f"{variable_of(defaults)}: {error}"]) from error
    except (OwnCatalogueError, CatalogueError) as error:
        raise SettingsError([f"{variable_of('catalogue')}: {error}"]) from error


def load_trusted_documents(settings: Settings) -> Mapping[str, str]:
    """Documents by id. Raise `SettingsError` if the file cannot be read."""
    path = settings.trusted_documents
    if path is None:
        return {}
    try:
        return read_trusted_documents(path)
    except (OSError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or "it is not a list of documents"
        raise SettingsError(
            [f"{variable_of('trusted_documents')}={path} cannot be read: {reason}."]
        ) from error


def _log_defaults(registry: ModelRegistry, caption_models: CaptionModelRegistry) -> None:
    defaults: dict[str, RegisteredModel | None] = {
        scene.value: registry.default(scene) for scene in Scene
    }
    defaults["caption"] = caption_models.default()
    for scene, default in defaults.items():
        write = log.info if default else log.warning
        write("default model", scene=scene, model=default.id if default else None)


@asynccontextmanager
async def open_objects(
    settings: Settings, signer: Signer
) -> AsyncIterator[tuple[Objects, Sequence[Route]]]:
    """The object store, and routes for its signed URLs and presigned uploads if it is a folder."""
    bucket = bucket_of(settings)
    if bucket is not None:
        async with AsyncExitStack() as stack:
            opening = open_bucket(bucket, operation_seconds=settings.s3_seconds)
            try:
                store = await stack.enter_async_context(opening)
            except StoreUnavailable as error:
                raise SettingsError([f"{variable_of('s3_bucket')}: {error}."]) from error
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


def image_origins(settings: Settings) -> Sequence[str]:
    """The origins that images have URLs of, and that uploads are sent to."""
    bucket = bucket_of(settings)
    url = urlsplit(settings.public_url if bucket is None else bucket.public_url)
    return [f"{url.scheme}://{url.netloc}"]


def bucket_of(settings: Settings) -> Bucket | None:
    """The bucket of the settings, if they name one."""
    if settings.s3_bucket is None:
        return None
    assert settings.s3_addressing
    return Bucket(
        name=settings.s3_bucket,
        region=settings.s3_region,
        endpoint=settings.s3_endpoint,
        public_endpoint=settings.s3_public_endpoint,
        addressing=settings.s3_addressing,
        key_id=settings.s3_key_id or "",
        secret=settings.s3_secret.get_secret_value() if settings.s3_secret else "",
    )


def _open_providers(settings: Settings, references: References) -> Iterator[_RemoteProvider]:
    openers: list[tuple[_OpenProvider, ProviderSettings | AzureSettings]] = [
        (FalProvider, settings.fal),
        (_open_openai, settings.openai),
        (partial(_open_azure, settings.azure), settings.azure),
        (GeminiProvider, settings.gemini),
        (OpenRouterProvider, settings.openrouter),
        (ReplicateProvider, settings.replicate),
        (WavespeedProvider, settings.wavespeed),
    ]
    for open_provider, provider_settings in openers:
        if provider_settings.key is not None and provider_settings.url is not None:
            yield open_provider(
                references,
                key=provider_settings.key.get_secret_value(),
                url=provider_settings.url,
                max_concurrent_runs=provider_settings.max_concurrent_runs,
            )


def _open_writers(settings: Settings, references: References) -> Iterator[_RemoteWriter]:
    openers: list[tuple[_OpenWriter, ProviderSettings]] = [
        (OpenAIWriter, settings.openai),
        (GeminiWriter, settings.gemini),
        (OpenRouterWriter, settings.openrouter),
    ]
    for open_writer, provider_settings in openers:
        if provider_settings.key is not None:
            yield open_writer(
                references,
                key=provider_settings.key.get_secret_value(),
                url=provider_settings.url,
                max_concurrent_runs=provider_settings.max_concurrent_runs,
            )


def _open_openai(
    references: References, *, key: str, url: str, max_concurrent_runs: int
) -> OpenAIProvider:
    backend = OpenAIBackend(key=key, url=url)
    return OpenAIProvider(references, backend, max_concurrent_runs=max_concurrent_runs)


def _open_azure(
    settings: AzureSettings,
    references: References,
    *,
    key: str,
    url: str,
    max_concurrent_runs: int,
) -> OpenAIProvider:
    backend = AzureBackend(
        key=key, url=url, api_version=settings.api_version, deployments=settings.deployments
    )
    return OpenAIProvider(references, backend, max_concurrent_runs=max_concurrent_runs)


def _make_account_service(settings: Settings, database: Database) -> AccountService:
    return AccountService(
        MongoAccountRepository(database),
        starting_credits=settings.starting_credits or 0,
        max_active_outputs=settings.max_active_outputs,
    )


async def _open_authenticator(settings: Settings, stack: AsyncExitStack) -> Authenticator:
    if settings.environment == "development":
        return DevelopmentIssuer(settings.data_dir).authenticator()
    assert settings.token_issuer
    if not settings.token_audience and not settings.token_authorized_parties:
        log.warning(
            "tokens for any application accepted",
            reason="neither DARKROOM_TOKEN_AUDIENCE nor DARKROOM_TOKEN_AUTHORIZED_PARTIES is set",
        )
    http = await stack.enter_async_context(httpx2.AsyncClient())
    keys = FetchedKeys(settings.jwks_url, http, issuer=settings.token_issuer)
    stack.push_async_callback(keys.aclose)
    return Authenticator(
        keys,
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        authorized_parties=settings.token_authorized_parties,
        algorithms=settings.token_algorithms,
        longest_life=timedelta(seconds=settings.token_max_seconds),
    )
