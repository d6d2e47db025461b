"""Decides which outputs run in this process, and when.

Waiting outputs come from hints and from searches of the database; whether one may run is decided by
its claim. An output for which there is no room stays in the database, and the search that follows
the end of a run finds it, in fair order.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from domain.claims import Hint, Waiting
from domain.errors import Overloaded
from domain.execution.dropped_hints import DroppedHints
from domain.execution.lanes import Lane, Lanes
from domain.execution.permits import Permits
from domain.execution.runner import RELEASE_SECONDS, OutputRun, OutputRunner
from domain.ids import ModelId, OutputId, ViewerId, parent_of_output
from domain.outputs import CAPTION_SLOT, Output
from domain.ports.execution import ClaimRepository
from domain.registry import Registry

log = logging.getLogger(__name__)

MAX_HINTS: Final = 2_000
"""How many hints may wait in this process for their claims. Searches find outputs whose hints are
dropped.
"""
_CLAIMS_AT_ONCE: Final = 16
"""How many hints are claimed at the same time: requests need the database's connections as well."""
_SEARCH_LIMIT: Final = 200
_SEARCH_PAUSE_SECONDS: Final = 0.05
_LEASES_RELIABLE_SECONDS: Final = 6.0
"""A little longer than the longest time between two sweeps, and shorter than a live worker's lease
still is when it cannot be renewed for the first time.
"""

_Attempt: TypeAlias = tuple[OutputId, int]
_Result = TypeVar("_Result")


