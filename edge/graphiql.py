"""Serves GraphiQL, which `make graphiql` builds, in development.

Nothing of it is loaded from the internet. It is not committed: where it has not been built, the
page says how to build it.
"""

from pathlib import Path
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

PATH: Final = "/graphiql/"

_NOT_BUILT: Final = (
    "GraphiQL has not been built. Run `make graphiql` (it needs Node 20.19 or newer), "
    "and load this page again.\n"
)
_HEADERS: Final = {
    # The editor writes styles into the page, and has its fonts and icons in its style sheet.
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self' data:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def graphiql_routes(build: Path) -> list[BaseRoute]:
    """Routes for the page and its files, which are looked for with each request."""
    files = StaticFiles(directory=build, html=True, check_dir=False)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        built = (build / "index.html").is_file()
        app = files if built else PlainTextResponse(_NOT_BUILT, 404)
        await app(scope, receive, send_with_headers)

    async def enter(_: Request) -> Response:
        return RedirectResponse(PATH)

    path = PATH.removesuffix("/")
    return [Route(path, enter), Mount(path, app=serve)]
