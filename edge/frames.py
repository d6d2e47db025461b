"""WebSocket frames that are written to the connection as they are, past ASGI.

A server that offers this puts a `Frames` into the scope's extensions: ours does, by a subclass of
uvicorn's protocol (`uvicorn.Config(ws=WebSocketProtocol)`). Where there is none, messages are sent
through ASGI, as everywhere else.
"""

from typing import Any, Final, Protocol

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

EXTENSION: Final = "darkroom.frames"
_TEXT: Final = 0x81
"""The first byte of an unfragmented, uncompressed text frame."""
_LARGEST_IN_ONE_BYTE: Final = 125
_LARGEST_IN_TWO_BYTES: Final = 65_535


class Frames(Protocol):
    """One connection's way out."""

    def write(self, frame: bytes) -> bool:
        """Write a whole frame. Return False, and write nothing, while the connection is full.

        To one that is closed nothing is written, which is no error: the reader is about to notice.
        """

    async def ready(self) -> None:
        """Return once the connection is not full, or is closed."""


def frames_of(scope: Scope) -> Frames | None:
    found: Frames | None = scope.get("extensions", {}).get(EXTENSION)
    return found


def text_frame(message: bytes) -> bytes:
    """A server's frame of a text message in UTF-8."""
    size = len(message)
    if size <= _LARGEST_IN_ONE_BYTE:
        return bytes((_TEXT, size)) + message
    if size <= _LARGEST_IN_TWO_BYTES:
        return bytes((_TEXT, 126)) + size.to_bytes(2, "big") + message
    return bytes((_TEXT, 127)) + size.to_bytes(8, "big") + message


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, which also takes whole frames."""

    async def run_asgi(self) -> None:
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[EXTENSION] = _ProtocolFrames(self)
        await super().run_asgi()


class _ProtocolFrames:
    __slots__ = ("_protocol",)

    def __init__(self, protocol: WebSocketsSansIOProtocol) -> None:
        self._protocol = protocol

    def write(self, frame: bytes) -> bool:
        protocol = self._protocol
        if protocol.close_sent or protocol.disconnected or protocol.transport.is_closing():
            return True
        if not protocol.writable.is_set():
            return False
        protocol.transport.write(frame)
        return True

    async def ready(self) -> None:
        await self._protocol.writable.wait()
