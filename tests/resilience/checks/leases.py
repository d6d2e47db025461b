"""Leases and deadlines, by the database's clock: no worker takes what another has claimed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from domain import rules
from domain.outputs import CAPTION_SLOT, UNFINISHED, OutputStatus
from tests.clients import Data
from tests.output_states import state_of
from tests.resilience.attempts import Attempt
from tests.resilience.evidence import State, StateLog

_SLACK: Final = timedelta(milliseconds=5)
"""Instants are stored in milliseconds."""


def against_leases(state_log: StateLog) -> Iterator[str]:
    yield from state_log.gaps
    for output_id, states in state_log.outputs.items():
        for before, after in pairwise(states):
            if before.output is None:
                yield f"{output_id} came back after its deletion"
            elif after.output is not None:
                yield from _against_step(output_id, before.output, after, after.output)


def against_deadlines(attempts: Sequence[Attempt]) -> Iterator[str]:
    for attempt in attempts:
        last = attempt.last
        started, deadline = last["startedAt"], last["deadlineAt"]
        if started is not None and deadline is not None:
            wanted = started + timedelta(seconds=last["deadlineSeconds"])
            if abs(deadline - wanted) > _SLACK:
                yield f"{attempt.name} has its deadline at {deadline}, not {wanted}"
        if attempt.code == "TIMED_OUT" and attempt.ended_at is not None:
            due_at = rules.due_at(state_of(last), max_queued=rules.MAX_QUEUED)
            early = due_at - _instant(attempt.ended_at)
            if early > _SLACK:
                yield f"{attempt.name} timed out {early.total_seconds():.1f} s early"


def _against_step(output_id: str, before: Data, state: State, after: Data) -> Iterator[str]:
    status, is_same_attempt = OutputStatus(before["status"]), after["attempt"] == before["attempt"]
    if is_same_attempt and status not in UNFINISHED:
        yield f"{output_id} changed after its end, as {status}"
    if after["attempt"] not in (before["attempt"], before["attempt"] + 1):
        yield f"{output_id} went from attempt {before['attempt']} to {after['attempt']}"
    # A caption that is not liked is written again.
    may_be_retried = rules.may_be_retried(status) or (
        before["slot"] == CAPTION_SLOT and status not in UNFINISHED
    )
    if after["attempt"] > before["attempt"] and not may_be_retried:
        yield f"{output_id} was tried again while it was {status}"
    if after["fence"] not in (before["fence"], before["fence"] + 1):
        yield f"{output_id} went from fence {before['fence']} to {after['fence']}"
    is_claim = after["fence"] > before["fence"] and is_same_attempt
    if is_claim and not rules.is_claimable(state_of(before), _instant(state.at) + _SLACK):
        yield f"{output_id} was claimed before it was claimable"
    if before["deadlineAt"] not in (None, after["deadlineAt"]) and is_same_attempt:
        yield f"{output_id} was given another deadline"


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
