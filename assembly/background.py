"""Makes the background services: those that run outputs, deliver webhooks, export, import and
clean up.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from assembly.base import DELIVERY_RULES, Base
from domain.cleanup.collector import OrphanCollector
from domain.cleanup.erasure import ViewerEraser
from domain.cleanup.expiry import ExpiryCleaner
from domain.cleanup.store_ownership import StoreOwnership
from domain.delivery.deliverer import Deliverer
from domain.execution.dispatcher import Dispatcher, never
from domain.execution.exporter import Exporter
from domain.execution.image_imports import ImageImports
from domain.execution.importer import Importer
from domain.execution.permits import Permits
from domain.execution.runner import OutputRunner
from domain.execution.sweeper import Sweeper
from domain.ports.execution import HintQueue
from domain.ports.imaging import UploadProcessor
from metrics.storage import ObservedReconciler
from settings import Settings
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.contacts import MongoContactRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.erasures import MongoErasureRepository
from storage.mongo.imports import MongoImportRepository
from storage.mongo.jobs import MongoExportRepository
from storage.mongo.outbox import MongoOutboxRepository
from storage.mongo.outputs import MongoOutputRepository
from storage.mongo.periodic import MongoPeriodicJobRepository
from storage.mongo.permits import MongoPermitRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.referenced_objects import MongoReferencedObjectRepository
from storage.mongo.trash import MongoTrashRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.uploads import MongoUploadRepository

if TYPE_CHECKING:
    from storage.queue.connection import NatsConnection


def make_permits(settings: Settings, base: Base) -> Permits:
    limits = {
        name: limit
        for name in base.image_tools.remote
        if (limit := getattr(settings, name).max_total_runs) is not None
    }
    return Permits(MongoPermitRepository(base.database), limits)


def make_dispatcher(
    base: Base, permits: Permits, *, is_ending: Callable[[], bool] = never
) -> Dispatcher:
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
        tracer=base.tracer,
    )
    return Dispatcher(base.claims, runner, permits, is_ending=is_ending)


def stop_runs_at_exit(
    dispatcher: Dispatcher, stack: AsyncExitStack, grace_left: Callable[[], float]
) -> None:
    # The stack closes in reverse: everything that starts outputs has ended before the runs are
    # stopped.
    stack.push_async_callback(lambda: dispatcher.stop(grace_left()))


def make_sweeper(base: Base, dispatcher: Dispatcher | None) -> Sweeper:
    return Sweeper(base.claims, dispatcher, MongoContactRepository(base.database))


def make_deliverer(base: Base) -> Deliverer:
    outbox = MongoOutboxRepository(base.database)
    return Deliverer(outbox, base.webhook_sender, rules=DELIVERY_RULES, tracer=base.tracer)


def make_viewer_eraser(base: Base) -> ViewerEraser:
    return ViewerEraser(
        MongoErasureRepository(base.database),
        outputs=MongoOutputRepository(base.database),
        conversations=MongoConversationRepository(base.database),
        posts=MongoPostRepository(base.database),
        objects=base.objects,
    )


def make_importer(base: Base, upload_processor: UploadProcessor) -> Importer:
    """Make the importer. Only API processes have a sandbox, which decodes imported images."""
    imports = MongoImportRepository(base.database)
    image_imports = ImageImports(
        imports,
        base.images,
        base.objects,
        upload_processor=upload_processor,
        image_marker=base.image_tools.image_processor,
    )
    return Importer(imports, image_imports, base.objects)


def make_exporter(base: Base) -> Exporter:
    return Exporter(
        MongoExportRepository(base.database),
        conversations=MongoConversationRepository(base.database),
        turns=MongoTurnRepository(base.database),
        posts=MongoPostRepository(base.database),
        albums=MongoAlbumRepository(base.database),
        images=base.images,
        objects=base.objects,
    )


def make_orphan_collector(base: Base) -> OrphanCollector:
    periodic_jobs = MongoPeriodicJobRepository(base.database)
    referenced = MongoReferencedObjectRepository(base.database)
    expiry = ExpiryCleaner(
        periodic_jobs,
        StoreOwnership(base.objects, referenced),
        expiring={
            "uploads": MongoUploadRepository(base.database),
            "exports": MongoExportRepository(base.database),
        },
        restorable={"trash": MongoTrashRepository(base.database)},
    )
    reconciler = ObservedReconciler(base.objects, referenced, base.metrics)
    return OrphanCollector(periodic_jobs, expiry, reconciler)


async def open_publisher(settings: Settings, stack: AsyncExitStack) -> HintQueue:
    # Imported here, because most installations have no NATS.
    from storage.queue.publisher import NatsPublisher  # noqa: PLC0415

    publisher = NatsPublisher(await _connect(settings, stack))
    await stack.enter_async_context(publisher.serve())
    return publisher


async def receive_hints(settings: Settings, dispatcher: Dispatcher, stack: AsyncExitStack) -> None:
    from storage.queue.consumer import NatsConsumer  # noqa: PLC0415

    connection = await _connect(settings, stack)
    limit = dispatcher.max_concurrent_runs
    consumer = NatsConsumer(connection, dispatcher, max_concurrent_runs=limit)
    await stack.enter_async_context(consumer.serve())


async def _connect(settings: Settings, stack: AsyncExitStack) -> "NatsConnection":
    from storage.queue.connection import NatsConnection  # noqa: PLC0415

    assert settings.nats_url
    connection = NatsConnection(
        settings.nats_url, database=settings.mongodb_database, ca_file=settings.nats_ca_file
    )
    await stack.enter_async_context(connection.serve())
    return connection
