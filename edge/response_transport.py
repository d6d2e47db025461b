"""What uvicorn writes a response to."""

import asyncio
from collections.abc import Callable


class ResponseTransport:
    """The connection, but for the head of the response and its end.

    The head waits until the event loop's next round for what follows it. Most responses have their
    whole body by then: both are one call of the system instead of two. `end` is called instead of
    closing the connection.
    """

    __slots__ = ("_end", "_head", "_loop", "_transport", "is_closing")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, end: Callable[[], None]
    ) -> None:
        self._transport, self._loop, self._end = transport, loop, end
        self._head: bytes | None = None
        """None: nothing has been written."""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Write the head, or a part of the body."""
        if self._head is None:
            self._head = data
            self._loop.call_soon(self.flush)
        elif self._head:
            data, self._head = self._head + data, b""
            self._transport.write(data)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """End the response, after which its connection is not used again."""
        self.flush()
        self._end()

    def flush(self) -> None:
        """Write the head, if it still waits."""
        if self._head:
            data, self._head = self._head, b""
            self._transport.write(data)
