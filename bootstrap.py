"""The composition root: what an API process and a worker consist of, in the order of opening.

`assembly/` makes the parts; only it and this module know concrete classes.
"""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import anyio._backends._asyncio  # noqa: F401 - the first request would import it in the event loop
import httpx2
import structlog
from starlette.routing import Route

from assembly.background import (
    make_deliverer,
    make_dispatcher,
    make_exporter,
    make_importer,
    make_orphan_collector,
    make_permits,
    make_sweeper,
    make_viewer_eraser,
    open_publisher,
    receive_hints,
    stop_runs_at_exit,
)
from assembly.base import Base, open_base
from assembly.catalogue import load_trusted_documents
from assembly.operators import (
    export_permits,
    export_slots,
    export_subscriptions,
    serve_operators,
)
from assembly.services import RequestedWork, make_services, make_waiting_turns
from assembly.updates import make_hub
from domain.errors import Overloaded
from domain.execution.dispatcher import Dispatcher, never
from domain.execution.permits import Permits
from domain.ports.execution import HintQueue
from domain.retries import RetryPolicy, retry
from domain.services.blocked_viewers import BlockedViewers
from domain.traces import Tracer
from edge.admission import Admission
from edge.auth import Authenticator
from edge.dev_tokens import DevelopmentIssuer
from edge.logos import logo_routes
from edge.persisted import PersistedDocuments
from edge.token_keys import FetchedKeys
from metrics.series import Metrics
from schema.services import Services
from settings import Settings
from storage.imaging.sandbox import UploadSandbox
from storage.mongo.database import Database
from storage.mongo.documents import MongoDocumentRepository
from storage.mongo.viewers import MongoViewerRepository

log = structlog.get_logger(__name__)

_STARTUP_RETRIES: Final = RetryPolicy(
    first_pause_seconds=0.2, longest_pause_seconds=1.0, max_seconds=60
)
_IMPORT_WAIT_SECONDS: Final = 30.0
"""Longer than two images of an import take that are decoded at that time."""


class BackgroundService(Protocol):
    """What works in the background of a process until its context ends."""

    def serve(self) -> AbstractAsyncContextManager[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Everything that answers requests, open and ready."""

    services: Services
    admission: Admission
    blocked_viewers: BlockedViewers
    database: Database
    metrics: Metrics
    tracer: Tracer | None
    persisted_documents: PersistedDocuments
    object_routes: Sequence[Route]
    """The routes of signed URLs, if this process serves them."""
    logo_routes: Sequence[Route]


@asynccontextmanager
async def open_api(
    settings: Settings,
    *,
    grace_left: Callable[[], float] | None = None,
    is_ending: Callable[[], bool] = never,
    metrics_listener: socket.socket | None = None,
) -> AsyncIterator[Api]:
    """Open everything that answers requests, and close it in reverse."""
    async with AsyncExitStack() as stack:
        base = await open_base(settings, stack)
        permits = make_permits(settings, base)
        dispatcher = (
            None if settings.nats_url else make_dispatcher(base, permits, is_ending=is_ending)
        )
        hints = dispatcher or await open_publisher(settings, stack)
        hub = make_hub(settings, base)
        work = await _open_requested_work(settings, base, hints=hints, stack=stack)
        blocked = await _open_blocked_viewers(base, stack)
        services = make_services(
            settings,
            base,
            hub=hub,
            hints=hints,
            upload_processor=await stack.enter_async_context(aclosing(UploadSandbox())),
            work=work,
            blocked=blocked,
        )
        export_subscriptions(base.metrics, hub)
        admission = Admission(await _open_authenticator(settings, stack), services.viewers, blocked)
        await stack.enter_async_context(hub.serve())
        if dispatcher is not None:
            grace_left = grace_left or (lambda: settings.shutdown_grace)
            await _serve_runs(base, dispatcher, permits=permits, stack=stack, grace_left=grace_left)
            await _serve_all(stack, make_deliverer(base))
        await _serve_all(stack, make_sweeper(base, dispatcher), make_orphan_collector(base))
        await _serve_all(stack, work.eraser, work.waiting, work.exporter, work.importer)
        await serve_operators(base, metrics_listener, stack)
        yield _make_api(settings, base, services=services, admission=admission, blocked=blocked)


def _make_api(
    settings: Settings,
    base: Base,
    *,
    services: Services,
    admission: Admission,
    blocked: BlockedViewers,
) -> Api:
    return Api(
        services=services,
        admission=admission,
        blocked_viewers=blocked,
        database=base.database,
        metrics=base.metrics,
        tracer=base.tracer,
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
    """Run outputs until the block ends, then stop the runs and close everything in reverse."""
    async with AsyncExitStack() as stack:
        base = await open_base(settings, stack)
        permits = make_permits(settings, base)
        dispatcher = make_dispatcher(base, permits)
        await _serve_runs(base, dispatcher, permits=permits, stack=stack, grace_left=grace_left)
        await receive_hints(settings, dispatcher, stack)
        await _serve_all(
            stack,
            make_deliverer(base),
            make_sweeper(base, dispatcher),
            make_orphan_collector(base),
            make_viewer_eraser(base),
            make_exporter(base),
        )
        await serve_operators(base, metrics_listener, stack)
        yield


async def _serve_all(stack: AsyncExitStack, *services: BackgroundService) -> None:
    """Start these services in this order. They end in reverse, when the stack closes."""
    for service in services:
        await stack.enter_async_context(service.serve())


async def _serve_runs(
    base: Base,
    dispatcher: Dispatcher,
    *,
    permits: Permits,
    stack: AsyncExitStack,
    grace_left: Callable[[], float],
) -> None:
    """Let outputs run here until the stack closes, and measure them."""
    await stack.enter_async_context(permits.serve())
    stop_runs_at_exit(dispatcher, stack, grace_left)
    export_slots(base.metrics, dispatcher)
    export_permits(base.metrics, permits)


async def _open_requested_work(
    settings: Settings, base: Base, *, hints: HintQueue, stack: AsyncExitStack
) -> RequestedWork:
    # Imports have a sandbox of their own, so that no upload waits for one.
    processor = UploadSandbox(max_wait_seconds=_IMPORT_WAIT_SECONDS)
    return RequestedWork(
        eraser=make_viewer_eraser(base),
        waiting=make_waiting_turns(settings, base, hints=hints),
        exporter=make_exporter(base),
        importer=make_importer(base, await stack.enter_async_context(aclosing(processor))),
    )


async def _open_blocked_viewers(base: Base, stack: AsyncExitStack) -> BlockedViewers:
    """Open the list of blocked viewers, which is known before the first request is answered."""
    blocked = BlockedViewers(MongoViewerRepository(base.database))
    await retry(blocked.refresh, on=Overloaded, policy=_STARTUP_RETRIES)
    await stack.enter_async_context(blocked.serve())
    return blocked


async def _open_authenticator(settings: Settings, stack: AsyncExitStack) -> Authenticator:
    if settings.environment == "development":
        return DevelopmentIssuer(settings.data_dir).authenticator()
    assert settings.token_issuer
    if not settings.token_audience and not settings.token_authorized_parties:
        log.warning(
            "tokens for every application are accepted",
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
        max_lifetime=timedelta(seconds=settings.token_max_seconds),
    )
