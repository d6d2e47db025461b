"""Bounds what one round of the event loop does for clients.

Each thing that a client causes takes little time, but thousands of clients can each cause one in
the same moment: a request, a message, the end of a connection. The loop would do all of it before
it looks at anything else. What must stay true: whatever clients do, few of these events begin in
one round of the loop, and the others wait in the order in which they came.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Final

MAX_EVENTS: Final = 8
"""How many begin in one round. What follows from one takes place in the next rounds, such as the
first step of a request: 2 ms for the most expensive.
"""
MAX_SECONDS: Final = 0.01
"""After how much time no further one begins in a round."""


class LoopRounds:
    """The events of all connections to one server."""

    __slots__ = ("_began_at", "_left", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left = MAX_EVENTS
        self._began_at = 0.0
        self._waiting = deque[Callable[[], object]]()

    def has_room(self) -> bool:
        """Count an event that begins now. False: it has to wait."""
        if not self._left:
            return False
        now = perf_counter()
        if self._left == MAX_EVENTS:
            self._began_at = now
            self._loop.call_soon(self._begin_round)
        elif now - self._began_at > MAX_SECONDS:
            self._left = 0
            return False
        self._left -= 1
        return True

    def put_off(self, event: Callable[[], object]) -> None:
        """Call this in one of the next rounds. Only for an event that had no room."""
        self._waiting.append(event)

    async def wait_for_room(self) -> None:
        """Wait for the round in which an event may begin."""
        if self.has_room():
            return
        room: asyncio.Future[None] = self._loop.create_future()
        self.put_off(partial(_reach, room))
        await room

    def _begin_round(self) -> None:
        waiting = self._waiting
        if not waiting:
            self._left = MAX_EVENTS
            return
        self._left = 0  # What comes now waits behind the others.
        self._loop.call_soon(self._begin_round)
        ends_at = perf_counter() + MAX_SECONDS
        for _ in range(min(MAX_EVENTS, len(waiting))):
            waiting.popleft()()
            if perf_counter() > ends_at:
                return


def _reach(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)


class ProtocolInRounds(ABC):
    """A connection whose events begin when the loop has room for them."""

    transport: asyncio.Transport
    rounds: LoopRounds
    waits = False
    """Whether something has arrived that has not begun. Until then no timer may close the
    connection: the client may have sent in time.
    """

    def data_received(self, data: bytes) -> None:
        """Called when something has arrived."""
        if self.rounds.has_room():
            self.receive_data(data)
        else:
            self.waits = True
            self.transport.pause_reading()  # so that nothing more has to be held
            self.rounds.put_off(partial(self._receive_later, data))

    def eof_received(self) -> bool:
        """Called when the client has ended its side. Return whether the connection stays open."""
        if self.rounds.has_room():
            return False
        self.rounds.put_off(self.transport.close)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the connection is closed."""
        self.stop_writing()
        if self.rounds.has_room():
            self.end(exc)
        else:
            self.rounds.put_off(partial(self.end, exc))

    @abstractmethod
    def receive_data(self, data: bytes) -> None:
        """Parse what has arrived."""

    @abstractmethod
    def stop_writing(self) -> None:
        """Let nothing write to the connection any more: the transport would raise an error."""

    @abstractmethod
    def end(self, exc: Exception | None) -> None:
        """End what belongs to the connection."""

    def _receive_later(self, data: bytes) -> None:
        self.waits = False
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self.receive_data(data)
