"""The rules of running outputs: who may run one, which runs first, when it ends, and what follows.

Pure functions. The time is an argument, and always the database's. Where a decision and its write
must be one operation, MongoDB decides the same: `storage/mongo/output_rules.py` has the expression
for each of these rules, and `tests/storage/test_output_rules.py` compares the two. A post's status
is not stored: `domain/posts.py` derives it from its outputs.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.claims import Waiting
from domain.errors import GenerationErrorCode
from domain.ids import ModelId, ParentId, ViewerId
from domain.outputs import UNFINISHED, GenerationError, Output, OutputStatus, Run
from domain.turns import TurnStatus

MAX_QUEUED: Final = timedelta(minutes=15)
"""How long an output may wait for its first claim."""
TIMED_OUT: Final = GenerationError(GenerationErrorCode.TIMED_OUT, retryable=True)
OUTCOME_UNKNOWN: Final = GenerationError(GenerationErrorCode.OUTCOME_UNKNOWN, retryable=True)
STUCK_AFTER: Final = timedelta(seconds=30)
"""Longer than a lease and a sweep: nobody ends an output that is overdue by more than this."""
MAX_TRIES: Final = 4
"""How often a run is submitted within one attempt, if the provider rejects it."""
_FIRST_DELAY_SECONDS: Final = 1.0
_VIEWER_DIVISOR: Final = 2
"""A viewer gets at most half of a provider's runs, so that another viewer's output never waits for
the last of a hundred.
"""
MIN_RUNS_PER_VIEWER: Final = 2
"""A viewer may always have this many runs."""
_WITHOUT_CAPTION: Final = frozenset({OutputStatus.FAILED, OutputStatus.CANCELLED})
MAX_GAP_LEASES: Final = 0.5
"""In leases: the longest time for which the database may not have been reached without any live
worker's lease expiring. A renewal that has just failed, or hangs, is repeated before its lease
ends.
"""
_SUSPENDED_AFTER_LEASES: Final = 2 / 3
"""In leases: how long a process must have been suspended for live workers' leases to
expire unseen.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputState:
    """The state that decides whether an output may run."""

    status: OutputStatus
    queued_at: datetime
    """When this attempt was requested."""
    lease_until: datetime | None
    """Until when its worker holds it. None: it was never claimed, or was given back."""
    not_before: datetime | None
    """Until when it is postponed, because its provider rejected the submission."""
    deadline_at: datetime | None
    """Set by the first claim of an attempt."""
    waits: bool = False
    """Whether it waits for a caption: nothing starts it, and it is in no queue."""


def is_held(output: OutputState, now: datetime) -> bool:
    """Whether a worker holds it."""
    return output.status in UNFINISHED and not _is_reached(output.lease_until, now)


def is_claimable(output: OutputState, now: datetime) -> bool:
    """Whether a worker may claim it: unfinished, not held, not postponed, not waiting for a
    caption.

    The deadline does not matter: a worker that claims an output after its deadline ends it as timed
    out.
    """
    return _is_free(output, now) and _is_reached(output.not_before, now)


def is_waiting(output: OutputState, now: datetime) -> bool:
    """Whether a hint may start it. Outputs with expired leases are left to the sweeper, which knows
    whether their workers are dead.
    """
    return is_claimable(output, now) and output.lease_until is None


def may_be_started_by_search(
    output: OutputState, now: datetime, *, min_queued: timedelta, expired: bool
) -> bool:
    """Whether a search starts it: given back, or queued for this long. `expired`: also where a
    lease has expired.
    """
    is_available = output.lease_until is None or expired
    is_due = output.status is OutputStatus.GENERATING or output.queued_at <= now - min_queued
    return is_claimable(output, now) and is_available and is_due


def is_unchanged(found: Waiting, *, fence: int, lease_until: datetime | None) -> bool:
    """Whether a claim may rely on what a search found: no worker has claimed the output since, or
    renewed its lease.
    """
    return found.fence == fence and found.lease_until == lease_until


