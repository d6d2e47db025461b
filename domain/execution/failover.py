"""Asks the providers of a model for one run: the planned one first, then the others.

What must stay true: another provider is asked only where it is certain that none has accepted a
job, and a submission that may have been accepted is not repeated.
"""

import logging
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, Generic, TypeVar

from domain.claims import Claim
from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.execution.clock import Clock
from domain.execution.model_availability import ModelAvailability
from domain.execution.run_progress import RunProgress, RunReporter
from domain.ids import OutputId
from domain.registry import RegisteredModel, Registry
from domain.rules import next_try_seconds

log = logging.getLogger(__name__)


_SWITCHED_OFF_RETRY_SECONDS: Final = 5.0
"""The time between two checks whether a provider has been switched on again."""


AnyRoute = TypeVar("AnyRoute", bound=RegisteredModel)
"""A model by one of the providers that serve it."""
Answer = TypeVar("Answer")


class RunPostponed(Exception):
    """The submission was rejected, and is to be repeated after a delay."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__(delay)
        self.delay = delay


class Failover(ABC, Generic[AnyRoute, Answer]):
    """Runs the model of one claim, by the first route that accepts it."""

    def __init__(
        self,
        claim: Claim,
        progress: RunProgress,
        *,
        routes: Sequence[AnyRoute],
        registry: Registry[AnyRoute],
        availability: ModelAvailability,
    ) -> None:
        self.claim = claim
        self.routes = routes
        self.registry = registry
        self._availability = availability
        self.progress = progress
        self.clock = Clock(claim)
        self.facts = {"output_id": claim.output.id, "model": claim.output.model_id}
        self.move_to: Callable[[str], Awaitable[bool]] | None = None
        """Decides whether this run may move to another provider, and reserves room there."""

    @abstractmethod
    async def make(self) -> Answer:
        """Run the model, and store the bytes that it delivers. Raise GenerationFailed where the run
        has failed, RunPostponed where the only submission was rejected for the time being.
        """

    @abstractmethod
    async def land(self, result: Answer) -> Sequence[OutputId]:
        """Write the result. Return the outputs that may run from now on. Raise LeaseLost where the
        claim has ended.
        """

    @abstractmethod
    async def cancel_jobs(self) -> None:
        """Ask the providers to stop their jobs: the results are no longer needed."""

    @abstractmethod
    async def delete_unused_bytes(self) -> None:
        """Delete bytes that nothing refers to, however the run has ended."""

    @abstractmethod
    def routes_of(self, observer: RunReporter) -> Sequence[AnyRoute]:
        """The routes that a run may be asked for, the planned one first; or the one that has the
        job.
        """

    @abstractmethod
    async def ask_route(self, observer: RunReporter, route: AnyRoute) -> Answer:
        """Run the model at one provider."""

    async def ask(self, observer: RunReporter) -> Answer:
        """Ask the provider, and then the next one as long as it is certain that none has accepted a
        job.

        Raise NotSubmitted if it is worth asking them again later.
        """
        if observer.is_lost:
            raise GenerationFailed(
                GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True, detail="asked by another"
            )
        failures: list[GenerationFailed] = []
        for route in self.routes_of(observer):
            if failures or self._has_left_its_provider(observer, route):
                if not await self._may_move_to(route.provider):
                    if not any(isinstance(earlier, NotSubmitted) for earlier in failures):
                        # There may be room later: that one provider refuses the key does not end
                        # the output.
                        failures.append(_wait_for_room(failures))
                    break
                # A process that continues the run has to know of the rejection.
                await self.progress.save_runs()
            try:
                observer.run = replace(observer.run, provider=route.provider)
                return await self.ask_route(observer, route)
            except GenerationFailed as failure:
                is_dropped = failure.code is GenerationErrorCode.MODEL_RETIRED
                # If another provider has dropped the model, the planned one may still have it.
                is_rejected = failure.nothing_taken or (bool(failures) and is_dropped)
                if is_rejected:
                    self._record_rejection(observer, failure, provider=route.provider)
                # Afterwards: a deadline that passes meanwhile finds no answer awaited.
                if is_dropped:
                    await self._availability.withdraw(route.id, route.provider)
                if not is_rejected:
                    raise
                failures.append(failure)
        if not failures:
            raise self._failure_without_routes()
        raise _merge_failures(failures)

    def _has_left_its_provider(self, observer: RunReporter, route: AnyRoute) -> bool:
        """Whether a run that has no job is asked elsewhere than planned from the start: what has
        withdrawn the model there, or switched it off, may have happened during this claim.
        """
        has_job = observer.run.job is not None and not observer.run.rejected
        return not has_job and route.provider != self.routes[0].provider

    async def _may_move_to(self, provider: str) -> bool:
        if self.progress.hand_over:
            return False
        return self.move_to is None or await self.move_to(provider)

    async def ask_only(self, observer: RunReporter) -> Answer:
        """Ask for the only run of a claim. Raise RunPostponed if it is worth claiming the
        output again.
        """
        try:
            return await self.ask(observer)
        except NotSubmitted as rejection:
            seconds = self.delay_after_rejection(observer, rejection)
            raise RunPostponed(timedelta(seconds=seconds)) from rejection

    def delay_after_rejection(self, observer: RunReporter, rejection: NotSubmitted) -> float:
        """Return the seconds until the next submission. Raise GenerationFailed if there is to be
        none.
        """
        # Ask every route once before asking any of them again.
        rounds = math.ceil(observer.run.tries / max(1, len(self.routes_of(observer))))
        seconds = next_try_seconds(
            rounds,
            jitter=random.uniform(0.5, 1.5),
            retry_after_seconds=rejection.retry_after_seconds or 0.0,
            seconds_left=self.clock.seconds_left,
        )
        if seconds is None:
            reason = str(rejection)
            raise GenerationFailed(rejection.code, retryable=True, detail=reason) from rejection
        return seconds

    def _failure_without_routes(self) -> GenerationFailed:
        if any(map(self.registry.is_switched_off, self.routes)):
            return NotSubmitted(
                GenerationErrorCode.PROVIDER_UNAVAILABLE,
                retry_after_seconds=_SWITCHED_OFF_RETRY_SECONDS,
                detail="switched off",
            )
        return GenerationFailed(GenerationErrorCode.MODEL_RETIRED, retryable=False)

    def _record_rejection(
        self, observer: RunReporter, failure: GenerationFailed, *, provider: str
    ) -> None:
        facts = {**self.facts, "provider": provider, "reason": str(failure)}
        log.warning("submission not accepted", extra=facts)
        observer.run = replace(observer.run, tries=max(observer.run.tries, 1), rejected=True)


def _wait_for_room(failures: Sequence[GenerationFailed]) -> NotSubmitted:
    """The failure where those that have the model are full."""
    codes = (one.code for one in failures if one.code is not GenerationErrorCode.MODEL_RETIRED)
    code = next(codes, GenerationErrorCode.PROVIDER_UNAVAILABLE)
    return NotSubmitted(code, detail="others are full")


def _merge_failures(failures: Sequence[GenerationFailed]) -> GenerationFailed:
    """The failure that represents those of all routes: the first one that allows another try, else
    the first one by a provider that has the model, else the first one.
    """
    rejections = [failure for failure in failures if isinstance(failure, NotSubmitted)]
    if not rejections:
        retired = GenerationErrorCode.MODEL_RETIRED
        return next((one for one in failures if one.code is not retired), failures[0])
    return NotSubmitted(
        rejections[0].code,
        retry_after_seconds=min(rejection.retry_after_seconds or 0.0 for rejection in rejections),
        detail=rejections[0].detail,
    )
