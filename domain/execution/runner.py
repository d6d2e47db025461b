"""Runs one output: asks the provider, stores images, and writes state and credits.

What must stay true: bytes are stored before anything refers to them; every write names the claim's
fence; a submission that may have been accepted is not repeated; a failure of the database never
costs a result that has been delivered.
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from domain.errors import (
    GenerationErrorCode,
    GenerationFailed,
    NotSubmitted,
    Overloaded,
    StoreUnavailable,
)
from domain.execution.image_writer import ImageWriter
from domain.execution.leases import HEARTBEAT, LEASE, Lease, LeaseLost
from domain.execution.model_availability import ModelAvailability
from domain.execution.retries import persist
from domain.execution.rules import next_try_seconds
from domain.execution.run_progress import HandedOver, RunProgress, RunReporter
from domain.generation import Delivery, GenerationRequest
from domain.images import DigitalSourceType, Image, ImageOrigin, ImageRecord, ProcessedImage
from domain.mentions import IN_WORDS, blur_mentions, spell_mentions
from domain.models import ImageModel, ModelRegistry
from domain.outputs import GenerationError, Output, Run, total_usage
from domain.ports.execution import ClaimRepository
from domain.ports.imaging import ImageProcessor
from domain.ports.providers import Provider
from domain.ports.repositories import ImageRepository
from domain.references import positions_of
from domain.retries import RetryPolicy, retry
from domain.routes import may_take_over
from domain.turns import Claim, Waiting

log = logging.getLogger(__name__)

LETTING_GO_SECONDS: Final = 2
_CANCEL_SECONDS: Final = 5
_STORE_AWAY: Final = RetryPolicy(first_pause_seconds=0.5, longest_pause_seconds=0.5, max_seconds=60)
_LANDING_SECONDS: Final = 2.0
_SWITCHED_OFF_SECONDS: Final = 5.0
"""Between two looks whether a provider has been switched on again."""
_MAX_SEED_DIGITS: Final = 10
_MAX_EARLIER_MESSAGES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRunner:
    """What every run needs, and the way to claim an output."""

    claims: ClaimRepository
    images: ImageRepository
    image_writer: ImageWriter
    image_processor: ImageProcessor
    registry: ModelRegistry
    providers: Mapping[str, Provider]
    availability: ModelAvailability
    lease: timedelta = LEASE
    heartbeat: timedelta = HEARTBEAT

    async def claim(self, waiting: Waiting) -> "OutputRun | None":
        """Claim the output, or return None if it is no longer as it was found, or has ended."""
        claim = await self.claims.claim(waiting, lease=self.lease)
        return OutputRun(self, claim) if claim is not None else None


class OutputRun:
    """One claimed output, until it ends or is given back."""

    def __init__(self, runner: OutputRunner, claim: Claim) -> None:
        self._runner = runner
        self._claims = runner.claims
        self._claim = claim
        self._clock = _Clock(claim)
        self._kept: list[ImageRecord] = []
        """Images that are stored, and that nothing can refer to yet."""
        self._landed = False
        self._earlier_messages: tuple[str, ...] = ()
        self._routes = _planned_first(runner.registry, claim.output)
        """The model by each provider that may be asked, the planned one first."""
        first = self._routes[0] if self._routes else None
        self.move_to: Callable[[str], bool] = lambda _: True
        """Is asked whether this run may move to another provider, and has room there then."""
        self._reporter = RunProgress(
            runner.claims,
            claim,
            objects=runner.image_writer.objects,
            image_processor=runner.image_processor,
            provider=first.provider if first else "",
            run_count=first.runs_for(claim.turn.options.images_per_model) if first else 1,
        )
        self._facts = {"output_id": claim.output.id, "model": claim.output.model_id}

    @property
    def may_be_cut(self) -> bool:
        """Whether cancelling the task loses no answer that may have been billed."""
        return not self._reporter.answer_is_awaited

    @property
    def _runs(self) -> Sequence[Run]:
        return [one.run for one in self._reporter.runs]

    def hand_over(self) -> None:
        """Leave the jobs to another process as soon as the provider has accepted them."""
        self._reporter.hand_over = True

    async def run(self) -> None:
        """Run the output until it ends.

        If it is cancelled, it gives the output back for others to claim, or ends it as
        OUTCOME_UNKNOWN if a submission has not been answered.
        """
        started = asyncio.get_running_loop().time()
        log.info("output started", extra={**self._facts, "fence": self._claim.output.fence})
        lease = Lease(
            self._claims,
            self._claim,
            lease=self._runner.lease,
            heartbeat=self._runner.heartbeat,
            may_interrupt=lambda: self.may_be_cut,
        )
        try:
            async with lease:
                outcome = await self._finish()
        except asyncio.CancelledError:
            with suppress(Overloaded, TimeoutError):
                await asyncio.wait_for(self._let_go(), LETTING_GO_SECONDS)
            raise
        except HandedOver:
            with suppress(Overloaded):
                await self._claims.give_back(self._claim)
            outcome = "handed over"
        except LeaseLost:
            outcome = "lost to another worker, or over"
            await self._cancel_jobs_if_abandoned()
        except Overloaded:
            outcome = "left for the sweeper: the database is away"
        finally:
            await self._clear_away()
        seconds = round(asyncio.get_running_loop().time() - started, 3)
        log.info("output finished", extra={**self._facts, "outcome": outcome, "seconds": seconds})

    async def _finish(self) -> str:
        """Run the model and write the result. Return how it ended, for the log."""
        try:
            async with asyncio.timeout(max(0.0, self._claim.seconds_left)):
                delivery = await self._generate()
                await self._keep(delivery)
            return await self._land(delivery)
        except NotSubmitted as rejection:
            return await self._try_later(rejection)
        except GenerationFailed as failure:
            log.warning("generation failed", extra={**self._facts, "reason": str(failure)})
            asked = self._runner.providers.keys() & {run.provider for run in self._runs}
            if failure.code is GenerationErrorCode.MODEL_RETIRED and asked:
                await self._runner.availability.add(self._claim.output.model_id)
            return await self._fail(failure.code, retryable=failure.retryable)
        except TimeoutError:
            outcome = await self._fail(GenerationErrorCode.TIMED_OUT, retryable=True)
            await self._cancel_jobs()
            return outcome
        except StoreUnavailable:
            log.warning("object store unavailable", extra=self._facts)
            return await self._fail(GenerationErrorCode.STORAGE_UNAVAILABLE, retryable=True)
        except (Overloaded, LeaseLost, HandedOver):
            raise
        except Exception:
            log.exception("output failed unexpectedly", extra=self._facts)
            return await self._fail(GenerationErrorCode.INTERNAL, retryable=True)

    async def _generate(self) -> Delivery:
        runs = self._reporter.runs
        if self._claim.turn.options.earlier_messages and any(
            route.supports_context for route in self._routes
        ):
            found = await self._claims.earlier_messages(self._claim, limit=_MAX_EARLIER_MESSAGES)
            self._earlier_messages = tuple(map(blur_mentions, found))
        if len(runs) == 1:
            return await self._ask(runs[0])
        tasks = [asyncio.create_task(self._ask_patiently(run)) for run in runs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return self._merge([task.result() for task in tasks])

    async def _ask(self, observer: RunReporter) -> Delivery:
        """Ask the provider, and the next one as long as it is certain that none has accepted a job.

        Raise NotSubmitted if it is worth asking them again later.
        """
        if observer.is_lost:
            raise GenerationFailed(
                GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True, detail="asked by another"
            )
        failures: list[GenerationFailed] = []
        routes = self._routes_of(observer)
        if not routes and not all(map(self._runner.registry.may_ask, self._routes)):
            raise NotSubmitted(
                GenerationErrorCode.PROVIDER_UNAVAILABLE,
                retry_after_seconds=_SWITCHED_OFF_SECONDS,
                detail="switched off",
            )
        for route in routes:
            if failures:
                if self._reporter.hand_over or not self.move_to(route.provider):
                    if not any(isinstance(one, NotSubmitted) for one in failures):
                        # There may be room later: one provider's key does not cost the output.
                        failures.append(NotSubmitted(failures[0].code, detail="others are full"))
                    break
                # A process that continues has to know of the rejection.
                await self._reporter.save_runs()
            try:
                return await self._ask_route(observer, route)
            except GenerationFailed as failure:
                # That another provider has dropped the model says nothing about the planned one.
                is_dropped = failure.code is GenerationErrorCode.MODEL_RETIRED
                if not failure.nothing_taken and not (failures and is_dropped):
                    raise
                self._record_rejection(observer, failure, provider=route.provider)
                failures.append(failure)
        if not failures:
            raise GenerationFailed(GenerationErrorCode.MODEL_RETIRED, retryable=False)
        raise _soonest(failures)

    def _routes_of(self, observer: RunReporter) -> Sequence[ImageModel]:
        """Where a run may be asked for, or where its job is: a job is polled at the provider that
        accepted it, even if the model's routes have changed.
        """
        run, providers = observer.run, self._runner.providers
        if not self._routes:
            return ()
        if run.job is not None and not run.rejected:
            accepted = [one for one in self._routes if one.provider == run.provider]
            found = accepted[0] if accepted else replace(self._routes[0], provider=run.provider)
            return [found] if found.provider in providers else []
        if self._routes[0].provider not in providers:
            return ()
        may_ask = self._runner.registry.may_ask
        planned, *others = [one for one in self._routes if one.provider in providers]
        image_count = _image_count(self._claim, index=observer.index, run_count=len(self._runs))
        return [
            *([planned] if may_ask(planned) else ()),
            *(
                route
                for route in others
                if may_ask(route)
                and may_take_over(
                    route, planned, self._claim.turn, self._claim.output, image_count=image_count
                )
            ),
        ]

    async def _ask_route(self, observer: RunReporter, route: ImageModel) -> Delivery:
        observer.run = replace(observer.run, provider=route.provider)
        request = _request(
            self._claim,
            route,
            observer=observer,
            run_count=len(self._runs),
            seconds_left=self._clock.seconds_left,
            earlier_messages=self._earlier_messages if route.supports_context else (),
        )
        delivery = await self._runner.providers[route.provider].generate(request, observer)
        if not delivery.images:
            raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True)
        return replace(
            delivery, images=delivery.images[: request.image_count], provider=route.provider
        )

    async def _ask_patiently(
        self, observer: RunReporter
    ) -> Delivery | GenerationFailed | HandedOver:
        """Run one of several runs. Return its failure, which may not be the output's."""
        while True:
            try:
                return await self._ask(observer)
            except NotSubmitted as rejection:
                delay = self._delay_after(observer, rejection)
                if delay is None:
                    return GenerationFailed(rejection.code, retryable=True, detail=str(rejection))
                await self._reporter.save_runs()
                await asyncio.sleep(delay)
            except (GenerationFailed, HandedOver) as end:
                return end

    def _merge(self, ends: Sequence[Delivery | GenerationFailed | HandedOver]) -> Delivery:
        """One delivery from those of all runs. Raise if a job is to be continued, or if no run
        delivered.
        """
        for end in ends:
            if isinstance(end, HandedOver):
                raise end
        deliveries = [end for end in ends if isinstance(end, Delivery)]
        for end in ends:
            if isinstance(end, GenerationFailed):
                if not deliveries:
                    raise end
                log.warning("run without an image", extra={**self._facts, "reason": str(end)})
        return replace(
            deliveries[0],
            provider=_common(one.provider for one in deliveries),
            images=tuple(image for one in deliveries for image in one.images),
            text=next((one.text for one in deliveries if one.text), None),
            usage=total_usage(one.usage for one in deliveries),
            quality=_common(one.quality for one in deliveries),
            size=_common(one.size for one in deliveries),
        )

    async def _keep(self, delivery: Delivery) -> None:
        """Process and store each delivered image. Leave broken ones out if another is intact."""
        output = self._claim.output
        made_from = tuple(reference.image.id for reference in output.references)
        source = DigitalSourceType.of_model(edited=bool(made_from))
        broken: GenerationFailed | None = None
        for delivered in delivery.images:
            try:
                processed = await self._runner.image_processor.process(
                    delivered.data, source=source
                )
            except GenerationFailed as failure:
                broken = failure
                continue
            image = await self._store(processed, self._clock.now(), delivered.seed)
            self._kept.append(ImageRecord(image, self._claim.turn.user_message, made_from))
        if broken is not None and not self._kept:
            raise broken

    async def _store(
        self, processed: ProcessedImage, created_at: datetime, seed: str | None
    ) -> Image:
        """Store an image. Retry while the store is unavailable if it may have been billed."""
        output = self._claim.output

        async def store() -> Image:
            return await self._runner.image_writer.store(
                processed,
                origin=ImageOrigin.OUTPUT,
                created_at=created_at,
                model_id=output.model_id,
                seed=seed,
                output_id=output.id,
            )

        if not self._reporter.has_asked:
            return await store()
        return await retry(store, on=StoreUnavailable, policy=_STORE_AWAY)

    async def _land(self, delivery: Delivery) -> str:
        records, kept = tuple(self._kept), self._kept
        # The database may commit a write although its answer is lost, and a read may not see it
        # yet: until the outcome is certain, the bytes have to stay.
        self._kept, is_sure = [], True

        async def land() -> bool:
            nonlocal is_sure
            try:
                return await self._claims.land(self._claim, records, delivery)
            except Overloaded:
                is_sure = False
                raise

        self._landed = await persist(land)
        if not self._landed and is_sure:
            self._kept = kept  # the only write was rejected: nothing refers to the bytes
        elif not self._landed:
            self._landed = await persist(lambda: self._has_landed(records))
        if not self._landed:
            raise LeaseLost
        return "COMPLETED"

    async def _fail(self, code: GenerationErrorCode, *, retryable: bool) -> str:
        error = GenerationError(code, retryable=retryable)
        if not await persist(lambda: self._claims.fail(self._claim, error)):
            raise LeaseLost
        return code.value

    async def _try_later(self, rejection: NotSubmitted) -> str:
        """Postpone a rejected submission, or fail if that would be too late."""
        (observer,) = self._reporter.runs
        delay = self._delay_after(observer, rejection)
        if delay is None:
            return await self._fail(rejection.code, retryable=True)
        later, runs = timedelta(seconds=delay), [observer.run]
        if not await persist(lambda: self._claims.postpone(self._claim, runs, delay=later)):
            raise LeaseLost
        return "postponed"

    def _record_rejection(
        self, observer: RunReporter, failure: GenerationFailed, *, provider: str
    ) -> None:
        facts = {**self._facts, "provider": provider, "reason": str(failure)}
        log.warning("submission not accepted", extra=facts)
        observer.run = replace(observer.run, tries=max(observer.run.tries, 1), rejected=True)

    def _delay_after(self, observer: RunReporter, rejection: NotSubmitted) -> float | None:
        """The seconds until the next submission, or None for none."""
        # All routes are asked before any of them is asked again.
        rounds = math.ceil(observer.run.tries / max(1, len(self._routes_of(observer))))
        return next_try_seconds(
            rounds,
            jitter=random.uniform(0.5, 1.5),
            retry_after_seconds=rejection.retry_after_seconds or 0.0,
            seconds_left=self._clock.seconds_left,
        )

    async def _let_go(self) -> None:
        if self._reporter.answer_is_awaited:
            log.warning("outcome unknown", extra=self._facts)
            error = GenerationError(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True)
            await self._claims.fail(self._claim, error)
        elif not await self._claims.give_back(self._claim):
            await self._cancel_jobs_if_abandoned()

    async def _cancel_jobs_if_abandoned(self) -> None:
        with suppress(Overloaded):
            if await self._claims.is_abandoned(self._claim):
                await self._cancel_jobs()

    async def _cancel_jobs(self) -> None:
        """Ask the providers to stop their jobs: the results are no longer wanted."""
        providers = self._runner.providers
        cancellations = [
            providers[run.provider].cancel(run.job)
            for run in self._runs
            if run.job is not None and run.provider in providers
        ]
        if cancellations:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_SECONDS):
                    await asyncio.gather(*cancellations)

    async def _clear_away(self) -> None:
        """Delete bytes that nothing refers to: old previews, images that did not land."""
        keys = [key for record in self._kept for key in record.image.keys]
        keys.extend(self._reporter.old_previews)
        if self._landed:
            keys.extend(self._reporter.shown_previews)
        await self._runner.image_writer.delete(keys)

    async def _has_landed(self, records: Sequence[ImageRecord]) -> bool:
        return await self._runner.images.any_refers_to(
            self._claim.turn.owner_id, [record.image.id for record in records]
        )


