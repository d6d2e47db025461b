"""CORS: which pages of other origins may read an answer. Uses Starlette's middleware if needed.

A request of an app or a server has no `Origin`. Its answer only needs `Vary: Origin`.
"""

from collections.abc import Awaitable
from functools import partial
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from edge.responses import error_response

_ORIGIN: Final = b"origin"
_VARY: Final = b"vary"
_OK: Final = 200


class CrossOrigin(CORSMiddleware):
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        if any(name == _ORIGIN for name, _ in scope["headers"]):
            return super().__call__(scope, receive, send)
        return self.app(scope, receive, partial(_send_varying, send))

    def preflight_response(self, request_headers: Headers) -> Response:
        """The answer to a browser that asks what it may send. A refusal repeats nothing of that."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == _OK:
            return answer
        message = "Pages of this origin may not send such a request."
        return error_response(
            answer.status_code, "BAD_REQUEST", message, headers={"Vary": "Origin"}
        )


def _send_varying(send: Send, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start":
        headers = message["headers"]
        varies = [value for name, value in headers if name == _VARY]
        others = [header for header in headers if header[0] != _VARY]
        message["headers"] = [*others, (_VARY, b", ".join([*varies, b"Origin"]))]
    return send(message)
