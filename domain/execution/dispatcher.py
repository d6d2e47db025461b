"""Decides which outputs run in this process, and when.

Hints come from the job queue and from looking around in the database; whether an output may run is
decided by its claim. What finds no place here is left where it stands: the database remembers it,
and it is found again, in fair order, as soon as a place is free.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from domain.errors import Overloaded
from domain.execution.runner import LETTING_GO_SECONDS, OutputRun, OutputRunner
from domain.ids import OutputId, ViewerId
from domain.models import ModelRegistry
from domain.ports.execution import ClaimRepository
from domain.ports.providers import Provider
from domain.turns import Waiting

log = logging.getLogger(__name__)

_SHARE: Final = 2
"""A viewer gets at most one of so many parts of a provider's places: another's output always finds
one sooner than the last of a hundred.
"""
_SMALL: Final = 2
"""So many places may all be one viewer's."""
_LOOK_AT: Final = 200
_LOOK_AGAIN_SECONDS: Final = 0.05
_SURE_SECONDS: Final = 3.0
"""A little longer than from one sweep to the next."""


_Attempt: TypeAlias = tuple[OutputId, int]


@dataclass(slots=True, eq=False)
class _Place:
    """Taken before the claim, and free when the run has ended."""

    provider: str
    viewer_id: ViewerId
    started: tuple[OutputRun, asyncio.Task[None]] | None = None