def _planned_first(registry: ModelRegistry, output: Output) -> Sequence[ImageModel]:
    """The routes of an output's model: the one with which it was planned, then the others."""
    routes = registry.routes(output.model_id)
    planned = [one for one in routes if registry.may_ask(one, planned_at=output.queued_at)]
    return tuple(sorted(routes, key=lambda one: one is not planned[0])) if planned else routes


def _common(words: Iterable[str | None]) -> str | None:
    """The word that several runs have in common, if they have one."""
    different = set(words)
    return different.pop() if len(different) == 1 else None


class _Clock:
    """The database's time: images of all workers are ordered by it."""

    def __init__(self, claim: Claim) -> None:
        self._claimed_at = claim.claimed_at
        self._seconds_left = claim.seconds_left
        self._started = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return self._claimed_at + timedelta(milliseconds=round(self._elapsed_seconds * 1000))

    @property
    def seconds_left(self) -> float:
        """Until the output's deadline."""
        return self._seconds_left - self._elapsed_seconds

    @property
    def _elapsed_seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._started


def _soonest(failures: Sequence[GenerationFailed]) -> GenerationFailed:
    """What the failures of all routes come to: the first that is worth trying again, as soon as any
    of them allows it; else the first.
    """
    rejections = [one for one in failures if isinstance(one, NotSubmitted)]
    if not rejections:
        return failures[0]
    return NotSubmitted(
        rejections[0].code,
        retry_after_seconds=min(one.retry_after_seconds or 0.0 for one in rejections),
        detail=rejections[0].detail,
    )


