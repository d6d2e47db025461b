"""Counts what becomes of outputs, by observing the writes that move them."""

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any, TypeVar

from prometheus_client import Histogram

from domain.captions import CaptionDelivery, CaptionRequest
from domain.claims import Claim, Waiting
from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest
from domain.ids import ModelId, OutputId, ParentId, ViewerId
from domain.images import ImageRecord
from domain.outputs import GenerationError, Output, OutputStatus, Preview, ProviderJob, Report, Run
from domain.parents import Parent
from domain.ports.providers import CaptionObserver, CaptionWriter, Provider, RunObserver
from domain.registry import Registry
from domain.traces import span
from metrics.series import UNKNOWN, Metrics
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.collections import Document
from storage.mongo.database import Database
from storage.mongo.outputs import MongoOutputRepository

_Made = TypeVar("_Made")


def provider_of(model_id: ModelId, *registries: Registry[Any]) -> str:
    models = (registry.get(model_id) for registry in registries)
    return next((model.provider for model in models if model is not None), UNKNOWN)


def _age_seconds(output: Output) -> float:
    return max(0.0, (datetime.now(UTC) - output.queued_at).total_seconds())


class ObservedClaims(MongoClaimRepository):
    def __init__(self, database: Database, metrics: Metrics, *registries: Registry[Any]) -> None:
        super().__init__(database)
        self._registries = registries
        self._metrics = metrics
        # Prometheus sees no increase in a series that begins with its first event.
        for provider in frozenset().union(
            *(registry.providers_in_use() for registry in registries)
        ):
            metrics.leases_taken_over.labels(provider)
            metrics.outputs_postponed.labels(provider)
            metrics.outputs_ended.labels(provider, GenerationErrorCode.OUTCOME_UNKNOWN.value)

    async def claim(self, waiting: Waiting, *, lease: timedelta) -> Claim | None:
        claim = await super().claim(waiting, lease=lease)
        if claim is not None:
            provider = self._provider_of(claim)
            if waiting.lease_until is not None:
                self._metrics.leases_taken_over.labels(provider).inc()
            if claim.output.started_at == claim.claimed_at:  # the first claim of the attempt
                waited = claim.claimed_at - claim.output.queued_at
                self._metrics.queue_wait.labels(provider).observe(waited.total_seconds())
        return claim

    async def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
        text: str | None = None,
    ) -> bool:
        shown = await super().show_progress(
            claim, progress=progress, queue_position=queue_position, preview=preview, text=text
        )
        if shown and preview is not None and preview.index == 0:
            seconds = _age_seconds(claim.output)
            self._metrics.first_preview.labels(self._provider_of(claim)).observe(seconds)
        return shown

    async def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        postponed = await super().postpone(claim, runs, delay=delay)
        if postponed:
            self._metrics.outputs_postponed.labels(self._provider_of(claim)).inc()
        return postponed

    async def land(
        self, claim: Claim, records: Sequence[ImageRecord], report: Report, *, landed: int = 0
    ) -> bool:
        has_landed = await super().land(claim, records, report, landed=landed)
        if has_landed:
            self._count_landing(claim, report)
        return has_landed

    async def land_caption(
        self, claim: Claim, delivery: CaptionDelivery
    ) -> Sequence[OutputId] | None:
        queued = await super().land_caption(claim, delivery)
        if queued is not None:
            self._count_landing(claim, delivery)
        return queued

    async def _end(
        self, query: Document, slot: int, *, which: Document, error: GenerationError
    ) -> list[Document]:
        ended = await super()._end(query, slot, which=which, error=error)
        for output in ended:
            # The others are cancelled for lack of a caption.
            if output["images"]:
                outcome = OutputStatus.COMPLETED.value
            else:
                outcome = (
                    error.code.value if output["slot"] == slot else OutputStatus.CANCELLED.value
                )
            provider = provider_of(output["model"], *self._registries)
            self._metrics.outputs_ended.labels(provider, outcome).inc()
        return ended

    async def end_overdue(self, *, max_queued: timedelta, limit: int) -> Sequence[OutputId]:
        ended = await super().end_overdue(max_queued=max_queued, limit=limit)
        self._metrics.outputs_overdue.inc(len(ended))
        return ended

    def _count_landing(self, claim: Claim, report: Report) -> None:
        provider = report.provider or self._provider_of(claim)
        self._metrics.outputs_ended.labels(provider, OutputStatus.COMPLETED.value).inc()
        self._metrics.landing.labels(provider).observe(_age_seconds(claim.output))

    def _provider_of(self, claim: Claim) -> str:
        return provider_of(claim.output.model_id, *self._registries)


class ObservedOutputs(MongoOutputRepository):
    def __init__(self, database: Database, metrics: Metrics, *registries: Registry[Any]) -> None:
        super().__init__(database)
        self._registries = registries
        self._metrics = metrics

    async def cancel(
        self, viewer_id: ViewerId, parent_id: ParentId, slots: Iterable[int]
    ) -> Parent | None:
        parent = await super().cancel(viewer_id, parent_id, slots)
        if parent is None:
            return None
        for output in parent.entries:
            # If some of its images have landed, it is completed.
            if not output.unfinished and output.completed_at == parent.updated_at:
                provider = provider_of(output.model_id, *self._registries)
                self._metrics.outputs_ended.labels(provider, output.status.value).inc()
        return parent


class ObservedProvider:
    """A provider whose runs are measured."""

    def __init__(self, provider: Provider, metrics: Metrics) -> None:
        self._provider = provider
        self._runs = _runs_of(metrics, provider.name)

    @property
    def name(self) -> str:
        return self._provider.name

    @property
    def max_concurrent_runs(self) -> int:
        return self._provider.max_concurrent_runs

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        run = self._provider.generate(request, observer)
        return await _measure(run, self._runs, provider=self.name)

    async def cancel(self, job: ProviderJob) -> bool:
        return await self._provider.cancel(job)


class ObservedWriter:
    """A writer whose runs are measured, among those of its provider."""

    def __init__(self, writer: CaptionWriter, metrics: Metrics) -> None:
        self._writer = writer
        self._runs = _runs_of(metrics, writer.name)

    @property
    def name(self) -> str:
        return self._writer.name

    @property
    def max_concurrent_runs(self) -> int:
        return self._writer.max_concurrent_runs

    async def write(self, request: CaptionRequest, observer: CaptionObserver) -> CaptionDelivery:
        run = self._writer.write(request, observer)
        return await _measure(run, self._runs, provider=self.name)


def _runs_of(metrics: Metrics, provider: str) -> Histogram:
    # An alert fires for the first one.
    metrics.provider_runs.labels(provider, GenerationErrorCode.PROVIDER_AUTHENTICATION.value)
    return metrics.provider_runs


async def _measure(run: Awaitable[_Made], runs: Histogram, *, provider: str) -> _Made:
    began_at, outcome = perf_counter(), "CUT"
    try:
        with span("attempt", {"darkroom.provider": provider}):
            result = await run
        outcome = "DELIVERED"
        return result
    except GenerationFailed as failure:
        outcome = failure.code.value
        raise
    except asyncio.CancelledError:
        raise
    except Exception:
        outcome = GenerationErrorCode.INTERNAL.value
        raise
    finally:
        runs.labels(provider, outcome).observe(perf_counter() - began_at)
