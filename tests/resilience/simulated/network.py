"""The network between a process and its services: delays and failures.

A port here is a `Remote`: each of its methods is one effect of the model, done at one instant. A
process requests it before, and receives its result after, or not.
"""

import asyncio
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from domain.claims import Claim
from domain.errors import DarkroomError, Overloaded, StoreUnavailable
from domain.outputs import Output
from domain.parents import Parent
from tests.resilience.simulated.faults import READS, Fault, FaultInjector
from tests.resilience.simulated.world import Dead, Process, Step

_PATIENCE_SECONDS: Final = 1.2
"""How long a call waits for an unavailable database."""
_SLOW_SECONDS: Final = 1.5
_LATE_SECONDS: Final = 1.0
"""All shorter than a lease, as the limits of `storage.mongo.database` are in production."""
_ANSWERED_AT_ONCE: Final = 0.7


class Line:
    """A connection to the database or object store, which can be unavailable for all at once."""

    def __init__(
        self,
        injector: FaultInjector,
        error: Callable[[], DarkroomError],
        draw: Callable[[str], Fault | None],
        *,
        transactions: Collection[str] = (),
        reads: Collection[str] = (),
    ) -> None:
        self.injector = injector
        self.error = error
        self.draw = draw
        self.transactions = transactions
        self.reads = reads
        self.away_until = 0.0
        self.is_long_away = False
        """Longer than it takes a sweeper to notice."""
        self.behind_until = 0.0
        """Until then a write is visible to no reader, and is not acknowledged."""
        self.fails_over = False
        """Whether it is lost then."""
        self.epoch = 0
        """Raised whenever something is rolled back."""
        self._locked_until = 0.0
        """Until then a transaction that is late with its commit keeps all other writes waiting."""

    def call(self, process: Process, name: str, effect: Callable[[], Any]) -> asyncio.Future[Any]:
        """Request an effect. A cancelled caller does not cancel the effect."""
        if not process.is_alive:
            raise Dead
        asker = asyncio.current_task(process)
        call = _Call(self, process, name, effect, process.create_future(), asker)
        fault = self.draw(name)
        if fault is None:
            self.injector.world.after(self.injector.pause(), call.arrive)
        else:
            call.suffer(fault)
        return call.answer

    def lock(self, seconds: float) -> None:
        self._locked_until = self.injector.world.now + seconds

    def locked_for(self, name: str) -> float:
        return 0.0 if name in self.reads else self._locked_until - self.injector.world.now

    def behind_for(self, name: str, result: Any) -> float:
        """How long a write is not acknowledged. A transaction that found nothing to do writes
        nothing, and may have found it by what is not seen yet.
        """
        found_nothing = result is None or result is False
        if name in self.reads or (name in self.transactions and found_nothing):
            return 0.0
        return self.behind_until - self.injector.world.now


