"""A world in one thread: virtual time, and processes that each have their own event loop.

Time stands still while anything can run, and jumps to the next timer when nothing can. Which of the
processes that can run takes the next step is drawn from the world's randomness; within one process
callbacks keep asyncio's order. So a seed decides every interleaving, and a second costs nothing.

What happens outside of all processes - a database that works off a command, a network that carries
it, a vendor - are callbacks of the world itself: they go on whichever process dies.
"""

import asyncio
import heapq
import itertools
import math
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple, cast

Result = TypeVar("Result")
Rest = TypeVarTuple("Rest")
Callback = Callable[..., object]

_MOST_STEPS: Final = 200_000
"""Of one history; a tenth of them is plenty, unless something turns in circles."""
_CLOSINGS: Final = 20
"""A dead task's coroutine has its clean-ups cut short one by one; this many are plenty."""


class Dead(BaseException):
    """Stops everything a dead process would still do: nothing of it takes effect."""


class Stalled(Exception):
    """The world has nothing left to do, or does not end."""


class Step(asyncio.Task[Any]):
    """A task that sorts the same way in every run: tasks are kept in sets, by their hash."""

    _numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(self._numbers)
        self.acted_at = 0.0
        """When it last had an effect, or read something."""
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Handle(asyncio.TimerHandle):
    """A callback of a process, now or later, without what asyncio notes for its debugging."""

    __slots__ = ()

    _callback: Callback
    _args: tuple[Any, ...]
    _context: Context
    _cancelled: bool

    def __init__(
        self, callback: Callback, args: tuple[Any, ...], loop: "Process", context: Context | None
    ) -> None:
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = copy_context() if context is None else context
        self._cancelled = False
        self._scheduled = False


