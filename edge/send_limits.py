"""Limits how slowly clients may read what is sent to them."""

import asyncio
from collections.abc import Callable
from typing import Final

_MIN_READ_BYTES: Final = 64 * 1024
"""How many bytes a client has to read in the given time, while that many are waiting."""


class SendLimit:
    """Watches a connection while its write buffer is full, and gives up if nothing is read."""

    __slots__ = ("_give_up", "_left", "_loop", "_seconds", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, *, seconds: float, give_up: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._seconds = seconds
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def begin(self) -> None:
        """Start to watch: the connection's buffer is full."""
        self.end()
        self._left = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._seconds, self._check_progress)

    def end(self) -> None:
        """Stop watching: the buffer has room, or the connection is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_progress(self) -> None:
        if self._transport.get_write_buffer_size() > self._left - _MIN_READ_BYTES:
            self._give_up()
        else:
            self.begin()
