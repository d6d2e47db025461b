"""What operators can read of a process: metrics and health."""

import socket
from contextlib import AsyncExitStack
from functools import partial

from assembly.base import Base
from domain.execution.dispatcher import Dispatcher
from domain.execution.permits import Permits
from edge.health import HealthRoutes
from metrics.backlog import BacklogCollector
from metrics.series import Metrics
from storage.mongo.backlog import MongoBacklogRepository
from subscriptions.hub import Hub


async def serve_operators(
    base: Base, listener: socket.socket | None, stack: AsyncExitStack
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


def export_subscriptions(metrics: Metrics, hub: Hub) -> None:
    metrics.add_gauge("darkroom_subscriptions", "Open subscriptions.", lambda: hub.subscriber_count)
    metrics.add_gauge(
        "darkroom_followed_conversations",
        "Conversations with subscribers to their turns.",
        lambda: hub.conversation_count,
    )


def export_slots(metrics: Metrics, dispatcher: Dispatcher) -> None:
    for provider, limit in dispatcher.limits.items():
        metrics.slots.labels(provider).set(limit)
        count_running = partial(_count_running, dispatcher, provider)
        metrics.slots_taken.labels(provider).set_function(count_running)


def export_permits(metrics: Metrics, permits: Permits) -> None:
    for provider, limit in permits.limits.items():
        metrics.permits.labels(provider).set(limit)
        count_held = partial(_count_held, permits, provider)
        metrics.permits_held.labels(provider).set_function(count_held)


def _count_held(permits: Permits, provider: str) -> int:
    return permits.held.get(provider, 0)


def _count_running(dispatcher: Dispatcher, provider: str) -> int:
    return dispatcher.running.get(provider, 0)