@dataclass(slots=True, eq=False)
class _Run:
    """The room for one run: reserved before the claim, and freed when the run has ended."""

    lane: Lane
    viewer_id: ViewerId
    started: tuple[OutputRun, asyncio.Task[None]] | None = None
    moving: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it moves: several runs of one output may move at the same time."""


def never() -> bool:
    """What `is_ending` returns in a process that stops its dispatcher at once."""
    return False


class Dispatcher:
    """Runs outputs; also the `HintQueue` of a process that both answers requests and
    runs outputs.
    """

    def __init__(
        self,
        claims: ClaimRepository,
        runner: OutputRunner,
        permits: Permits,
        *,
        is_ending: Callable[[], bool] = never,
    ) -> None:
        """`is_ending` tells that the process has been asked to end. It stops this dispatcher later,
        once its requests have been answered; nothing is begun meanwhile.
        """
        self._claims = claims
        self._runner = runner
        self._permits = permits
        self._registries: Mapping[bool, Registry[Any]] = {
            False: runner.registry,
            True: runner.caption_models,
        }
        providers, writers = runner.providers.items(), runner.writers.items()
        self._lanes = Lanes(
            {
                **{Lane(name): provider.max_concurrent_runs for name, provider in providers},
                **{Lane(name, True): writer.max_concurrent_runs for name, writer in writers},
            }
        )
        self._runs: dict[_Attempt, _Run] = {}
        self._ran_at = 0.0
        self._contended: set[Lane] = set()
        """Lanes in which an output waits: a later hint does not overtake it."""
        self._has_room = asyncio.Event()
        """Set when a lane in which an output waits has room for a run."""
        permits.on_free = self._has_room.set
        self._leases_reliable_until = 0.0
        """Until this time of the event loop, an expired lease means that its worker is dead."""
        self._hints: set[asyncio.Task[Any]] = set()
        self._claiming: set[asyncio.Task[Any]] = set()
        self._hint_limit = asyncio.Semaphore(_CLAIMS_AT_ONCE)
        self._dropped = DroppedHints()
        self._is_ending = is_ending
        self._is_stopped = False

    @property
    def max_concurrent_runs(self) -> int:
        """How many outputs may run here at the same time."""
        return sum(self._lanes.limits.values())

    @property
    def limits(self) -> Mapping[str, int]:
        """How many outputs may run here at the same time, by the name of the lane."""
        return {str(lane): limit for lane, limit in self._lanes.limits.items()}

    @property
    def running(self) -> Mapping[str, int]:
        """How many run here at the moment, by the name of the lane."""
        return {str(lane): count for lane, count in self._lanes.running.items()}

    @property
    def ran_at(self) -> float:
        """When the last run ended, in the time of the event loop; now while any runs."""
        return asyncio.get_running_loop().time() if self._runs else self._ran_at

    def enqueue(self, viewer_id: ViewerId, output_ids: Iterable[OutputId]) -> None:
        """Start the outputs soon. Never waits and never fails: a search finds outputs whose hints
        are dropped.
        """
        for output_id in output_ids:
            self._start_in_background(output_id, partial(self.start, Hint(viewer_id, output_id)))

    def enqueue_written(self, viewer_id: ViewerId, outputs: Iterable[Output]) -> None:
        for output in outputs:
            waiting = Waiting.as_written(viewer_id, output)
            if self._is_next(waiting):
                self._start_in_background(output.id, partial(self._start_next, waiting))

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        """Stop the runs of outputs that have ended. A run that waits for its provider's answer
        continues until it has the answer, and then cancels the provider's job.
        """
        ended = set(output_ids)
        for (output_id, _), reserved in self._runs.items():
            if output_id in ended and reserved.started is not None:
                run, task = reserved.started
                if run.may_be_cancelled:
                    _cancel(task)

    async def start(self, hint: Hint) -> asyncio.Task[None] | None:
        """Claim a waiting output, and start its run if it may run here. Return the run."""
        if self._stopping:
            return None
        try:
            waiting = await self._claims.find_waiting(hint.viewer_id, hint.output_id)
            return None if waiting is None else await self._start_next(waiting)
        except Overloaded:
            log.warning("hint left for the sweeper", extra={"output_id": hint.output_id})
            return None

    @property
    def _stopping(self) -> bool:
        return self._is_stopped or self._is_ending()

    async def _start_next(self, waiting: Waiting) -> asyncio.Task[None] | None:
        return await self._claim(waiting) if self._is_next(waiting) else None

    def _is_next(self, waiting: Waiting) -> bool:
        """Whether no other output has to run before this one, which a hint has named."""
        if self._is_switched_off(waiting.model_id):
            return False
        lane = self._lane_of(waiting)
        if lane not in self._contended:
            return True
        # A search starts it in fair order, if there is room. Otherwise the end of a run does that:
        # to search for each hint would read a long list again for each output that joins it.
        if self._lanes.has_room_for(waiting.viewer_id, lane):
            self._search_for(lane)
        return False

    async def start_waiting(self, *, min_queued: timedelta, expired: bool) -> None:
        """Search the database for outputs that no worker holds, and start what may run here."""
        if expired:
            self._leases_reliable_until = (
                asyncio.get_running_loop().time() + _LEASES_RELIABLE_SECONDS
            )
            self._permits.forget_full_providers()
        await self._start_waiting(min_queued=min_queued, expired=expired)

    async def _start_waiting(self, *, min_queued: timedelta, expired: bool) -> None:
        free_lanes = self._lanes.with_room
        full_lanes = {lane for lane in free_lanes if self._permits.is_full(lane.provider)}
        # The search leaves out lanes that are full: outputs may be waiting for them.
        self._contended = set(self._lanes.limits) - free_lanes | full_lanes
        models = {
            model.id: Lane(model.provider, is_caption)
            for is_caption, registry in self._registries.items()
            for model in registry.all()
        }
        models = {model_id: lane for model_id, lane in models.items() if lane in free_lanes}
        if self._stopping or not models:
            return
        # Outputs of models that are switched off keep waiting, and so do those that need a permit.
        # Those that a worker has begun are run: they may have been paid for, and have a permit that
        # nobody else is given.
        started_only = {
            model_id
            for model_id, lane in models.items()
            if lane in full_lanes or self._is_switched_off(model_id)
        }
        found = await self._claims.list_waiting(
            [model_id for model_id in models if model_id not in started_only],
            begun_only=started_only,
            min_queued=min_queued,
            expired=expired,
            limit=_SEARCH_LIMIT,
        )
        if self._stopping:
            return
        # Most of a long list finds no room: that is not worth a task for each.
        claiming = [self._claim_reserved(output) for output in found if self._reserve(output)]
        tasks = await asyncio.gather(*claiming, return_exceptions=True)
        if started := sum(isinstance(task, asyncio.Task) for task in tasks):
            log.info("outputs recovered", extra={"count": started})
        for task in tasks:
            if isinstance(task, Exception):
                raise task

    async def fill(self) -> None:
        """Search again whenever there is room for an output that waits, until cancelled."""
        while True:
            await self._has_room.wait()
            await asyncio.sleep(_SEARCH_PAUSE_SECONDS)
            self._has_room.clear()
            try:
                await self._start_waiting(
                    min_queued=timedelta(0), expired=self._expiry_means_death()
                )
            except Overloaded:
                log.warning("waiting outputs left for the sweeper")
            except Exception:
                log.exception("dispatch failed")

    async def stop(self, grace_seconds: float) -> None:
        """Start nothing new, give back what another process can continue, and wait for the rest.

        Runs that have no answer after the grace period end as OUTCOME_UNKNOWN.
        """
        self._is_stopped = True
        for hint in self._hints:
            hint.cancel()
        if undecided := self._hints | self._claiming:
            await asyncio.wait(undecided, timeout=RELEASE_SECONDS)
        started = [run.started for run in self._runs.values() if run.started is not None]
        handed_over = [task for run, task in started if not run.may_be_cancelled]
        for run, task in started:
            if run.may_be_cancelled:
                _cancel(task)
            else:
                run.hand_over()
        tasks = [task for _, task in started]
        if tasks:
            try:
                await asyncio.wait(tasks, timeout=grace_seconds)
            finally:
                # Runs are cancelled even if this stop is cancelled before the grace period has
                # ended. The others have been cancelled before: a second time would keep them from
                # giving their outputs back.
                for task in handed_over:
                    task.cancel()
            await asyncio.wait(tasks, timeout=RELEASE_SECONDS + 1)

    def _start_in_background(
        self, output_id: OutputId, start: Callable[[], Awaitable[object]]
    ) -> None:
        if self._stopping:
            return
        if len(self._hints) >= MAX_HINTS:
            self._dropped.count("too many hints")
            return
        _create_task(self._start_hinted(output_id, start), self._hints, name=f"hint {output_id}")

    async def _start_hinted(
        self, output_id: OutputId, start: Callable[[], Awaitable[object]]
    ) -> None:
        async with self._hint_limit:
            try:
                await start()
            except Overloaded:
                log.warning("hint left for the sweeper", extra={"output_id": output_id})
            except Exception:
                log.exception("hint failed", extra={"output_id": output_id})

    async def _claim(self, waiting: Waiting) -> asyncio.Task[None] | None:
        """Claim an output and start its run, if there is room and no other worker was faster."""
        if self._stopping or not self._reserve(waiting):
            return None
        return await self._claim_reserved(waiting)

    def _claim_reserved(self, waiting: Waiting) -> asyncio.Future[asyncio.Task[None] | None]:
        """Cancelling the caller does not interrupt the claim: nobody would run its output."""
        claiming = self._claim_and_run(waiting)
        name = f"claim {waiting.output_id}"
        return asyncio.shield(_create_task(claiming, self._claiming, name=name))

    async def _claim_and_run(self, waiting: Waiting) -> asyncio.Task[None] | None:
        try:
            run = await self._claim_permitted(waiting)
        except BaseException:
            self._release(waiting)
            raise
        if run is None:
            self._release(waiting)
            return None
        run.ask_before_moving(partial(self._move, waiting))
        # A run belongs to no request: it starts without the caller's context variables.
        task = asyncio.create_task(
            self._run(waiting, run), name=f"run {waiting.output_id}", context=Context()
        )
        self._runs[_attempt_of(waiting)].started = run, task
        if self._stopping:
            _cancel(task)
        return task

    async def _claim_permitted(self, waiting: Waiting) -> OutputRun | None:
        lane = self._runs[_attempt_of(waiting)].lane
        # One that a worker has begun may have a job at another provider, and that one's permit.
        if await self._permits.take_back(waiting) or await self._permits.take(
            lane.provider, waiting, expired=self._expiry_means_death()
        ):
            return await self._runner.claim(waiting)
        self._contended.add(lane)
        return None

    async def _run(self, waiting: Waiting, run: OutputRun) -> None:
        try:
            await run.run()
            self.enqueue(waiting.viewer_id, run.queued)
        except Exception:
            log.exception("output failed unexpectedly", extra={"output_id": waiting.output_id})
        finally:
            self._release(waiting, continues=run.continues)

    def _reserve(self, waiting: Waiting) -> bool:
        lane, attempt = self._lane_of(waiting), _attempt_of(waiting)
        if attempt in self._runs or not self._lanes.has_room_for(waiting.viewer_id, lane):
            self._contended.add(lane)
            return False
        self._runs[attempt] = _Run(lane, waiting.viewer_id)
        self._lanes.enter(lane, waiting.viewer_id)
        return True

    async def _move(self, waiting: Waiting, provider: str) -> bool:
        """Move a run to another provider, if that one has room."""
        run = self._runs[_attempt_of(waiting)]
        async with run.moving:
            return await self._move_alone(waiting, run, provider)

    async def _move_alone(self, waiting: Waiting, run: _Run, provider: str) -> bool:
        lane = replace(run.lane, provider=provider)
        if run.lane == lane:
            return True
        if not self._lanes.has_room_for(waiting.viewer_id, lane):
            return False
        lane_to_search = run.lane
        self._change_lane(run, lane)
        moved = False
        try:
            with suppress(Overloaded):
                moved = await self._permits.take(
                    provider, waiting, expired=self._expiry_means_death()
                )
        finally:
            # The run may also have been cancelled meanwhile.
            if not moved:
                self._change_lane(run, lane_to_search)
                lane_to_search = lane
            self._search_for(lane_to_search)
        return moved

    def _change_lane(self, run: _Run, lane: Lane) -> None:
        self._lanes.leave(run.lane, run.viewer_id)
        self._lanes.enter(lane, run.viewer_id)
        run.lane = lane

    def _release(self, waiting: Waiting, *, continues: bool = False) -> None:
        attempt = _attempt_of(waiting)
        self._permits.give_back(*attempt, continues=continues)
        run = self._runs.pop(attempt)
        self._ran_at = asyncio.get_running_loop().time()
        self._lanes.leave(run.lane, run.viewer_id)
        self._search_for(run.lane)

    def _search_for(self, lane: Lane) -> None:
        """Search again if an output waits in the lane. Where permits are missing, the permit that
        is given back leads to the search.
        """
        if lane in self._contended and not self._permits.is_full(lane.provider):
            self._has_room.set()

    def _expiry_means_death(self) -> bool:
        """Whether an expired lease means a dead worker."""
        return asyncio.get_running_loop().time() < self._leases_reliable_until

    def _is_switched_off(self, model_id: ModelId) -> bool:
        return any(registry.is_off(model_id) for registry in self._registries.values())

    def _lane_of(self, waiting: Waiting) -> Lane:
        _, slot = parent_of_output(waiting.output_id)
        is_caption = slot == CAPTION_SLOT
        model = self._registries[is_caption].get(waiting.model_id)
        return Lane(model.provider if model else "", is_caption)


def _attempt_of(waiting: Waiting) -> _Attempt:
    """The key of a run in this process: a cancelled run may still wait for its provider when the
    output's next attempt starts.
    """
    return waiting.output_id, waiting.attempt


def _cancel(task: asyncio.Task[None]) -> None:
    # A run that is cancelled before its first step could not give its output back.
    asyncio.get_running_loop().call_soon(task.cancel)


def _create_task(
    work: Coroutine[Any, Any, _Result], tasks: set[asyncio.Task[Any]], *, name: str
) -> asyncio.Task[_Result]:
    """Start a task without the caller's context variables, and keep it until it has ended."""
    task = asyncio.create_task(work, name=name, context=Context())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