def is_overdue(output: OutputState, now: datetime, *, max_queued: timedelta) -> bool:
    """Whether it has to be ended: past its deadline, or queued too long. Not while a worker holds
    it, since that worker ends it.
    """
    return _is_free(output, now) and due_at(output, max_queued=max_queued) <= now


def is_outcome_unknown(runs: Iterable[Run]) -> bool:
    """Whether a provider may have accepted a submission of this attempt whose answer is not
    known.
    """
    return any(run.answer_is_awaited for run in runs)


def overdue_error(*, outcome_unknown: bool) -> GenerationError:
    """How an overdue output ends."""
    return OUTCOME_UNKNOWN if outcome_unknown else TIMED_OUT


def is_cancelled_with_caption(output: OutputState, caption: OutputStatus) -> bool:
    """Whether it has to be cancelled, because the caption that it needs has failed or was
    cancelled.
    """
    return output.waits and output.status in UNFINISHED and caption in _WITHOUT_CAPTION


def due_at(output: OutputState, *, max_queued: timedelta) -> datetime:
    """When it times out."""
    return output.deadline_at or output.queued_at + max_queued


def is_stuck(
    output: OutputState, now: datetime, *, max_queued: timedelta, after: timedelta = STUCK_AFTER
) -> bool:
    """Whether it should have been ended long ago."""
    due = due_at(output, max_queued=max_queued)
    return output.status in UNFINISHED and due + after <= now


def _is_free(output: OutputState, now: datetime) -> bool:
    return output.status in UNFINISHED and not output.waits and not is_held(output, now)


def _is_reached(instant: datetime | None, now: datetime) -> bool:
    return instant is None or instant <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An unfinished output, as a search found it."""

    parent_id: ParentId
    slot: int
    viewer_id: ViewerId
    model_id: ModelId
    state: OutputState


def in_fair_order(
    candidates: Collection[Candidate],
    now: datetime,
    *,
    model_ids: Collection[ModelId],
    begun_only: Collection[ModelId] = (),
    min_queued: timedelta,
    expired: bool,
) -> Sequence[Candidate]:
    """The outputs of these models that a search starts, the first one first; of those in
    `begun_only`, only outputs that a worker has begun.

    Interrupted outputs come first: their run had begun, and may have been paid for. The others are
    ordered by how many of their viewer's outputs run or wait before them, and then by how long they
    have been queued: a viewer's single output never waits for all hundred of another viewer.
    """

    eligible = [
        candidate
        for candidate in candidates
        if (
            candidate.model_id in model_ids
            or (
                candidate.model_id in begun_only
                and candidate.state.status is OutputStatus.GENERATING
            )
        )
        and may_be_started_by_search(candidate.state, now, min_queued=min_queued, expired=expired)
    ]
    outputs_before = Counter(
        candidate.viewer_id for candidate in candidates if is_held(candidate.state, now)
    )
    oldest_first = sorted(
        eligible, key=lambda each: (each.state.queued_at, each.parent_id, each.slot)
    )
    ranked: list[tuple[bool, int, Candidate]] = []
    for candidate in oldest_first:
        is_new = not is_interrupted(candidate.state)
        ranked.append((is_new, outputs_before[candidate.viewer_id], candidate))
        outputs_before[candidate.viewer_id] += 1
    # A sort is stable: among equals, the oldest stays first.
    return [candidate for *_, candidate in sorted(ranked, key=lambda each: each[:2])]


def is_interrupted(output: OutputState) -> bool:
    """Whether a worker was stopped while it ran the output. A postponed output was not
    interrupted.
    """
    is_postponed = output.lease_until is None and output.not_before is not None
    return output.status is OutputStatus.GENERATING and not is_postponed


def has_room(limit: int, *, running: int, own: int) -> bool:
    """Whether a process that may have `limit` runs at a provider, and has `running`, may start
    another one for a viewer who has `own` of them.
    """
    return running < limit and own < max(MIN_RUNS_PER_VIEWER, limit // _VIEWER_DIVISOR)


def may_write(claimed: Output, output: Output) -> bool:
    """Whether the worker that claimed an output as `claimed` may write to it as it is now: no other
    worker has claimed it since, and it has not ended.
    """
    return (
        output.status is OutputStatus.GENERATING
        and output.attempt == claimed.attempt
        and output.fence == claimed.fence
    )


def is_abandoned(claimed: Output, output: Output | None) -> bool:
    """Whether the result of a claim's provider is no longer needed. None: the output was deleted.

    A completed output without other runs is not abandoned: the claim's own write may have completed
    it although its answer was lost, and there is nothing left to cancel.
    """
    if output is None or output.attempt != claimed.attempt:
        return True
    if output.status is OutputStatus.COMPLETED:
        return any(run.landed for run in output.runs)
    return output.status not in UNFINISHED


def furthest_runs(stored: Sequence[Run], written: Sequence[Run]) -> Sequence[Run]:
    """The runs that a write stores: the written ones, except where the stored ones have come
    further.
    """
    return stored if _steps(stored) > _steps(written) else written


def _steps(runs: Iterable[Run]) -> int:
    return sum(run.step for run in runs)


def derive_status(outputs: Iterable[OutputStatus]) -> TurnStatus:
    """A turn's status, derived from those of its outputs."""
    statuses = set(outputs)
    if statuses == {OutputStatus.QUEUED}:
        return TurnStatus.PENDING
    if statuses & UNFINISHED:
        return TurnStatus.GENERATING
    if OutputStatus.COMPLETED in statuses:
        return TurnStatus.COMPLETED
    return TurnStatus.CANCELLED if OutputStatus.CANCELLED in statuses else TurnStatus.FAILED


