"""The handshake of a WebSocket, taken from a request whose head has been read already.

uvicorn would write the head down once more, and have websockets parse that. What must stay true:
whatever websockets refuses is refused, here or by `edge.request_heads`, but for a long line: all
heads have the limits of `edge.request_reader`.
"""

from collections.abc import Sequence
from http import HTTPStatus

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from edge.errors import INTERNAL
from edge.http_refusals import Refusal, refuse_request


def read_handshake(
    conn: ServerProtocol, target: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> Request:
    """The request, as websockets would have read it. Let it read frames from here on."""
    fields = Headers()
    for name, value in headers:
        fields.set_insecure(name.decode("ascii"), value.decode("latin-1"))
    conn.parser = Protocol.parse(conn)
    next(conn.parser)
    return Request(target.decode("ascii"), fields)


def refuse_handshake(status: StatusLike, _: str) -> Response:
    """Refuse a handshake, without the words of websockets, which repeat what the client sent."""
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:  # The application failed, or the server stops.
        return refuse_request(Refusal(status, INTERNAL, "The WebSocket could not be opened."))
    message = "This is not a valid WebSocket handshake."
    return refuse_request(Refusal(status, "BAD_REQUEST", message))
