"""Runs one claimed output until it ends, or is given back.

Every write names the claim's fence. What is made, and how it lands, is the business of
`image_runs.py` and `landing.py`; here the claim is kept alive, and is ended or given back whatever
comes of it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from domain.claims import Claim, Waiting
from domain.errors import GenerationErrorCode, GenerationFailed, Overloaded, StoreUnavailable
from domain.execution.failover import TryLater
from domain.execution.image_runs import ImageRuns
from domain.execution.image_writer import ImageWriter
from domain.execution.landing import Landing
from domain.execution.leases import HEARTBEAT, LEASE, Lease, LeaseLost
from domain.execution.model_availability import ModelAvailability
from domain.execution.retries import persist
from domain.execution.run_progress import HandedOver
from domain.models import ModelRegistry
from domain.outputs import GenerationError
from domain.ports.execution import ClaimRepository
from domain.ports.imaging import ImageProcessor
from domain.ports.providers import Provider
from domain.ports.repositories import ImageRepository

log = logging.getLogger(__name__)

LETTING_GO_SECONDS: Final = 2


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
        self._runs = ImageRuns(
            claim,
            claims=runner.claims,
            registry=runner.registry,
            providers=runner.providers,
            objects=runner.image_writer.objects,
            image_processor=runner.image_processor,
        )
        self._progress = self._runs.progress
        self._landing = Landing(
            claim=claim,
            claims=runner.claims,
            images=runner.images,
            image_writer=runner.image_writer,
            image_processor=runner.image_processor,
            progress=self._progress,
            clock=self._runs.clock,
        )
        self._facts = self._runs.facts

    @property
    def may_be_cut(self) -> bool:
        """Whether cancelling the task loses no answer that may have been billed."""
        return not self._progress.answer_is_awaited

    def hand_over(self) -> None:
        """Leave the jobs to another process as soon as the provider has accepted them."""
        self._progress.hand_over = True

    def ask_before_moving(self, move_to: Callable[[str], bool]) -> None:
        """Call this before another provider is asked: whether the run may move there."""
        self._runs.move_to = move_to

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
            await self._landing.clear_away()
        seconds = round(asyncio.get_running_loop().time() - started, 3)
        log.info("output finished", extra={**self._facts, "outcome": outcome, "seconds": seconds})

    async def _finish(self) -> str:
        """Run the model and write the result. Return how it ended, for the log."""
        try:
            async with asyncio.timeout(max(0.0, self._claim.seconds_left)):
                delivery = await self._runs.generate()
                await self._landing.store(delivery)
            await self._landing.land(delivery)
            return "COMPLETED"
        except TryLater as later:
            return await self._postpone(later.delay)
        except GenerationFailed as failure:
            log.warning("generation failed", extra={**self._facts, "reason": str(failure)})
            asked = {one.run.provider for one in self._progress.runs}
            if failure.code is GenerationErrorCode.MODEL_RETIRED and (
                asked & self._runner.providers.keys()
            ):
                await self._runner.availability.add(self._claim.output.model_id)
            return await self._fail(failure.code, retryable=failure.retryable)
        except TimeoutError:
            outcome = await self._fail(GenerationErrorCode.TIMED_OUT, retryable=True)
            await self._runs.cancel_jobs()
            return outcome
        except StoreUnavailable:
            log.warning("object store unavailable", extra=self._facts)
            return await self._fail(GenerationErrorCode.STORAGE_UNAVAILABLE, retryable=True)
        except (Overloaded, LeaseLost, HandedOver):
            raise
        except Exception:
            log.exception("output failed unexpectedly", extra=self._facts)
            return await self._fail(GenerationErrorCode.INTERNAL, retryable=True)

    async def _fail(self, code: GenerationErrorCode, *, retryable: bool) -> str:
        error = GenerationError(code, retryable=retryable)
        if not await persist(lambda: self._claims.fail(self._claim, error)):
            raise LeaseLost
        return code.value

    async def _postpone(self, delay: timedelta) -> str:
        """Give back an output whose submission was rejected, to be claimed again later."""
        runs = [one.run for one in self._progress.runs]
        if not await persist(lambda: self._claims.postpone(self._claim, runs, delay=delay)):
            raise LeaseLost
        return "postponed"

    async def _let_go(self) -> None:
        if self._progress.answer_is_awaited:
            log.warning("outcome unknown", extra=self._facts)
            error = GenerationError(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True)
            await self._claims.fail(self._claim, error)
        elif not await self._claims.give_back(self._claim):
            await self._cancel_jobs_if_abandoned()

    async def _cancel_jobs_if_abandoned(self) -> None:
        with suppress(Overloaded):
            if await self._claims.is_abandoned(self._claim):
                await self._runs.cancel_jobs()