@dataclass(slots=True)
class _Call:
    line: Line
    process: Process
    name: str
    effect: Callable[[], Any]
    answer: asyncio.Future[Any]
    asker: asyncio.Task[Any] | None
    fault: Fault | None = None

    def suffer(self, fault: Fault) -> None:
        injector, world = self.line.injector, self.line.injector.world
        self.fault = fault
        injector.inject(self.process, f"{self.name} {fault.name}")
        match fault:
            case Fault.REFUSED:
                world.after(injector.random.random() * 0.5, self._refuse)
            case Fault.SLOW:
                world.after(injector.random.random() * _SLOW_SECONDS, self.arrive)
            case Fault.DIES_BEFORE:
                self.process.kill()
            case Fault.DIES_MEANWHILE:
                world.after(injector.pause(), self.arrive)
                self.process.kill()
            case Fault.FREEZES:
                world.after(injector.pause(), self.arrive)
                injector.freeze(self.process)
            case _:
                world.after(injector.pause(), self.arrive)

    def arrive(self) -> None:
        line, injector, world = self.line, self.line.injector, self.line.injector.world
        if (away := line.away_until - world.now) > 0:
            policy = injector.random.random() * _PATIENCE_SECONDS
            if away < policy:
                world.after(away, self.arrive)
            else:
                injector.inject(
                    self.process, f"{self.name} finds nobody", noticed=line.is_long_away
                )
                world.after(policy, self._refuse)
        elif (locked := line.locked_for(self.name)) > 0:
            world.after(locked, self.arrive)
        elif self.fault is Fault.LATE:
            self.fault = Fault.LOST
            late = injector.random.random() * _LATE_SECONDS
            if self.name in line.transactions:
                line.lock(late)
            world.after(late, self._do)
            world.after(injector.pause(), self._refuse)
        else:
            self._do()

    def _do(self) -> None:
        line, injector, world = self.line, self.line.injector, self.line.injector.world
        if isinstance(self.asker, Step):
            self.asker.acted_at = world.now
        try:
            result = self.effect()
        except Exception as error:
            self._fail(error)
            return
        if world.is_traced and self.name != "waiting":
            world.note(self.process.name, f"{self.name} -> {brief(result)}")
        if self.fault is Fault.DIES_AFTER:
            injector.kill(self.process)
        elif self.fault is Fault.LOST:
            self._leave_in_the_dark()
            world.after(injector.pause(), self._refuse)
        elif (behind := line.behind_for(self.name, result)) > 0:
            policy = injector.random.random() * _PATIENCE_SECONDS
            if behind < policy:
                world.after(behind, self._tell_if_kept, result, line.epoch)
            else:
                injector.inject(self.process, f"{self.name} is done by too few", noticed=True)
                self._leave_in_the_dark()
                world.after(policy, self._refuse)
        elif injector.random.random() < _ANSWERED_AT_ONCE:
            self._tell(result)
        else:
            world.after(injector.pause(), self._tell, result)

    def _leave_in_the_dark(self) -> None:
        """A worker that does not know of its claim cannot renew it, however healthy it is."""
        if self.name == "claim":
            self.process.hurt_at = math.inf

    def _tell_if_kept(self, result: Any, epoch: int) -> None:
        if self.line.epoch == epoch:
            self._tell(result)
        else:
            self._leave_in_the_dark()
            self._refuse()

    def _tell(self, result: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(result)

    def _refuse(self) -> None:
        self._fail(self.line.error())

    def _fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Remote:
    """Another's methods, each of which is a call over a line, to be awaited."""

    def __init__(self, process: Process, line: Line, target: object) -> None:
        self._process = process
        self._line = line
        self._target = target

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        def call(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
            return self._line.call(self._process, name, partial(method, *args, **kwargs))

        setattr(self, name, call)
        return call


def database_line(injector: FaultInjector) -> Line:
    return Line(injector, Overloaded, injector.draw, transactions=_TRANSACTIONS, reads=READS)


def store_line(injector: FaultInjector) -> Line:
    return Line(injector, StoreUnavailable, injector.draw_for_store)


_TRANSACTIONS: Final = frozenset(
    {
        *("start", "append_turn", "delete", "retry", "cancel", "rewrite_caption"),
        *("land", "land_caption", "fail", "end_overdue"),
    }
)


def brief(result: Any) -> str:
    """A result in a few words, for a trace."""
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return ", ".join(map(brief, result)) or "nothing"
    if isinstance(result, Parent):
        return f"{result.id} v{result.version} [{'; '.join(map(brief, result.entries))}]"
    if isinstance(result, Claim):
        return brief(result.output)
    if isinstance(result, Output):
        error = result.error.code if result.error else ""
        fence = f"attempt {result.attempt} fence {result.fence}"
        return f"{result.slot}: {fence} {result.status} {error}".rstrip()
    if result is None or isinstance(result, str | int):
        return str(result)
    return str(getattr(result, "id", None) or type(result).__name__)