def _image_count(claim: Claim, *, index: int, run_count: int) -> int:
    """How many images one of several runs makes."""
    count, more = divmod(claim.turn.options.images_per_model, run_count)
    return max(1, count + (index < more))


def _request(
    claim: Claim,
    model: ImageModel,
    *,
    observer: RunReporter,
    run_count: int,
    seconds_left: float,
    earlier_messages: tuple[str, ...],
) -> GenerationRequest:
    turn, output, options = claim.turn, claim.output, claim.turn.options
    size = None
    if options.width is not None and options.height is not None:
        size = options.width, options.height
    # If one of several runs is late, time must be left to land what the others delivered.
    spare = _LANDING_SECONDS if run_count > 1 else 0.0
    return GenerationRequest(
        attempt=output.attempt,
        model=model,
        prompt=spell_mentions(
            turn.user_message,
            positions_of(output.references, turn.references),
            model.mention_spelling or IN_WORDS,
        ),
        earlier_messages=earlier_messages,
        references=tuple(reference.image for reference in output.references),
        aspect_ratio=model.fit_aspect_ratio(turn.aspect_ratio),
        resolution=model.fit_resolution(turn.resolution),
        size=size,
        image_count=_image_count(claim, index=observer.index, run_count=run_count),
        preview_count=options.previews if model.supports_previews else 0,
        quality=options.quality,
        format=options.format,
        seed=_seed_of_run(options.seed, observer.index),
        negative_prompt=options.negative_prompt,
        seconds_left=max(0.0, seconds_left - spare),
        run=observer.index,
        job=None if observer.run.rejected else observer.run.job,
    )


def _seed_of_run(seed: str | None, index: int) -> str | None:
    """The seed of one run: the same seed in all runs would make the same image."""
    if seed is None or index == 0:
        return seed
    is_number = seed.isascii() and seed.isdecimal() and len(seed) < _MAX_SEED_DIGITS
    return str(int(seed) + index) if is_number else f"{seed} {index + 1}"
