"""How long outputs and updates stood still: measured over the whole history, by what was killed
when.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain.execution.leases import LEASE
from tests.resilience.attempts import Attempt
from tests.resilience.evidence import Kill, SubscriberLog

_SLOW_MODELS: Final = frozenset({"rehearsal-slow", "rehearsal-lands-last"})
_LIVELY_SECONDS: Final = 1.0
"""An output with an update this shortly before mongod died was running."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """An output was claimed again after the process that ran it had been killed."""

    name: str
    after_kill: float
    """Seconds since the process was killed."""
    after_calm: float
    """Seconds since anything was killed or restarted: the bound applies to these."""
    quiet: bool
    """Nothing else was killed between the two."""


def takeovers(attempts: Sequence[Attempt], kills: Sequence[Kill]) -> list[Takeover]:
    """Every claim of an output whose claim before had not been given back."""
    found = []
    for attempt in attempts:
        for claim in attempt.claims:
            if claim.lease_before is None:
                continue
            alive_at = claim.lease_before - LEASE.total_seconds()
            # The first process that was killed after the last renewal of the claim.
            deaths = [kill for kill in kills if kill.ran_outputs and kill.at >= alive_at - 0.5]
            if not deaths or deaths[0].at > claim.at:
                continue
            death = deaths[0]
            moments = [
                moment
                for kill in kills
                for moment in (kill.at, kill.back_at)
                if moment is not None and moment <= claim.at and moment >= death.at
            ]
            others = [
                kill
                for kill in kills
                if kill is not death
                and death.at - _LIVELY_SECONDS < (kill.back_at or claim.at)
                and kill.at < claim.at
            ]
            found.append(
                Takeover(
                    attempt.name,
                    claim.at - death.at,
                    claim.at - max(moments, default=death.at),
                    death.quiet and not others,
                )
            )
    return found


def latencies(attempts: Sequence[Attempt]) -> list[float]:
    """From being queued to being started, of all that were."""
    return [
        (attempt.last["startedAt"] - attempt.last["queuedAt"]).total_seconds()
        for attempt in attempts
        if attempt.last["startedAt"] is not None
    ]


def silences(subscribers: Sequence[SubscriberLog], kills: Sequence[Kill]) -> list[float]:
    """How long after each return of mongod a socket that lived through it was silent about an
    running output, if nothing else was killed.
    """
    found: list[float] = []
    steps = [pair for subscriber in subscribers for pair in _steps(subscriber)]
    for kill in kills:
        if kill.kind != "mongod" or kill.back_at is None:
            continue
        others = [other for other in kills if other is not kill]
        for before, after in steps:
            if not (kill.at - _LIVELY_SECONDS < before < kill.at and kill.back_at < after):
                continue
            if not any(
                other.at < after and (other.back_at or other.at) > before - _LIVELY_SECONDS
                for other in others
            ):
                found.append(after - kill.back_at)
    return found


def _steps(subscriber: SubscriberLog) -> Iterator[tuple[float, float]]:
    """When one connection received two consecutive steps of an output with many steps."""
    known: dict[tuple[int, str], tuple[float | None, Any]] = {}
    for seen in subscriber.seen:
        for output in seen.parent["outputs"]:
            if output["model"]["id"] not in _SLOW_MODELS:
                continue
            name, state = (seen.connection, output["id"]), (output["status"], output["progress"])
            if name not in known:
                known[name] = None, state
            elif known[name][1] != state:
                before = known[name][0]
                if before is not None:
                    yield before, seen.at
                known[name] = seen.at, state
