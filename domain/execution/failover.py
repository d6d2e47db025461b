"""Asking for one run: the planned provider first, then the others that the model can be had from.

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
from typing import Final, Generic, Protocol, TypeVar

from domain.claims import Claim
from domain.errors import GenerationErrorCode, GenerationFailed, NotSubmitted
from domain.execution.clock import Clock
from domain.execution.rules import next_try_seconds
from domain.execution.run_progress import RunProgress, RunReporter
from domain.ids import OutputId

log = logging.getLogger(__name__)


_SWITCHED_OFF_SECONDS: Final = 5.0
"""Between two looks whether a provider has been switched on again."""


class Route(Protocol):
    """A model by one of the providers that it can be had from."""

    @property
    def provider(self) -> str: ...


AnyRoute = TypeVar("AnyRoute", bound=Route)
Answer = TypeVar("Answer")


class TryLater(Exception):
    """The submission was rejected, and is to be repeated after a delay."""

    def __init__(self, delay: timedelta) -> None:
        super().__init__(delay)
        self.delay = delay


class Failover(ABC, Generic[AnyRoute, Answer]):
    """Has the model of one claim run, by the first of its routes that takes it."""

    def __init__(
        self,
        claim: Claim,
        progress: RunProgress,
        *,
        routes: Sequence[AnyRoute],
        may_ask: Callable[[AnyRoute], bool],
    ) -> None:
        """`may_ask`: whether the operator lets a route be asked at the moment."""
        self.claim = claim
        self.routes = routes
        self.may_ask = may_ask
        self.progress = progress
        self.clock = Clock(claim)
        self.facts = {"output_id": claim.output.id, "model": claim.output.model_id}
        self.move_to: Callable[[str], Awaitable[bool]] | None = None
        """Is asked whether this run may move to another provider, and has room there then."""

    @abstractmethod
    async def make(self) -> Answer:
        """Run the model, and store what has bytes. Raise GenerationFailed where that has failed,
        TryLater where the only submission was rejected for the time being.
        """

    @abstractmethod
    async def land(self, made: Answer) -> Sequence[OutputId]:
        """Write what was made. Return the outputs that may run from now on. Raise LeaseLost where
        it comes too late.
        """

    @abstractmethod
    async def cancel_jobs(self) -> None:
        """Ask the providers to stop their jobs: the results are no longer wanted."""

    @abstractmethod
    async def clear_away(self) -> None:
        """Delete bytes that nothing refers to, however it ended."""

    @property
    @abstractmethod
    def providers(self) -> frozenset[str]:
        """Those that can be asked here."""

    @abstractmethod
    def routes_of(self, observer: RunReporter) -> Sequence[AnyRoute]:
        """Where a run may be asked for, the planned route first; or where its job is."""

    @abstractmethod
    async def ask_route(self, observer: RunReporter, route: AnyRoute) -> Answer:
        """Run the model at one provider."""

    async def ask(self, observer: RunReporter) -> Answer:
        """Ask the provider, and the next one as long as it is certain that none has accepted a job.

        Raise NotSubmitted if it is worth asking them again later.
        """
        if observer.is_lost:
            raise GenerationFailed(
                GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True, detail="asked by another"
            )
        failures: list[GenerationFailed] = []
        for route in self.routes_of(observer):
            if failures:
                if not await self._may_move_to(route.provider):
                    if not any(isinstance(one, NotSubmitted) for one in failures):
                        # There may be room later: one provider's key does not cost the output.
                        failures.append(NotSubmitted(failures[0].code, detail="others are full"))
                    break
                # A process that continues has to know of the rejection.
                await self.progress.save_runs()
            try:
                observer.run = replace(observer.run, provider=route.provider)
                return await self.ask_route(observer, route)
            except GenerationFailed as failure:
                # That another provider has dropped the model says nothing about the planned one.
                is_dropped = failure.code is GenerationErrorCode.MODEL_RETIRED
                if not failure.nothing_taken and not (failures and is_dropped):
                    raise
                self._record_rejection(observer, failure, provider=route.provider)
                failures.append(failure)
        if not failures:
            raise self._failure_without_routes()
        raise _soonest(failures)

    async def _may_move_to(self, provider: str) -> bool:
        if self.progress.hand_over:
            return False
        return self.move_to is None or await self.move_to(provider)

    async def ask_only(self, observer: RunReporter) -> Answer:
        """Ask for the only run of a claim. Raise TryLater if it is worth claiming it again."""
        try:
            return await self.ask(observer)
        except NotSubmitted as rejection:
            delay = self.delay_after(observer, rejection)
            if delay is None:
                raise GenerationFailed(
                    rejection.code, retryable=True, detail=str(rejection)
                ) from rejection
            raise TryLater(timedelta(seconds=delay)) from rejection

    def delay_after(self, observer: RunReporter, rejection: NotSubmitted) -> float | None:
        """The seconds until the next submission, or None for none."""
        # All routes are asked before any of them is asked again.
        rounds = math.ceil(observer.run.tries / max(1, len(self.routes_of(observer))))
        return next_try_seconds(
            rounds,
            jitter=random.uniform(0.5, 1.5),
            retry_after_seconds=rejection.retry_after_seconds or 0.0,
            seconds_left=self.clock.seconds_left,
        )

    def _failure_without_routes(self) -> GenerationFailed:
        if all(map(self.may_ask, self.routes)):
            return GenerationFailed(GenerationErrorCode.MODEL_RETIRED, retryable=False)
        return NotSubmitted(
            GenerationErrorCode.PROVIDER_UNAVAILABLE,
            retry_after_seconds=_SWITCHED_OFF_SECONDS,
            detail="switched off",
        )

    def _record_rejection(
        self, observer: RunReporter, failure: GenerationFailed, *, provider: str
    ) -> None:
        facts = {**self.facts, "provider": provider, "reason": str(failure)}
        log.warning("submission not accepted", extra=facts)
        observer.run = replace(observer.run, tries=max(observer.run.tries, 1), rejected=True)


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
