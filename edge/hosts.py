"""Refuses requests for host names that are not the server's own."""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from edge.responses import error_response

_UNCHECKED: Final = {"/healthz", "/readyz"}
"""Load balancers request these paths by address."""


class AllowedHosts:
    """An ASGI application that answers requests for other hosts with 400."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in _UNCHECKED or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        refusal = error_response(400, "BAD_REQUEST", "This host is not known here.")
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            await refusal(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        host = Headers(scope=scope).get("host", "").lower()
        name, colon, port = host.rpartition(":")
        return (name if colon and port.isdecimal() else host) in self._hosts
