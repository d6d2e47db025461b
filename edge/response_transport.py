"""What uvicorn writes a response to."""

import asyncio
from abc import ABC, abstractmethod


class RespondingProtocol(ABC):
    """A connection whose protocol decides how it ends."""

    @abstractmethod
    def end_response(self) -> None:
        """Close the connection after a response."""


class ResponseTransport:
    """The connection, but for the head of the response and its end.

    The head waits until the event loop's next round for what follows it. Most responses have their
    whole body by then: both are one call of the system instead of two.
    """

    __slots__ = ("_head", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
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
        # The transport forgets its protocol when the connection is lost. If this held the protocol,
        # which holds this, both would stay until the next full garbage collection.
        protocol = self._transport.get_protocol()
        if isinstance(protocol, RespondingProtocol):
            protocol.end_response()

    def flush(self) -> None:
        """Write the head, if it still waits, and the connection has not been lost meanwhile."""
        if self._head:
            data, self._head = self._head, b""
            if not self.is_closing():
                self._transport.write(data)
