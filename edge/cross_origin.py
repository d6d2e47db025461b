"""CORS: which pages of other origins may read an answer. Uses Starlette's middleware if needed.

A request of an app or a server has no `Origin`. Its answer only needs `Vary: Origin`.
"""

from collections.abc import Awaitable
from functools import partial
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send

_ORIGIN: Final = b"origin"
_VARY: Final = b"vary"


class CrossOrigin(CORSMiddleware):
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        if any(name == _ORIGIN for name, _ in scope["headers"]):
            return super().__call__(scope, receive, send)
        return self.app(scope, receive, partial(_send_varying, send))


def _send_varying(send: Send, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start":
        headers = message["headers"]
        varies = [value for name, value in headers if name == _VARY]
        others = [header for header in headers if header[0] != _VARY]
        message["headers"] = [*others, (_VARY, b", ".join([*varies, b"Origin"]))]
    return send(message)
