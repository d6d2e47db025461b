"""Stopping: in order, in time, and without keeping claims that others could take."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from domain.execution.leases import LEASE
from tests.resilience.attempts import Attempt, Claimed
from tests.resilience.evidence import Kill
from tests.resilience.sites import GRACE_SECONDS

MOST_SECONDS: Final[Mapping[str, float]] = {"api": 25.0, "worker": GRACE_SECONDS + 10.0}
_SLACK_SECONDS: Final = 0.5


def against_stops(attempts: Sequence[Attempt] | None, kills: Sequence[Kill]) -> Iterator[str]:
    for kill in kills:
        if kill.stopped and kill.exit_code != 0:
            yield f"{kill.who} was asked to stop, and ended with {kill.exit_code}"
        if kill.stopped and kill.ended_after > MOST_SECONDS[kill.kind]:
            yield f"{kill.who} took {kill.ended_after:.1f} s to stop"
    for attempt in attempts or ():
        for claim in attempt.claims:
            suspects = _who_may_have_held(claim, kills)
            if suspects and all(one.stopped and _was_free_to(one, kills) for one in suspects):
                names = ", ".join(one.who for one in suspects)
                yield f"{attempt.name} was not given back, and only {names} had been stopped"


def _who_may_have_held(claim: Claimed, kills: Sequence[Kill]) -> list[Kill]:
    """Processes killed between the last renewal of the claim before and this one."""
    if claim.lease_before is None:
        return []
    alive_at = claim.lease_before - LEASE.total_seconds() - _SLACK_SECONDS
    return [kill for kill in kills if kill.ran_outputs and alive_at <= kill.at <= claim.at]


def _was_free_to(stop: Kill, kills: Sequence[Kill]) -> bool:
    """Whether the database was there while it stopped: without it nothing can be given back."""
    return not any(
        kill.kind == "mongod"
        and kill.at <= stop.at + stop.ended_after
        and (kill.back_at or float("inf")) >= stop.at
        for kill in kills
    )
