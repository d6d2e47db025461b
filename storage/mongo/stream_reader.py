"""Reads a change stream in a thread of its own, by the driver's blocking client.

The driver's other client makes two tasks and a timer for each read, which takes a third more
processor time.

What must stay true: what waits for the event loop is bounded, and once a reader is closed, its
thread ends with the answer that it waits for.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any, Final, TypeAlias

from bson.raw_bson import RawBSONDocument
from pymongo.synchronous.change_stream import ChangeStream

Token: TypeAlias = Mapping[str, Any]
Watch: TypeAlias = Callable[[], ChangeStream[RawBSONDocument]]
"""Opens the stream. Called in the thread."""

_Answer: TypeAlias = tuple[RawBSONDocument | None, Token | None, bool]
"""An event, unless nothing has happened; the token after it; whether the stream goes on."""

MAX_WAITING: Final = 256
"""How many events may wait for the event loop. The thread reads no more until it has taken some."""
_LOOK_SECONDS: Final = 1.0
"""Between two looks of a thread that waits for room, whether its reader is closed."""


class StreamReader:
    """One change stream. Used within the event loop; `_read` is what the thread does."""

    def __init__(self, watch: Watch) -> None:
        self.token: Token | None = None
        """After what `next` has returned last."""
        self.alive = True
        """Whether anything may follow."""
        self._loop = asyncio.get_running_loop()
        self._answers: deque[_Answer | Exception] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._wants_call = False
        """Whether the thread is to call `interrupt` when there is an answer."""
        self._has_room = Event()
        self._is_closed = False
        self.ended = self._loop.create_future()
        """Done once the thread has ended."""
        Thread(target=self._read, args=[watch], name="change stream", daemon=True).start()

    async def opened(self) -> None:
        """Wait until the stream is open. Called first. Raise what the driver does."""
        while not self._answers:
            await self._wait()
        _, _, self.alive = self._take()

    async def next(self) -> Sequence[RawBSONDocument]:
        """What has come, once anything has. None of it where the stream has nothing for now, or
        the wait was interrupted. Raise what the driver does.
        """
        if not self._answers:
            await self._wait()
        events: list[RawBSONDocument] = []
        for _ in range(len(self._answers)):
            if events and isinstance(self._answers[0], Exception):
                break  # raised once these have been taken
            event, self.token, self.alive = self._take()
            if event is not None:
                events.append(event)
        if not self._has_room.is_set():
            self._has_room.set()
        return events

    def interrupt(self) -> None:
        """Let whoever waits for an event go on without one."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Let the thread end, and close the stream. Do not wait for it."""
        self._is_closed = True
        self._has_room.set()

    def _take(self) -> _Answer:
        answer = self._answers.popleft()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            self._wants_call = True
            if not self._answers:  # One that has come before the thread could see this.
                await self._waiter
        finally:
            self._waiter = None

    def _read(self, watch: Watch) -> None:
        try:
            with watch() as stream:
                self._put((None, None, stream.alive))
                while stream.alive and not self._is_closed:
                    event = stream.try_next()
                    # The driver would make a deep copy of an event's token.
                    token = stream.resume_token if event is None else event["_id"]
                    self._put((event, token, stream.alive))
        except Exception as error:
            self._put(error)
        finally:
            self._call(self._end)

    def _put(self, answer: _Answer | Exception) -> None:
        while len(self._answers) >= MAX_WAITING and not self._is_closed:
            self._has_room.wait(_LOOK_SECONDS)
            self._has_room.clear()
        self._answers.append(answer)
        if self._wants_call:
            self._wants_call = False
            self._call(self.interrupt)

    def _call(self, callback: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # The event loop is closed.
            self._loop.call_soon_threadsafe(callback)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
