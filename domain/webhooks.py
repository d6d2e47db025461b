"""Webhooks: addresses at which viewers are notified of what has ended, and the log of deliveries.

What a delivery says is decided when the event happens, and never changes: every attempt sends the
same bytes under the same id. It names ids, states and times, and never what a viewer wrote.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from domain.ids import DeliveryId, ViewerId, WebhookId
from domain.retries import RetryPolicy
from domain.traces import Trace

MAX_WEBHOOKS: Final = 10
"""Of one viewer."""
MAX_PENDING: Final = 10_000
"""Deliveries of one webhook that wait. With more it is disabled."""
MAX_LOGGED: Final = 1_000
"""Deliveries of one webhook that are kept after their end, for `LOG_LIFE` at most."""
LOG_LIFE: Final = timedelta(days=30)
MAX_URL_LENGTH: Final = 2_048
_RETRY: Final = RetryPolicy(first_pause_seconds=5.0, longest_pause_seconds=3_600.0)


class WebhookEvent(StrEnum):
    TURN_ENDED = "TURN_ENDED"
    OUTPUT_LANDED = "OUTPUT_LANDED"
    POST_ENDED = "POST_ENDED"

    @property
    def type(self) -> str:
        """Its name in a payload, with a full stop as Standard Webhooks have it: `turn.ended`."""
        return self.value.lower().replace("_", ".")


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    id: WebhookId
    url: str
    events: tuple[WebhookEvent, ...]
    enabled: bool
    """Whether events are still delivered: nothing has been for a day where they are not."""
    created_at: datetime
    secret: str | None = None
    """Only of one that has just been made: its owner is shown it once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one webhook, as its owner sees it."""

    id: DeliveryId
    webhook_id: WebhookId
    event: WebhookEvent
    status: int | None
    """Of the answer to the latest attempt, in HTTP; None without one."""
    error: str | None
    """Why the latest attempt failed."""
    attempts: int
    created_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An event, before it is known which webhooks want it."""

    event: WebhookEvent
    subject: str
    """The id of what it is about, such as a turn's. Events of one subject are delivered in order.
    """
    happened_at: datetime
    facts: Mapping[str, object]
    """Ids, states and times, as JSON has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A delivery that waits, as it is sent."""

    id: DeliveryId
    subject: str
    sequence: int
    """Among the events of its webhook."""
    event: WebhookEvent
    happened_at: datetime
    facts: Mapping[str, object]
    attempts: int
    trace: Trace | None = None
    """Of the request that led to it: a receiver finds it in headers."""

    @property
    def body(self) -> bytes:
        """The same bytes at every attempt."""
        payload = {
            "type": self.event.type,
            "timestamp": write_time(self.happened_at),
            "data": self.facts,
        }
        return json.dumps(payload, separators=(",", ":"), sort_keys=True).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldWebhook:
    """A webhook with something to deliver, and this process's right to do so until the lease ends.

    No other process delivers to it meanwhile, so the order of its events is kept.
    """

    id: WebhookId
    owner_id: ViewerId
    url: str
    secret: str
    failing: bool
    """Whether its latest attempt failed."""
    hold: str
    """Names this right: it is lost once the webhook has another one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt."""

    status: int | None = None
    error: str | None = None
    """None: it was delivered."""
    retry_after_seconds: float | None = None
    """The receiver's Retry-After."""

    @property
    def delivered(self) -> bool:
        return self.error is None

    @property
    def gone(self) -> bool:
        """Whether the receiver says that it wants no more, ever."""
        return self.status == 410


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """How patient deliveries are."""

    retry: RetryPolicy = _RETRY
    give_up_after: timedelta = timedelta(days=1)
    """After an event. With it, a webhook to which nothing could be delivered either is disabled."""
    request_seconds: float = 10.0
    """For an attempt, from the name's resolution to the head of the answer."""
    lease: timedelta = timedelta(seconds=30)
    """Of the right to deliver to a webhook: longer than several requests."""
    idle_seconds: float = 5.0
    """Between two searches for what other processes have added, or what is to be attempted again;
    and at least between two attempts at a webhook that fails, unless something is added.
    """

    @property
    def disable_after(self) -> timedelta:
        """How long all attempts must have failed. The first one may have been a pause late."""
        return self.give_up_after - timedelta(seconds=self.retry.longest_pause_seconds)

    def pause_seconds(self, attempts: int, answer: Answer) -> float:
        """How long to wait after that many attempts."""
        pause = self.retry.pause_seconds(attempts)
        requested_pause = min(answer.retry_after_seconds or 0.0, self.retry.longest_pause_seconds)
        return max(pause, requested_pause)


def write_time(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def unique_events(events: Sequence[WebhookEvent]) -> tuple[WebhookEvent, ...]:
    return tuple(dict.fromkeys(events))
