"""Stopping: in order, and in time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tests.resilience.evidence import Kill
from tests.resilience.sites import GRACE_SECONDS

MOST_SECONDS: Final[Mapping[str, float]] = {"api": 25.0, "worker": GRACE_SECONDS + 10.0}


def against_stops(kills: Sequence[Kill]) -> Iterator[str]:
    for kill in kills:
        if kill.stopped and kill.exit_code != 0:
            yield f"{kill.who} was asked to stop, and ended with {kill.exit_code}"
        if kill.stopped and kill.ended_after > MOST_SECONDS[kill.kind]:
            yield f"{kill.who} took {kill.ended_after:.1f} s to stop"