class Dispatcher:
    def __init__(
        self,
        claims: ClaimRepository,
        runner: OutputRunner,
        registry: ModelRegistry,
        providers: Mapping[str, Provider],
    ) -> None:
        self._claims = claims
        self._runner = runner
        self._registry = registry
        self._limits = {name: provider.max_concurrent_runs for name, provider in providers.items()}
        self._taken: dict[_Attempt, _Place] = {}
        self._wanted: set[str] = set()
        """Providers that had no place for somebody: nobody gets one there by coming later."""
        self._freed = asyncio.Event()
        """A place has become free that somebody waits for."""
        self._sure_until = 0.0
        """Until then a lease that has run out means a dead worker."""
        self._stopping = False

    @property
    def places(self) -> int:
        """How many outputs may run here at the same time."""
        return sum(self._limits.values())

    async def take(self, output_id: OutputId, acknowledge: Callable[[], Awaitable[None]]) -> None:
        """A hint arrived: claim the output if there is a place, acknowledge, run it to its end.

        It is acknowledged in any case, as soon as it is clear whether it is claimed.
        """
        task = None
        try:
            waiting = None if self._stopping else await self._claims.find_waiting(output_id)
            if waiting is not None and self._provider_of(waiting) in self._wanted:
                self._freed.set()  # in fair order, if a place is free
            elif waiting is not None:
                task = await self._admit(waiting)
        except Overloaded:
            log.warning("hint left for the sweeper", extra={"output_id": output_id})
        finally:
            await acknowledge()
        if task is not None:
            # Whoever stops waiting here stops no run: that is for `recall` and `stop`.
            await asyncio.wait([task])

    async def look_around(self, *, queued_for: timedelta, expired: bool) -> None:
        """Take up what nobody holds, as far as there are places."""
        if expired:
            self._sure_until = asyncio.get_running_loop().time() + _SURE_SECONDS
        await self._look_around(queued_for=queued_for, expired=expired)

    async def _look_around(self, *, queued_for: timedelta, expired: bool) -> None:
        free = self._with_places()
        # Who waits where there is no place is not looked for, and may be somebody.
        self._wanted = set(self._limits) - free
        models = [model.id for model in self._registry.all() if model.provider in free]
        if self._stopping or not models:
            return
        found = await self._claims.waiting(
            models, queued_for=queued_for, expired=expired, limit=_LOOK_AT
        )
        tasks = await asyncio.gather(*map(self._admit, found), return_exceptions=True)
        if started := sum(isinstance(task, asyncio.Task) for task in tasks):
            log.info("outputs recovered", extra={"count": started})
        for task in tasks:
            if isinstance(task, Exception):
                raise task

    async def fill(self) -> None:
        """Take up what waits whenever a place has become free, for ever."""
        while True:
            await self._freed.wait()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            self._freed.clear()
            is_sure = asyncio.get_running_loop().time() < self._sure_until
            try:
                await self._look_around(queued_for=timedelta(0), expired=is_sure)
            except Overloaded:
                log.warning("waiting outputs left for the sweeper")
            except Exception:
                log.exception("dispatch failed")

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        """Stop those that run here and are over. A run that waits for its provider's answer goes on
        until it has it, and withdraws what was asked for.
        """
        over = set(output_ids)
        for (output_id, _), place in self._taken.items():
            if output_id in over and place.started is not None:
                run, task = place.started
                if run.may_be_cut:
                    task.cancel()

    async def stop(self, grace_seconds: float) -> None:
        """Take nothing new, hand over what another process can go on with, wait for the rest.

        What has no answer within the grace ends as OUTCOME_UNKNOWN.
        """
        self._stopping = True
        started = [place.started for place in self._taken.values() if place.started is not None]
        for run, task in started:
            if run.may_be_cut:
                task.cancel()
            else:
                run.hand_over()
        tasks = [task for _, task in started]
        if tasks:
            try:
                await asyncio.wait(tasks, timeout=grace_seconds)
            finally:
                for task in tasks:
                    task.cancel()  # also where somebody has no patience even for the grace
            await asyncio.wait(tasks, timeout=LETTING_GO_SECONDS + 1)

    async def _admit(self, waiting: Waiting) -> asyncio.Task[None] | None:
        """Claim an output and start its run, if there is a place and nobody was faster."""
        place = self._occupy(waiting)
        if place is None:
            return None
        try:
            run = await self._runner.claim(waiting.output_id)
        except BaseException:
            self._leave(waiting)
            raise
        if run is None:
            self._leave(waiting)
            return None
        # A run belongs to no request: it begins with no context variables of anybody's.
        task = asyncio.create_task(
            self._run(waiting, run), name=f"run {waiting.output_id}", context=Context()
        )
        place.started = run, task
        if self._stopping:
            task.cancel()
        return task

    async def _run(self, waiting: Waiting, run: OutputRun) -> None:
        try:
            await run.run()
        except Exception:
            log.exception("output failed unexpectedly", extra={"output_id": waiting.output_id})
        finally:
            self._leave(waiting)

    def _occupy(self, waiting: Waiting) -> _Place | None:
        provider, attempt = self._provider_of(waiting), _attempt_of(waiting)
        if attempt in self._taken or not self._has_place(provider, waiting.viewer_id):
            self._wanted.add(provider)
            return None
        place = self._taken[attempt] = _Place(provider, waiting.viewer_id)
        return place

    def _leave(self, waiting: Waiting) -> None:
        place = self._taken.pop(_attempt_of(waiting))
        if place.provider in self._wanted:
            self._freed.set()

    def _provider_of(self, waiting: Waiting) -> str:
        model = self._registry.get(waiting.model_id)
        return model.provider if model else ""

    def _has_place(self, provider: str, viewer_id: ViewerId) -> bool:
        limit = self._limits.get(provider, _SMALL)
        taken = [place for place in self._taken.values() if place.provider == provider]
        own = sum(place.viewer_id == viewer_id for place in taken)
        return len(taken) < limit and own < max(_SMALL, limit // _SHARE)

    def _with_places(self) -> set[str]:
        taken = [place.provider for place in self._taken.values()]
        return {name for name, limit in self._limits.items() if taken.count(name) < limit}


def _attempt_of(waiting: Waiting) -> _Attempt:
    """What a run here is known by: a cancelled one that its provider keeps waiting may still be
    here when the output's next attempt comes.
    """
    return waiting.output_id, waiting.attempt
