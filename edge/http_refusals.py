"""The answer to a request that is refused before the application sees it, as the last of its
connection.
"""

from http import HTTPStatus
from typing import Final, NamedTuple

import orjson
from websockets.datastructures import Headers
from websockets.http11 import Response

from edge.responses import JSON, error_body

HEADERS_TOO_LARGE: Final = "HEADERS_TOO_LARGE"


class Refusal(NamedTuple):
    """Why a request is refused."""

    status: int
    code: str
    message: str


MALFORMED: Final = Refusal(400, "BAD_REQUEST", "The request is not valid HTTP.")


def refuse_request(refusal: Refusal) -> Response:
    """Make the answer. websockets sends it to a handshake, `serialize` turns it into bytes."""
    body = orjson.dumps(error_body(refusal.code, refusal.message))
    headers = Headers({"Content-Type": JSON, "Content-Length": str(len(body))})
    headers["Connection"] = "close"
    phrase = HTTPStatus(refusal.status).phrase
    return Response(refusal.status, phrase, headers, body)
