"""Responses of a simulated provider that no client can read, and those that never end."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tests.simulators.script import Script

ENDLESS_BYTES: Final = 2**31
HTML: Final = b"<html><body>Bad gateway</body></html>"
SVG: Final = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>'
_PIECE: Final = b" " * 2**16


def retry_after(status: int, script: Script) -> dict[str, str]:
    """The head of a 429 or 503 that says when to come again."""
    if not script.retry_after or status not in (429, 503):
        return {}
    if not script.retry_after.startswith("@"):
        return {"retry-after": script.retry_after}
    until = datetime.now(UTC) + timedelta(seconds=float(script.retry_after[1:]))
    return {"retry-after": format_datetime(until, usegmt=True)}


def html_error(status: int, headers: Mapping[str, str]) -> Response:
    return Response(f"<h1>{status}</h1>", status, headers, "text/html")


NONSENSE: Final[Mapping[str, Callable[[], Response]]] = {
    "html": lambda: Response(HTML, media_type="text/html"),
    "svg": lambda: Response(SVG, media_type="image/png"),
    "empty": lambda: Response(b"", media_type="application/json"),
    "nothing": lambda: json({}),
    "list": lambda: json([]),
    "detail": lambda: json({"detail": "something went wrong", "error": "inside of a success"}),
    "strange": lambda: json({"status": "PONDERING"}),
}


def filling() -> Iterator[bytes]:
    yield b'{"images": "'
    for _ in range(ENDLESS_BYTES // len(_PIECE)):
        yield _PIECE


def bomb() -> Iterator[bytes]:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    for _ in range(ENDLESS_BYTES // len(_PIECE)):
        packed = packer.compress(_PIECE)
        if packed:
            yield packed


def json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")


async def never(request: Request) -> Response:
    """Wait until the other side has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response()
