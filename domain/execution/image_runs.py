"""Has a model make the images of one output, by one run or by several at the same time."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from domain.claims import Claim
from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.execution.failover import Failover
from domain.execution.landing import Landing
from domain.execution.model_availability import ModelAvailability
from domain.execution.requests import image_count_of, request_of
from domain.execution.run_progress import HandedOver, RunProgress, RunReporter
from domain.generation import Delivery
from domain.ids import OutputId
from domain.mentions import blur_mentions
from domain.models import ImageModel
from domain.outputs import Output, ProviderJob, total_usage
from domain.ports.execution import ClaimRepository
from domain.ports.providers import Provider
from domain.registry import Registry
from domain.retries import RetryPolicy
from domain.routes import may_take_over

log = logging.getLogger(__name__)

_CANCEL_SECONDS: Final = 30
"""For so long a provider that does not answer is asked again: a job that goes on may be billed."""
_CANCEL_RETRIES: Final = RetryPolicy(first_pause_seconds=0.5, longest_pause_seconds=3.0)
_MAX_EARLIER_MESSAGES: Final = 20


class ImageRuns(Failover[ImageModel, Delivery]):
    """The runs of one claim."""

    def __init__(
        self,
        claim: Claim,
        progress: RunProgress,
        *,
        claims: ClaimRepository,
        routes: Sequence[ImageModel],
        registry: Registry[ImageModel],
        availability: ModelAvailability,
        providers: Mapping[str, Provider],
        landing: Landing,
    ) -> None:
        """`routes`: the model by each provider that may be asked, the planned one first."""
        super().__init__(
            claim, progress, routes=routes, registry=registry, availability=availability
        )
        self._claims = claims
        self._providers = providers
        self._landing = landing
        self._earlier_messages: tuple[str, ...] = ()
        self._unfinished = [reporter for reporter in progress.runs if not reporter.run.landed]
        self._delivered = [_delivery_before(claim.output)] if claim.output.images else []
        """Images that all runs so far have delivered, whichever worker asked for them."""

    async def make(self) -> Delivery:
        await self._read_earlier_messages()
        if len(self.progress.runs) > 1:
            return await self._make_each()
        delivery = await self.ask_only(self.progress.runs[0])
        await self._landing.store(delivery)
        return delivery

    async def land(self, result: Delivery) -> Sequence[OutputId]:
        await self._landing.land(result)
        return ()

    async def delete_unused_bytes(self) -> None:
        await self._landing.delete_unused_bytes()

    async def cancel_jobs(self) -> None:
        cancellations = [
            _cancel(self._providers[reporter.run.provider], reporter.run.job)
            for reporter in self.progress.runs
            if reporter.run.job is not None
            and not reporter.run.landed
            and reporter.run.provider in self._providers
        ]
        if cancellations:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_SECONDS):
                    await asyncio.gather(*cancellations)

    def routes_of(self, observer: RunReporter) -> Sequence[ImageModel]:
        """The routes of a run: a job is polled at the provider that accepted it, even if the
        model's routes have changed.
        """
        run, providers = observer.run, self._providers
        if not self.routes:
            return ()
        if run.job is not None and not run.rejected:
            accepting = [route for route in self.routes if route.provider == run.provider]
            chosen = accepting[0] if accepting else replace(self.routes[0], provider=run.provider)
            return [chosen] if chosen.provider in providers else []
        if self.routes[0].provider not in providers:
            return ()
        planned, *others = [route for route in self.routes if route.provider in providers]
        claim, run_count = self.claim, len(self.progress.runs)
        image_count = image_count_of(claim, index=observer.index, run_count=run_count)
        return [
            *([planned] if self.registry.may_ask(planned) else ()),
            *(
                route
                for route in others
                if self.registry.may_ask(route)
                and may_take_over(
                    route,
                    planned,
                    parent=claim.parent,
                    output=claim.output,
                    image_count=image_count,
                )
            ),
        ]

    async def ask_route(self, observer: RunReporter, route: ImageModel) -> Delivery:
        request = request_of(
            self.claim,
            route,
            index=observer.index,
            run=observer.run,
            run_count=len(self.progress.runs),
            seconds_left=self.clock.seconds_left,
            earlier_messages=self._earlier_messages if route.supports_context else (),
        )
        delivery = await self._providers[route.provider].generate(request, observer)
        if not delivery.images:
            raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True)
        return replace(
            delivery,
            images=delivery.images[: request.image_count],
            provider=route.provider,
            heeds_mask=request.mask is not None,
        )

    async def _read_earlier_messages(self) -> None:
        if self.claim.parent.options.earlier_messages and any(
            route.supports_context for route in self.routes
        ):
            found = await self._claims.find_earlier_messages(
                self.claim, limit=_MAX_EARLIER_MESSAGES
            )
            self._earlier_messages = tuple(map(blur_mentions, found))

    async def _make_each(self) -> Delivery:
        """Make the images that are missing, by several runs. Raise if a job is to be continued, or
        if no run has delivered.
        """
        tasks = {asyncio.create_task(self._make_one(run)): run for run in tuple(self._unfinished)}
        try:
            if tasks:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                await self._wait_for_answers(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        ends = [end for task in tasks if (end := task.result()) is not None]
        for end in ends:
            if isinstance(end, HandedOver):
                raise end
        for failure in ends:
            if not self._delivered:
                raise failure
            log.warning("run without an image", extra={**self.facts, "reason": str(failure)})
        return _merge(self._delivered)

    async def _wait_for_answers(self, tasks: Mapping[asyncio.Task[Any], RunReporter]) -> None:
        """End the runs that are left, because one has raised, except while their provider accepts a
        job: only a job that is known can be cancelled.
        """
        self.progress.hand_over |= not all(task.done() for task in tasks)
        for task, observer in tasks.items():
            if not observer.answer_is_awaited:
                task.cancel()
        await asyncio.wait(tasks)

    async def _make_one(self, observer: RunReporter) -> GenerationFailed | HandedOver | None:
        """Make the images of one run, and show them at once if other runs are still going. Return
        its failure, which is not always the output's.
        """
        try:
            delivery = await self._ask_with_retries(observer)
            records = await self._landing.store(delivery)
        except (GenerationFailed, HandedOver) as end:
            return end
        finally:
            self._unfinished.remove(observer)
        self._delivered.append(delivery)
        if self._unfinished:
            async with self.progress.landing(observer) as runs:
                await self._landing.add(records, _merge(self._delivered), runs=runs)
        return None

    async def _ask_with_retries(self, observer: RunReporter) -> Delivery:
        """Ask for one of several runs, and again after each rejection as long as that is
        worthwhile.
        """
        while True:
            try:
                return await self.ask(observer)
            except NotSubmitted as rejection:
                seconds = self.delay_after_rejection(observer, rejection)
                await self.progress.save_runs()
                if self.progress.hand_over:
                    raise HandedOver from rejection
                await asyncio.sleep(seconds)


async def _cancel(provider: Provider, job: ProviderJob) -> None:
    retries = _CANCEL_RETRIES.begin()
    while not await provider.cancel(job):
        await retries.pause()


def _delivery_before(output: Output) -> Delivery:
    """The report about images that an earlier worker has delivered."""
    return Delivery(
        images=(),
        provider=output.provider,
        quality=output.quality,
        size=output.size,
        text=output.text,
        usage=output.usage,
    )


def _merge(deliveries: Sequence[Delivery]) -> Delivery:
    """One delivery that stands for all runs, without their images, which are stored already."""
    return Delivery(
        images=(),
        provider=_common(delivery.provider for delivery in deliveries),
        text=next((delivery.text for delivery in deliveries if delivery.text), None),
        usage=total_usage(delivery.usage for delivery in deliveries),
        quality=_common(delivery.quality for delivery in deliveries),
        size=_common(delivery.size for delivery in deliveries),
    )


def _common(words: Iterable[str | None]) -> str | None:
    """The value that all runs have in common, if they have one."""
    different = set(words)
    return different.pop() if len(different) == 1 else None
