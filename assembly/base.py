"""What every process has, whether it answers requests or runs outputs."""

from collections.abc import Mapping, Set
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import structlog

from assembly.catalogue import load_caption_registry, load_registry, log_defaults
from assembly.image_tools import ImageTools, open_image_tools
from assembly.traces import open_tracer
from domain.captions import CaptionModelRegistry
from domain.execution.image_writer import ImageWriter
from domain.execution.model_availability import ModelAvailability
from domain.models import ModelRegistry
from domain.ports.objects import Objects
from domain.ports.providers import CaptionWriter, Provider
from domain.traces import Tracer
from domain.webhooks import DeliveryRules
from metrics.outputs import ObservedClaims, ObservedProvider, ObservedWriter
from metrics.series import Metrics
from metrics.storage import (
    DatabaseMetrics,
    ObservedObjects,
)
from outbound.webhooks import HttpWebhookSender
from providers.local.provider import LocalProvider
from providers.local.writer import LocalWriter, compose_caption
from providers.rehearsal import RehearsalProvider, RehearsalWriter
from settings import Settings, SettingsError
from storage.mongo.database import Database, open_database
from storage.mongo.images import MongoImageRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository

log = structlog.get_logger(__name__)


DELIVERY_RULES: Final = DeliveryRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What every process has, whether it answers requests or runs outputs."""

    metrics: Metrics
    tracer: Tracer | None
    """None where operators have not enabled traces."""
    database: Database
    image_tools: ImageTools
    objects: Objects
    registry: ModelRegistry
    providers: Mapping[str, Provider]
    """All providers that can be used here: remote ones with credentials, local ones, and
    rehearsals.
    """
    caption_models: CaptionModelRegistry
    writers: Mapping[str, CaptionWriter]
    image_writer: ImageWriter
    images: MongoImageRepository
    claims: ObservedClaims
    availability: ModelAvailability
    webhook_sender: HttpWebhookSender


async def open_base(settings: Settings, stack: AsyncExitStack) -> Base:
    if settings.mongodb_uri is None:
        raise SettingsError(["DARKROOM_MONGODB_URI is needed here; `make run` starts a mongod."])
    metrics = Metrics()
    tracer = await open_tracer(stack) if settings.traces else None
    database = await stack.enter_async_context(
        open_database(
            settings.mongodb_uri.get_secret_value(),
            settings.mongodb_database,
            observer=DatabaseMetrics(metrics),
            start_seconds=settings.start_seconds,
        )
    )
    tools = await stack.enter_async_context(open_image_tools(settings))
    development = settings.environment == "development"
    providers, writers = _add_local(tools, stack, with_rehearsals=development)
    registry = load_registry(settings, with_credentials=providers)
    caption_models = load_caption_registry(settings, with_credentials=writers)
    log_defaults(registry, caption_models)
    _warn_about_unused_keys(tools.remote.keys(), registry, caption_models)
    availability = ModelAvailability(
        MongoModelAvailabilityRepository(database), registry, caption_models
    )
    await stack.enter_async_context(availability.serve())
    sender = HttpWebhookSender(allows_loopback=development, seconds=DELIVERY_RULES.request_seconds)
    stack.push_async_callback(sender.aclose)
    objects = ObservedObjects(tools.objects, metrics)
    return Base(
        metrics=metrics,
        tracer=tracer,
        database=database,
        image_tools=tools,
        objects=objects,
        registry=registry,
        providers={
            name: ObservedProvider(provider, metrics) for name, provider in providers.items()
        },
        caption_models=caption_models,
        writers={name: ObservedWriter(writer, metrics) for name, writer in writers.items()},
        image_writer=ImageWriter(objects),
        images=MongoImageRepository(database),
        claims=ObservedClaims(database, metrics, registry, caption_models),
        availability=availability,
        webhook_sender=sender,
    )


def _warn_about_unused_keys(
    names: Set[str], registry: ModelRegistry, caption_models: CaptionModelRegistry
) -> None:
    in_use = registry.providers_in_use() | caption_models.providers_in_use()
    for name in sorted(names - in_use):
        log.warning("no model uses this key", provider=name)


def _add_local(
    tools: ImageTools, stack: AsyncExitStack, *, with_rehearsals: bool
) -> tuple[Mapping[str, Provider], Mapping[str, CaptionWriter]]:
    """The providers with credentials and those of this process, and their writers, by name."""
    local, local_writer = LocalProvider(tools.objects), LocalWriter()
    stack.push_async_callback(local.aclose)
    providers: dict[str, Provider] = {local.name: local, **tools.remote}
    writers: dict[str, CaptionWriter] = {local_writer.name: local_writer, **tools.remote_writers}
    if with_rehearsals:
        rehearsal, rehearsal_writer = RehearsalProvider(local), RehearsalWriter(compose_caption)
        providers[rehearsal.name] = rehearsal
        writers[rehearsal_writer.name] = rehearsal_writer
    return providers, writers
