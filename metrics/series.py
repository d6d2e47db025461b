"""Every series that a process counts, with its labels.

Series that are read on request are declared where they are read: `backlog.py` and `process.py`.
What must stay true: labels are bounded. Their values are Darkroom's own words, such as a code or a
provider of the catalogue, never an id, a model or anything that a client writes.
"""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

UNKNOWN: Final = "unknown"
"""Replaces a label's value that is not one of Darkroom's own words."""

_SHORT: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG: Final = (0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180, 300, 600)


class Metrics:
    """The series of one process. Several may live in one interpreter, as in tests."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._add_requests()
        self._add_updates()
        self._add_outputs()
        self._add_providers()
        self._add_storage()

    def _add_requests(self) -> None:
        self.operations = self._histogram(
            "darkroom_operation_seconds",
            "Operations by kind and code (OK, or that of the first error). A subscription counts "
            "when its stream is open.",
            _SHORT,
            "kind",
            "code",
        )
        self.http_responses = self._counter(
            "darkroom_http_responses_total",
            "Responses by route and status, refusals before an operation included.",
            "route",
            "status",
        )
        self.sockets = self._gauge("darkroom_sockets", "Open WebSockets.")
        self.socket_closes = self._counter(
            "darkroom_socket_closes_total",
            "WebSockets that have ended, by close code; `client` where the client ended it.",
            "code",
        )

    def _add_updates(self) -> None:
        self.commit_to_frame = self._histogram(
            "darkroom_commit_to_frame_seconds",
            "From the write of a turn to its update in the frames of all subscribers, once per "
            "update. It needs synchronised clocks.",
            _SHORT,
        )
        self.feed_lag = self._histogram(
            "darkroom_feed_lag_seconds",
            "From the write of a turn to its arrival here. It needs synchronised clocks.",
            _SHORT,
        )
        self.feed_losses = self._counter(
            "darkroom_feed_losses_total",
            "How often the change feed had to leave out changes: all subscribers read again.",
        )

    def _add_outputs(self) -> None:
        self.outputs_ended = self._counter(
            "darkroom_outputs_ended_total",
            "Outputs that this process has ended, by provider and outcome: COMPLETED, CANCELLED or "
            "the code of the error.",
            "provider",
            "outcome",
        )
        self.outputs_overdue = self._counter(
            "darkroom_outputs_overdue_total",
            "Overdue outputs that were ended because no worker held them any more.",
        )
        self.outputs_postponed = self._counter(
            "darkroom_outputs_postponed_total",
            "Submissions that no provider accepted, and that are repeated later.",
            "provider",
        )
        self.leases_taken_over = self._counter(
            "darkroom_leases_taken_over_total",
            "Outputs that were claimed after the lease of another worker had expired.",
            "provider",
        )
        self.queue_wait = self._histogram(
            "darkroom_output_queue_seconds",
            "From the request for an output to its first claim.",
            _LONG,
            "provider",
        )
        self.first_preview = self._histogram(
            "darkroom_output_first_preview_seconds",
            "From the request for an output to its first preview.",
            _LONG,
            "provider",
        )
        self.landing = self._histogram(
            "darkroom_output_landing_seconds",
            "From the request for an output to its images.",
            _LONG,
            "provider",
        )

    def _add_providers(self) -> None:
        self.slots = self._gauge(
            "darkroom_slots", "How many outputs may run in this process at a time.", "provider"
        )
        self.slots_taken = self._gauge(
            "darkroom_slots_taken", "How many outputs run in this process.", "provider"
        )
        self.permits = self._gauge(
            "darkroom_permits",
            "How many outputs may run at a provider in all processes together, where that is "
            "limited.",
            "provider",
        )
        self.permits_held = self._gauge(
            "darkroom_permits_held", "How many of these runs this process holds.", "provider"
        )
        self.provider_runs = self._histogram(
            "darkroom_provider_run_seconds",
            "Calls of a provider by outcome: DELIVERED, CUT, or the code of the error.",
            _LONG,
            "provider",
            "outcome",
        )

    def _add_storage(self) -> None:
        self.database_calls = self._histogram(
            "darkroom_database_call_seconds",
            "Calls to the database by repository and outcome (ok, away or failed).",
            _SHORT,
            "repository",
            "outcome",
        )
        self.store_calls = self._histogram(
            "darkroom_store_call_seconds",
            "Calls to the object store by outcome (ok, away or failed).",
            _SHORT,
            "call",
            "outcome",
        )
        self.credits = self._counter(
            "darkroom_credits_total",
            "Credits granted, reserved, captured (charged), released and forfeited.",
            "movement",
        )
        self.orphaned_objects = self._counter(
            "darkroom_orphaned_objects_deleted_total", "Orphaned objects that were deleted."
        )
        self.orphaned_bytes = self._counter(
            "darkroom_orphaned_bytes_deleted_total", "Bytes of orphaned objects that were deleted."
        )
        self.missing_objects = self._counter(
            "darkroom_missing_objects_total",
            "Objects that a record refers to and that were not found, at each look.",
        )
        self.uploads_refused = self._counter(
            "darkroom_uploads_refused_total", "Uploaded files that were refused, by code.", "code"
        )

    def add_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is read on request."""
        self._gauge(name, text).set_function(value)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)