def end_of(status: OutputStatus, *, has_images: bool) -> OutputStatus:
    """How an output ends that fails or is cancelled: if some of its images have landed, it is
    completed with those.
    """
    return OutputStatus.COMPLETED if has_images else status


def may_be_cancelled(status: OutputStatus) -> bool:
    return status in UNFINISHED


def may_be_retried(status: OutputStatus) -> bool:
    """Whether an output may have another attempt."""
    return status in {OutputStatus.FAILED, OutputStatus.CANCELLED}


def may_become(before: OutputStatus, after: OutputStatus) -> bool:
    """Whether an output's status may change in this way within one attempt: it never goes back, and
    ends once.

    Only tests use it: the conditions of the writes imply it.
    """
    return before in UNFINISHED and stage_of(after) >= stage_of(before)


def stage_of(status: OutputStatus) -> int:
    """How far an output is: 0 queued, 1 generating, 2 ended."""
    return {OutputStatus.QUEUED: 0, OutputStatus.GENERATING: 1}.get(status, 2)


def next_try_seconds(
    tries: int, *, jitter: float, retry_after_seconds: float, seconds_left: float
) -> float | None:
    """The seconds until a rejected submission is repeated. None: the attempt fails. `jitter` is a
    random factor around 1.
    """
    backoff = _FIRST_DELAY_SECONDS * 2 ** (tries - 1) * jitter
    delay = max(backoff, retry_after_seconds)
    return None if tries >= MAX_TRIES or delay >= seconds_left else delay


def expiry_means_death(in_touch_seconds: float, *, lease_seconds: float) -> bool:
    """Whether an expired lease means a dead worker: the database has been reached without a gap for
    this long, by any process. While it cannot be reached, live workers cannot renew their leases
    either.
    """
    return in_touch_seconds >= lease_seconds


def was_suspended(seconds_between_sweeps: float, *, lease_seconds: float) -> bool:
    """Whether a process may have missed an outage of the database because it was suspended."""
    return seconds_between_sweeps > lease_seconds * _SUSPENDED_AFTER_LEASES
