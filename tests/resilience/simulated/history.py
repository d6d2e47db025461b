"""One history: a seed decides what is deployed, who requests what, what fails, and in which order.

While faults are injected, processes die, freeze and are stopped, the database becomes unavailable,
and single calls fail. Then the faults end, and everything has to finish in time.
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Final

from domain.errors import GenerationErrorCode
from domain.outputs import Output
from domain.parents import Parent
from domain.posts import as_post
from tests.resilience.simulated.faults import FaultInjector, random_fault_rates
from tests.resilience.simulated.model.tables import Hidden
from tests.resilience.simulated.seeded_services import (
    logged_errors_as_violations,
    seeded_randomness,
)
from tests.resilience.simulated.site import LEASE, SWEEP_SECONDS, Parts, a_site
from tests.resilience.simulated.site_faults import SiteFaults
from tests.resilience.simulated.viewers import Viewers
from tests.resilience.simulated.world import Stalled, World

_MARGIN_SECONDS: Final = 4.0
"""For calls, and for pauses between them."""
_LOOK_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 3.5
"""For clean-up after everything has ended."""
_VIEWERS_SECONDS: Final = 600.0
_QUEUE_SECONDS: Final = 120.0
"""How long an output may wait for a place, where there are few."""


_MADE_UP: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{40}|[0-7][0-9a-hjkmnp-tv-z]{25}")
"""What is different whenever a history is played: keys of objects, and the ids' latter halves."""


@dataclass(slots=True)
class History:
    """What came of a seed."""

    seed: str
    violations: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """What happened, where it was traced."""
    seconds: float = 0.0
    faults: int = 0
    deaths: int = 0
    requests: int = 0
    outputs: int = 0
    jobs: int = 0
    unknown: int = 0
    """Outputs that ended with OUTCOME_UNKNOWN."""


def play(seed: str, *, parts: Parts | None = None, traced: bool = False) -> History:
    """Play the history of a seed from its beginning to its end."""
    history = History(seed)
    randomness = Random(seed)
    world = World(randomness)
    if traced:
        world.trace_into(history.lines)
    with seeded_randomness(randomness.random()), logged_errors_as_violations(world):
        course = _Course(world, parts)
        try:
            world.run_until(course.is_over)
        except Stalled as error:
            world.broken.append(f"the history does not come to an end: {error}")
        course.close(history)
    readable = _readable([*history.lines, *history.violations])
    history.lines, history.violations = (
        readable[: len(history.lines)],
        readable[len(history.lines) :],
    )
    return history


class _Course:
    """A site with its viewers and its failures, and the condition for its end."""

    def __init__(self, world: World, parts: Parts | None) -> None:
        random = world.random
        self.world = world
        self._few_places = random.random() < 0.15
        injector = FaultInjector(
            world, random_fault_rates(random), lease_seconds=LEASE.total_seconds()
        )
        self.site = a_site(
            injector,
            parts=parts,
            deadline=timedelta(seconds=random.choice((6, 10, 16))),
            places=random.choice((1, 2)) if self._few_places else 100,
            starting_credits=random.choice((6, 20, 1000, 1000)),
            max_active_outputs=random.choice((2, 4, 50, 50)),
        )
        self.site_faults = SiteFaults(self.site)
        self.viewers = Viewers(
            self.site,
            viewers=random.choice((1, 1, 1, 2)),
            requests=random.choice((1, 2, 4, 7)),
            keyed=random.choice((0.0, 0.5, 1.0)),
        )
        self._over_at: float | None = None
        world.after(_LOOK_SECONDS, self._look)

    def is_over(self) -> bool:
        return self._over_at is not None and self.world.now > self._over_at

    def close(self, history: History) -> None:
        """Check what can be checked only at the end, and stop everything."""
        invariants, ended = self.site.invariants, self.site.invariants.ended.values()
        invariants.check_the_end()
        self.viewers.check_the_end()
        history.seconds = self.world.now
        history.faults = self.site.injector.faults
        history.deaths = self.site_faults.deaths
        history.requests = self.viewers.requests
        history.outputs = len(ended)
        history.jobs = self.site.vendor.bills.total()
        history.unknown = sum(_is_unknown(output) for output in ended)
        for process in (self.viewers.process, *(one.process for one in self.site.residents)):
            process.kill()
        history.violations += [*invariants.violations, *self.world.broken]

    def _look(self) -> None:
        self.world.after(_LOOK_SECONDS, self._look)
        if self._over_at is not None:
            return
        unfinished = [
            (row.hidden[output.slot], output)
            for row in self.site.tables.parents.values()
            for output in row.parent.entries
            if output.unfinished and not _is_cared_for(output, row.parent)
        ]
        if not unfinished and self.viewers.is_satisfied():
            self.site_faults.end()
            self._over_at = self.world.now + _SETTLE_SECONDS
        elif self.site_faults.faults_ended_at is not None:
            self._look_for_what_is_stuck(self.site_faults.faults_ended_at, unfinished)

    def _look_for_what_is_stuck(
        self, faults_ended_at: float, unfinished: list[tuple[Hidden, Output]]
    ) -> None:
        """After its deadline, a lease and a sweep, everything is over."""
        now, lease = self.world.now, LEASE.total_seconds()
        soon = 2 * SWEEP_SECONDS + _MARGIN_SECONDS
        for hidden, output in unfinished:
            instants = (hidden.queued_at, hidden.lease_until, hidden.not_before)
            until = [instant.timestamp() for instant in instants if instant is not None]
            taken_up_by = max(faults_ended_at + lease, *until) + soon
            if self._few_places:
                taken_up_by += _QUEUE_SECONDS
            deadline_at = taken_up_by + hidden.deadline.total_seconds()
            if hidden.deadline_at is not None:
                deadline_at = hidden.deadline_at.timestamp()
            if now > taken_up_by:
                self._give_up(f"{output.id} is {output.status}, and is not taken up")
            elif now > max(deadline_at, faults_ended_at) + lease + soon:
                self._give_up(f"{output.id} is {output.status}, and is stuck")
        if now > faults_ended_at + _VIEWERS_SECONDS:
            self._give_up("the viewers do not come to an end")

    def _give_up(self, sentence: str) -> None:
        self.site.invariants.object(sentence)
        self._over_at = self.world.now


def _is_cared_for(output: Output, parent: Parent) -> bool:
    """Whether it waits for a caption that has not ended: it ends with that, or is queued by it."""
    post = as_post(parent)
    return output.waits and post is not None and post.caption_output.unfinished


def _is_unknown(output: Output) -> bool:
    return output.error is not None and output.error.code is GenerationErrorCode.OUTCOME_UNKNOWN


def _readable(lines: list[str]) -> list[str]:
    """Ids by the order of their appearance, so that a seed gives the same lines each time."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"<{len(names) + 1}>")

    return [_MADE_UP.sub(name, line) for line in lines]
