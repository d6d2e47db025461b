"""Room for the operations that a process runs at the same time, shared fairly among clients.

What must stay true: a client with few running operations goes before one with many, however many
of the others wait. Otherwise clients that ask for much at once would have a process to themselves.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

_MOST_ASIDE: Final = 10
"""How many times as many operations may have stepped aside as there is room for: 2,000 by default.
A WebSocket has 4 at most, so that 500 sockets cannot keep others out.
"""


WaitUntilLeft: TypeAlias = Callable[[], Awaitable[None]]
"""Returns once the client has left."""


class ClientLeft(Exception):
    """The client of an operation has left while it waited for room."""


class OperationRoom:
    """Room for `in_all` operations, and of each client for `of_client`."""

    def __init__(self, *, of_client: int, in_all: int) -> None:
        self._of_client = of_client
        self._free = in_all
        self._may_step_aside = _MOST_ASIDE * in_all
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._next: dict[int, dict[str, None]] = {}
        """Clients that wait, in order, by how many operations they run: the lowest go first."""

    @property
    def is_full(self) -> bool:
        return self._free <= 0

    def is_full_of(self, client: str) -> bool:
        """Whether a client runs as many operations as it may, those included that wait for room."""
        return self._running[client] + len(self._waiting.get(client, ())) >= self._of_client

    async def enter(
        self, client: str, *, ends_at: float, wait_until_left: WaitUntilLeft | None = None
    ) -> None:
        """Take room for one more operation, which has to `leave`. Raise TimeoutError where there is
        none until this time of the event loop, and ClientLeft where its client leaves before that.
        """
        if self._free > 0 and self._running[client] < self._of_client:
            self._count(client, 1)  # Clients that wait run as many as they may.
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        self._line_up(client)
        try:
            async with asyncio.timeout_at(ends_at):
                await (turn if wait_until_left is None else _wait(turn, wait_until_left))
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave(client)
            else:
                self._give_up(client, turn)
            raise

    def leave(self, client: str) -> None:
        """Give back the room of one operation."""
        self._count(client, -1)
        self._fill()

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """Give an operation's room to others within the block. Its client still counts it.

        Where too many have stepped aside already, it keeps its room: the number of operations that
        a process has begun stays limited.
        """
        if self._may_step_aside <= 0:
            yield
            return
        self._may_step_aside -= 1
        self._free += 1
        self._fill()
        try:
            yield
        finally:
            self._may_step_aside += 1
            self._free -= 1  # until it leaves, which is soon: there may be one too many

    def _fill(self) -> None:
        while self._free > 0 and self._next:
            fewest = min(self._next)
            if fewest >= self._of_client:
                return
            self._let_in(next(iter(self._next[fewest])))

    def _let_in(self, client: str) -> None:
        turn = self._waiting[client][0]
        self._give_up(client, turn)
        if not turn.done():  # or it has been cancelled, and is about to notice
            self._count(client, 1)
            turn.set_result(None)

    def _count(self, client: str, change: int) -> None:
        waits = client in self._waiting
        if waits:
            self._step_out(client)
        self._running[client] += change
        if not self._running[client]:
            del self._running[client]
        self._free -= change
        if waits:
            self._line_up(client)

    def _give_up(self, client: str, turn: asyncio.Future[None]) -> None:
        """Let an operation wait no more, if it still does."""
        turns = self._waiting.get(client)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                self._step_out(client)
                del self._waiting[client]

    def _line_up(self, client: str) -> None:
        """Let a client wait behind those that run as many operations."""
        self._next.setdefault(self._running[client], {}).setdefault(client)

    def _step_out(self, client: str) -> None:
        running = self._running[client]
        line = self._next[running]
        del line[client]
        if not line:
            del self._next[running]


async def _wait(turn: asyncio.Future[None], wait_until_left: WaitUntilLeft) -> None:
    """Wait for a turn. Raise ClientLeft where its client leaves."""
    leaving = asyncio.ensure_future(wait_until_left())
    try:
        await asyncio.wait((turn, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done():
            raise ClientLeft
    finally:
        leaving.cancel()
