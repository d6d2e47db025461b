"""Runs one claimed output until it ends, or is given back.

Every write names the claim's fence. `image_runs.py` and `caption_runs.py` make and land the result;
here the claim is renewed, and ended or given back in every case.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from domain.captions import CaptionModelRegistry
from domain.claims import Claim, Waiting
from domain.errors import GenerationErrorCode, GenerationFailed, Overloaded, StoreUnavailable
from domain.execution.caption_runs import CaptionRuns
from domain.execution.clock import Clock
from domain.execution.database_retries import persist
from domain.execution.failover import Failover, RunPostponed
from domain.execution.image_runs import ImageRuns
from domain.execution.image_writer import ImageWriter
from domain.execution.landing import Landing
from domain.execution.leases import HEARTBEAT, LEASE, Lease, LeaseLost
from domain.execution.model_availability import ModelAvailability
from domain.execution.run_progress import HandedOver, RunProgress
from domain.ids import OutputId
from domain.models import ModelRegistry
from domain.outputs import GenerationError
from domain.ports.execution import ClaimRepository
from domain.ports.images import ImageRepository
from domain.ports.imaging import ImageProcessor
from domain.ports.providers import CaptionWriter, Provider
from domain.registry import RegisteredModel
from domain.rules import OUTCOME_UNKNOWN, is_outcome_unknown, overdue_error
from domain.traces import Tracer, span, use_trace

log = logging.getLogger(__name__)

RELEASE_SECONDS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRunner:
    """What every run needs, and the method that claims an output."""

    claims: ClaimRepository
    images: ImageRepository
    image_writer: ImageWriter
    image_processor: ImageProcessor
    registry: ModelRegistry
    providers: Mapping[str, Provider]
    caption_models: CaptionModelRegistry
    writers: Mapping[str, CaptionWriter]
    availability: ModelAvailability
    tracer: Tracer | None = None
    lease: timedelta = LEASE
    heartbeat: timedelta = HEARTBEAT

    async def claim(self, waiting: Waiting) -> "OutputRun | None":
        """Claim the output, or return None if it has changed since it was found, or has ended."""
        claim = await self.claims.claim(waiting, lease=self.lease)
        return OutputRun(self, claim) if claim is not None else None

    def work_of(self, claim: Claim) -> Failover[Any, Any]:
        """The run of a claim, by the kind of its output."""
        return self._caption_of(claim) if claim.output.is_caption else self._images_of(claim)

    def _caption_of(self, claim: Claim) -> CaptionRuns:
        routes = self.caption_models.routes_as_planned(
            claim.output.model_id, planned_at=claim.output.queued_at
        )
        progress = self._progress_of(claim, routes, run_count=1)
        return CaptionRuns(
            claim,
            progress,
            claims=self.claims,
            routes=routes,
            registry=self.caption_models,
            availability=self.availability,
            writers=self.writers,
        )

    def _images_of(self, claim: Claim) -> ImageRuns:
        routes = self.registry.routes_as_planned(
            claim.output.model_id, planned_at=claim.output.queued_at
        )
        image_count = claim.parent.options.images_per_model
        run_count = routes[0].runs_for(image_count) if routes else 1
        progress = self._progress_of(claim, routes, run_count=run_count)
        landing = Landing(
            claim=claim,
            claims=self.claims,
            images=self.images,
            image_writer=self.image_writer,
            image_processor=self.image_processor,
            progress=progress,
            clock=Clock(claim),
        )
        return ImageRuns(
            claim,
            progress,
            claims=self.claims,
            routes=routes,
            registry=self.registry,
            availability=self.availability,
            providers=self.providers,
            landing=landing,
        )

    def _progress_of(
        self, claim: Claim, routes: Sequence[RegisteredModel], *, run_count: int
    ) -> RunProgress:
        return RunProgress(
            self.claims,
            claim,
            objects=self.image_writer.objects,
            image_processor=self.image_processor,
            provider=routes[0].provider if routes else "",
            run_count=run_count,
        )


class OutputRun:
    """One claimed output, until it ends or is given back."""

    def __init__(self, runner: OutputRunner, claim: Claim) -> None:
        self._runner = runner
        self._claims = runner.claims
        self._claim = claim
        self._work = runner.work_of(claim)
        self._progress = self._work.progress
        self._facts = self._work.facts
        self.queued: Sequence[OutputId] = ()
        """Outputs that may run now that this one has landed."""
        self._is_left_to_others = False

    @property
    def may_be_cancelled(self) -> bool:
        """Whether cancelling the task loses no answer that may have been billed."""
        return not self._progress.answer_is_awaited

    @property
    def continues(self) -> bool:
        """Whether its provider works on, and another worker has to continue it."""
        runs = [reporter.run for reporter in self._progress.runs]
        return self._is_left_to_others and any(
            run.job is not None and not run.landed for run in runs
        )

    def hand_over(self) -> None:
        """Leave the jobs to another process as soon as the provider has accepted them."""
        self._progress.hand_over = True

    def ask_before_moving(self, move_to: Callable[[str], Awaitable[bool]]) -> None:
        """Called before another provider is asked: whether the run may move there."""
        self._work.move_to = move_to

    async def run(self) -> None:
        """Run the output until it ends.

        If it is cancelled, it gives the output back for other workers, or ends it as
        OUTCOME_UNKNOWN if a submission has not been answered.
        """
        output = self._claim.output
        facts: dict[str, str | int] = {
            "darkroom.output.id": output.id,
            "darkroom.output.attempt": output.attempt,
            "darkroom.output.fence": output.fence,
            "darkroom.model": output.model_id,
        }
        with use_trace(self._claim.trace, self._runner.tracer), span("job", facts) as job:
            job.add({"darkroom.outcome": await self._run()})

    async def _run(self) -> str:
        started = asyncio.get_running_loop().time()
        log.info("output started", extra={**self._facts, "fence": self._claim.output.fence})
        lease = Lease(
            self._claims,
            self._claim,
            lease=self._runner.lease,
            heartbeat=self._runner.heartbeat,
            may_interrupt=lambda: self.may_be_cancelled,
        )
        try:
            async with lease:
                outcome = await self._finish()
        except asyncio.CancelledError:
            with suppress(Overloaded, TimeoutError):
                await asyncio.wait_for(self._release(), RELEASE_SECONDS)
            raise
        except HandedOver:
            self._is_left_to_others = True
            with suppress(Overloaded):
                await self._claims.give_back(self._claim)
            outcome = "handed over"
        except LeaseLost:
            outcome = "lost to another worker, or ended"
            await self._cancel_jobs_if_abandoned()
        except Overloaded:
            self._is_left_to_others = True
            outcome = "left for the sweeper: the database is away"
        finally:
            await self._work.delete_unused_bytes()
        seconds = round(asyncio.get_running_loop().time() - started, 3)
        log.info("output finished", extra={**self._facts, "outcome": outcome, "seconds": seconds})
        return outcome

    async def _finish(self) -> str:
        """Run the model and write the result. Return how it ended, for the log."""
        try:
            async with asyncio.timeout(max(0.0, self._claim.seconds_left)):
                result = await self._work.make()
            with span("landing"):
                self.queued = await self._work.land(result)
            return "COMPLETED"
        except RunPostponed as later:
            return await self._postpone(later.delay)
        except GenerationFailed as failure:
            log.warning("generation failed", extra={**self._facts, "reason": str(failure)})
            return await self._fail(failure.code, retryable=failure.retryable)
        except TimeoutError:
            unknown = is_outcome_unknown(reporter.run for reporter in self._progress.runs)
            outcome = await self._end_with(overdue_error(outcome_unknown=unknown))
            await self._work.cancel_jobs()
            return outcome
        except StoreUnavailable as error:
            log.warning("object store unavailable", extra={**self._facts, "reason": str(error)})
            return await self._fail(GenerationErrorCode.STORAGE_UNAVAILABLE, retryable=True)
        except (Overloaded, LeaseLost, HandedOver):
            raise
        except Exception:
            log.exception("output failed unexpectedly", extra=self._facts)
            return await self._fail(GenerationErrorCode.INTERNAL, retryable=True)

    async def _fail(self, code: GenerationErrorCode, *, retryable: bool) -> str:
        return await self._end_with(GenerationError(code, retryable=retryable))

    async def _end_with(self, error: GenerationError) -> str:
        if not await persist(lambda: self._claims.fail(self._claim, error)):
            raise LeaseLost
        return error.code.value

    async def _postpone(self, delay: timedelta) -> str:
        """Give back an output whose submission was rejected, to be claimed again later."""
        runs = [reporter.run for reporter in self._progress.runs]
        if not await persist(lambda: self._claims.postpone(self._claim, runs, delay=delay)):
            raise LeaseLost
        return "postponed"

    async def _release(self) -> None:
        if self._progress.answer_is_awaited:
            log.warning("outcome unknown", extra=self._facts)
            await self._claims.fail(self._claim, OUTCOME_UNKNOWN)
            return
        self._is_left_to_others = await self._claims.give_back(self._claim)
        if not self._is_left_to_others:
            await self._cancel_jobs_if_abandoned()

    async def _cancel_jobs_if_abandoned(self) -> None:
        with suppress(Overloaded):
            if await persist(lambda: self._claims.is_abandoned(self._claim)):
                await self._work.cancel_jobs()
