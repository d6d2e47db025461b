"""Has a caption written, and lands it: from then on the images of its post may run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from domain.captions import CaptionDelivery, CaptionModel, CaptionRequest
from domain.claims import Claim
from domain.execution.database_retries import persist
from domain.execution.failover import Failover
from domain.execution.leases import LeaseLost
from domain.execution.model_availability import ModelAvailability
from domain.execution.run_progress import RunProgress, RunReporter
from domain.ids import OutputId
from domain.ports.execution import ClaimRepository
from domain.ports.providers import CaptionWriter
from domain.posts import Post
from domain.registry import Registry


class CaptionRuns(Failover[CaptionModel, CaptionDelivery]):
    """The only run of a caption's claim."""

    def __init__(
        self,
        claim: Claim,
        progress: RunProgress,
        *,
        claims: ClaimRepository,
        routes: Sequence[CaptionModel],
        registry: Registry[CaptionModel],
        availability: ModelAvailability,
        writers: Mapping[str, CaptionWriter],
    ) -> None:
        super().__init__(
            claim, progress, routes=routes, registry=registry, availability=availability
        )
        self._claims = claims
        self._writers = writers

    async def make(self) -> CaptionDelivery:
        return await self.ask_only(self.progress.runs[0])

    async def land(self, result: CaptionDelivery) -> Sequence[OutputId]:
        queued: Sequence[OutputId] | None = None

        async def land() -> bool:
            nonlocal queued
            queued = await self._claims.land_caption(self.claim, result)
            return queued is not None

        # If this landing repeats one whose answer was lost, these outputs are not returned. That
        # loses nothing: a search finds them.
        if not await persist(land):
            raise LeaseLost
        return queued or ()

    async def cancel_jobs(self) -> None:
        """Writers have no jobs."""

    async def delete_unused_bytes(self) -> None:
        """Captions leave no bytes."""

    def routes_of(self, _observer: RunReporter) -> Sequence[CaptionModel]:
        routes = [route for route in self.routes if route.provider in self._writers]
        is_planned = bool(routes) and routes[0] is self.routes[0]
        return list(filter(self.registry.may_ask, routes)) if is_planned else ()

    async def ask_route(self, observer: RunReporter, route: CaptionModel) -> CaptionDelivery:
        post = self.claim.parent
        assert isinstance(post, Post)
        request = CaptionRequest(
            attempt=self.claim.output.attempt,
            model=route,
            message=post.user_message,
            options=post.caption_options,
            references=tuple(reference.image for reference in post.references),
            reference_prompts=post.reference_prompts,
            seconds_left=max(0.0, self.clock.seconds_left),
            job=None if observer.run.rejected else observer.run.job,
        )
        delivery = await self._writers[route.provider].write(request, observer)
        return replace(delivery, provider=route.provider)
