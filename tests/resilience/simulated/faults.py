"""The failures of a history: how often each kind happens, and what causes it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from random import Random
from typing import Final

from tests.resilience.simulated.world import Process, World

READS: Final = frozenset(
    {
        "any_refers_to",
        "find_parent",
        "find_waiting",
        "get",
        "get_many",
        "get_with_latest_turn",
        "is_abandoned",
        "find_latest_of_many",
        "find_latest_with_images",
        "list_waiting",
    }
)
_QUIET: Final = READS | {"open", "renew", "end_overdue"}
_DULL: Final = 4.0
_KEEN: Final = 0.4
"""By how much fewer, and how many more, of such calls fail than the rates say."""
_LEASES_FROZEN: Final = (0.5, 1.0, 1.0)
_IN_FOCUS: Final = (
    *("any_refers_to", "append_turn", "cancel", "claim", "delete", "fail", "get", "give_back"),
    *("land", "land_caption", "rewrite_caption"),
    *("postpone", "renew", "retry", "save_runs", "show_progress", "start"),
)


class Fault(Enum):
    """How a call to the database or the object store can end."""

    REFUSED = auto()
    """Not done, and reported as failed."""
    LOST = auto()
    """Done, but reported as failed."""
    LATE = auto()
    """Done after it was reported as failed."""
    SLOW = auto()
    DIES_BEFORE = auto()
    """The process dies before the call."""
    DIES_MEANWHILE = auto()
    """The process dies after the call, which takes effect all the same."""
    DIES_AFTER = auto()
    """It is done, and the process dies before it knows."""
    FREEZES = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """How often things fail in a history: shares of calls, or of what else they are about."""

    latency_seconds: float = 0.02
    refused: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    dies: float = 0.0
    freezes: float = 0.0
    store: float = 0.0
    """What is above, of calls to the object store instead."""
    submits: float = 0.0
    """Submits to a vendor that go wrong."""
    jobs: float = 0.0
    """Jobs that a vendor does not deliver, or not in time."""
    focus: tuple[str, Fault] | None = None
    """A call, and how it ends most often: so that rare windows are explored."""
    focus_share: float = 0.0
    hints: float = 0.0
    """Hints that are lost."""
    answers: float = 0.0
    """Answers to viewers that are lost on the way, or not waited for."""

    outages: bool = False
    """Whether the whole database becomes unavailable, or lags."""


NO_FAULTS: Final = FaultRates()


def random_fault_rates(random: Random) -> FaultRates:
    """Most histories have a few kinds of failures, and many of each; some have none."""

    def perhaps(likely: float, most: float) -> float:
        return random.random() * most if random.random() < likely else 0.0

    focus = None
    if random.random() < 0.3:
        # If a worker freezes before a submission, nothing but the fence stops it.
        focus = random.choice(("claim", "claim", "save_runs")), Fault.FREEZES
    elif random.random() < 0.6:
        focus = random.choice(_IN_FOCUS), random.choice(list(Fault))
    return FaultRates(
        focus=focus,
        focus_share=random.random() * 0.6,
        latency_seconds=random.choice((0.005, 0.05, 0.3)),
        refused=perhaps(0.3, 0.05),
        lost=perhaps(0.3, 0.05),
        late=perhaps(0.2, 0.05),
        slow=perhaps(0.2, 0.05),
        dies=perhaps(0.6, 0.04),
        freezes=perhaps(0.3, 0.02),
        store=perhaps(0.2, 0.3),
        outages=random.random() < 0.4,
        submits=perhaps(0.6, 0.5),
        jobs=perhaps(0.5, 0.5),
        hints=perhaps(0.3, 1.0),
        answers=perhaps(0.4, 0.5),
    )


class FaultInjector:
    """The current failures, and what they have caused."""

    def __init__(self, world: World, fault_rates: FaultRates, *, lease_seconds: float) -> None:
        self.world = world
        self.fault_rates = fault_rates
        self.random = world.random
        self.lease_seconds = lease_seconds
        self.hurt: list[Callable[[Process], object]] = []
        """Called with every process to which something happened."""
        self.faults = 0

    def stop_all(self) -> None:
        """From here on nothing fails."""
        self.fault_rates = replace(NO_FAULTS, latency_seconds=self.fault_rates.latency_seconds)

    def pause(self) -> float:
        return self.random.random() * self.fault_rates.latency_seconds

    def inject(self, process: Process, what: str, *, noticed: bool = False) -> None:
        """Something happens to a process; `noticed` if the others notice it and wait."""
        self.count(process, what)
        if not noticed:
            process.hurt_at = max(process.hurt_at, self.world.now)
        for tell in self.hurt:
            tell(process)

    def count(self, process: Process, what: str) -> None:
        self.faults += 1
        self.world.note(process.name, f"! {what}")

    def kill(self, process: Process) -> None:
        if process.is_alive:
            self.inject(process, "killed")
            process.kill()

    def freeze(self, process: Process) -> None:
        if process.is_alive and not process.is_frozen:
            self.inject(process, "frozen")
            process.freeze()
            leases = self.random.choice(_LEASES_FROZEN) + self.random.random()
            self.world.after(leases * self.lease_seconds, process.thaw)

    def draw(self, name: str) -> Fault | None:
        """How a call to the database ends. The most critical calls fail most often."""
        fault_rates, random = self.fault_rates, self.random.random
        if (
            fault_rates.focus
            and fault_rates.focus[0] == name
            and random() < fault_rates.focus_share
        ):
            return fault_rates.focus[1]
        drawn = random() * (_DULL if name in _QUIET else _KEEN)
        for share, fault in (
            (fault_rates.refused, Fault.REFUSED),
            (fault_rates.lost, Fault.LOST),
            (fault_rates.late, Fault.LATE),
            (fault_rates.slow, Fault.SLOW),
            (fault_rates.freezes, Fault.FREEZES),
        ):
            if drawn < share:
                return fault
            drawn -= share
        if drawn < fault_rates.dies:
            deaths = (Fault.DIES_BEFORE, Fault.DIES_MEANWHILE, Fault.DIES_AFTER)
            return self.random.choice(deaths)
        return None

    def draw_for_store(self, _: str) -> Fault | None:
        if self.random.random() >= self.fault_rates.store:
            return None
        return self.random.choice((Fault.REFUSED, Fault.LOST, Fault.LATE, Fault.SLOW))