class World:
    """Time, what is due, and who may go on."""

    def __init__(self, randomness: Random) -> None:
        self.random = randomness
        self.now = 0.0
        self.broken: list[str] = []
        """What a process has not caught, or has logged as an error: our own faults."""
        self._due: list[tuple[float, int, Process | None, Any, tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._ready: list[Process] = []
        self.acting: Process | None = None
        """Whose step it is, where it is a process's."""
        self._tracing: list[str] | None = None
        Step._numbers = itertools.count()

    def at(self, when: float, callback: Callback, *args: Any) -> None:
        """Call this outside of all processes."""
        heapq.heappush(self._due, (when, next(self._order), None, callback, args))

    def after(self, seconds: float, callback: Callback, *args: Any) -> None:
        self.at(self.now + seconds, callback, *args)

    def run_until(self, is_met: Callable[[], object]) -> None:
        """Continue step by step until `is_met`, which is called whenever time passes."""
        steps = 0
        with _no_loop_running():
            while True:
                while self._ready:
                    self._let_go_on()
                    steps += 1
                if is_met():
                    return
                if not self._due or steps > _MOST_STEPS:
                    raise Stalled(f"after {steps} steps, at {self.now:.1f} s")
                self._let_time_pass()

    def trace_into(self, lines: list[str]) -> None:
        self._tracing = lines

    @property
    def is_traced(self) -> bool:
        return self._tracing is not None

    def note(self, who: str, what: str) -> None:
        if self._tracing is not None:
            self._tracing.append(f"{self.now:8.3f}  {who:<10} {what}")

    def _let_go_on(self) -> None:
        ready = self._ready
        index = self.random.randrange(len(ready)) if len(ready) > 1 else 0
        process = ready[index]
        handle = process.callbacks.popleft()
        if not process.callbacks:
            ready.pop(index)
        if not handle._cancelled:
            self.acting = process
            _set_running_loop(process)
            handle._context.run(handle._callback, *handle._args)
            self.acting = None
        if process.is_doomed:
            process.bury()

    def _let_time_pass(self) -> None:
        when, _, process, what, args = heapq.heappop(self._due)
        if process is None:
            self.now = when
            what(*args)
        elif not what._cancelled:
            self.now = when
            process.schedule(what)

    def expect(self, when: float, process: "Process", handle: "_Handle") -> None:
        when = max(when, self.now)
        heapq.heappush(self._due, (when, next(self._order), process, handle, ()))

    def is_ready(self, process: "Process") -> None:
        self._ready.append(process)

    def is_not_ready(self, process: "Process") -> None:
        if process in self._ready:
            self._ready.remove(process)


class Process(asyncio.AbstractEventLoop):
    """An event loop that can be frozen, and killed in the middle of anything.

    Killed, its tasks stop where they stand: no `except` and no `finally` of theirs has an effect,
    because everything that it would reach checks `is_alive` before.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.callbacks: deque[_Handle] = deque()
        self.is_alive = True
        self.is_doomed = False
        """Killed, but in the middle of a step."""
        self.is_frozen = False
        self.hurt_at = -math.inf
        """When something last happened to it, or to its calls."""
        self.thawed_at = -math.inf
        self._tasks: list[asyncio.Task[Any]] = []
        self._mourners: list[Callable[[], object]] = []

    @classmethod
    def of(cls, world: World, name: str) -> "Process":
        # The abstract methods are those for sockets, signals and children, which do not exist here.
        return cls(world, name)

    def __repr__(self) -> str:
        return self.name

    def kill(self) -> None:
        """May be called by the process's own step, which then ends at its next `await`."""
        if not self.is_alive:
            return
        self.world.note(self.name, "dies")
        self.is_alive = False
        self.is_doomed = True
        self.world.is_not_ready(self)
        mourners, self._mourners = self._mourners, []
        for mourner in mourners:
            mourner()
        if self.world.acting is not self:
            self.bury()

    def bury(self) -> None:
        """Take the dead process's coroutines down, as far as memory goes."""
        self.is_doomed = False
        with _no_loop_running():
            _set_running_loop(self)
            for task in self._tasks:  # to which those are added that clean-ups start
                if not task.done():
                    _close(task)
        self._tasks.clear()
        self.callbacks.clear()
        self.world.is_not_ready(self)

    def when_it_dies(self, mourner: Callable[[], object]) -> None:
        self._mourners.append(mourner)

    def freeze(self) -> None:
        if self.is_alive and not self.is_frozen:
            self.world.note(self.name, "freezes")
            self.is_frozen = True
            self.world.is_not_ready(self)

    def thaw(self) -> None:
        if self.is_alive and self.is_frozen:
            self.world.note(self.name, "thaws")
            self.is_frozen = False
            self.thawed_at = self.world.now
            self.hurt_at = max(self.hurt_at, self.thawed_at)
            if self.callbacks:
                self.world.is_ready(self)

    def schedule(self, handle: _Handle) -> None:
        if not self.is_alive:
            return
        self.callbacks.append(handle)
        if len(self.callbacks) == 1 and not self.is_frozen:
            self.world.is_ready(self)

    # What follows is what asyncio itself needs of a loop.

    def time(self) -> float:
        return self.world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.is_alive

    def is_closed(self) -> bool:
        return not self.is_alive

    def call_soon(
        self, callback: Callable[[*Rest], object], *args: *Rest, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self.schedule(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Rest], object],
        *args: *Rest,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Rest], object],
        *args: *Rest,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = _Handle(callback, args, self, context)
        self.world.expect(when, self, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays where it is, and is passed over."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = Step(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def begin(self, work: Coroutine[Any, Any, Result], *, name: str) -> asyncio.Task[Result]:
        """Start a task from outside of the process. It inherits no context variables."""
        task = self.create_task(work, name=name, context=Context())
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.broken.append(f"{self.name}: {task.get_name()}: {error!r}")

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.is_alive:
            error = context.get("exception")
            self.world.broken.append(f"{self.name}: {context['message']}: {error!r}")


def _close(task: asyncio.Task[Any]) -> None:
    # Not a task that was forgotten by mistake: asyncio is not to complain.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = cast("Coroutine[Any, Any, Any]", task.get_coro())
    for _ in range(_CLOSINGS):
        # Thrown in where it waits, and again where a clean-up waits: `close` would be answered
        # with a RuntimeError there, which the services could take for an error of their own.
        try:
            coroutine.throw(Dead())
        except BaseException:
            return
    raise AssertionError(f"{task} cannot be closed.")


@contextmanager
def _no_loop_running() -> Iterator[None]:
    """The processes of the world are not those of the test."""
    before = asyncio._get_running_loop()
    _set_running_loop(None)
    try:
        yield
    finally:
        _set_running_loop(before)
