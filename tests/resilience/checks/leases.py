"""Leases and deadlines, by the database's clock alone: nobody takes what another one holds."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Final

from domain.execution.sweeper import QUEUED_AT_MOST
from tests.clients import Data
from tests.resilience.attempts import Attempt
from tests.resilience.evidence import Chronicle, State

_FINAL: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_SLACK_SECONDS: Final = 0.005
"""Instants are kept in milliseconds."""


def against_leases(chronicle: Chronicle) -> Iterator[str]:
    yield from chronicle.gaps
    for output_id, states in chronicle.outputs.items():
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
            if abs((deadline - wanted).total_seconds()) > _SLACK_SECONDS:
                yield f"{attempt.name} has its deadline at {deadline}, not {wanted}"
        if attempt.code == "TIMED_OUT" and attempt.ended_at is not None:
            due = deadline or attempt.first["queuedAt"] + QUEUED_AT_MOST
            if attempt.ended_at < due.timestamp() - _SLACK_SECONDS:
                yield f"{attempt.name} timed out {due.timestamp() - attempt.ended_at:.1f} s early"


def _against_step(output_id: str, before: Data, state: State, after: Data) -> Iterator[str]:
    if before["status"] in _FINAL and after["attempt"] == before["attempt"]:
        yield f"{output_id} changed after its end, as {before['status']}"
    if after["attempt"] not in (before["attempt"], before["attempt"] + 1):
        yield f"{output_id} went from attempt {before['attempt']} to {after['attempt']}"
    if after["attempt"] > before["attempt"] and before["status"] not in _FINAL:
        yield f"{output_id} was tried again while it was {before['status']}"
    if after["fence"] not in (before["fence"], before["fence"] + 1):
        yield f"{output_id} went from fence {before['fence']} to {after['fence']}"
    if after["fence"] > before["fence"] and after["attempt"] == before["attempt"]:
        for name in ("leaseUntil", "notBefore"):
            until = before[name]
            if until is not None and state.at < until.timestamp() - _SLACK_SECONDS:
                early = until.timestamp() - state.at
                yield f"{output_id} was claimed {early:.1f} s before its {name} was reached"
    if before["deadlineAt"] not in (None, after["deadlineAt"]) and (
        after["attempt"] == before["attempt"]
    ):
        yield f"{output_id} was given another deadline"
