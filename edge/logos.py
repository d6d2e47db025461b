"""Serves a mark for each company that makes models: `GET` and `HEAD` of `/logos/<name>.svg`.

The marks are simple shapes drawn from the company's name, not trademarks. The name of a
mark contains a digest of its content, so clients may cache it for ever.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edge.responses import EMBEDDABLE, INERT, error_response, has_entity_tag

_SIDE: Final = 96
_PATH: Final = "/logos/"
_YEAR_SECONDS: Final = 31_536_000
_EVERY_MARK: Final = (
    EMBEDDABLE | INERT | {"Cache-Control": f"public, max-age={_YEAR_SECONDS}, immutable"}
)


def logo_path(company: str) -> str:
    """The path at which the company's mark is served."""
    return _PATH + _name_of(company, draw_logo(company))


def logo_routes(companies: Iterable[str]) -> list[Route]:
    """The routes to the marks of these companies, and of no others."""
    drawn = ((company, draw_logo(company)) for company in companies)
    marks = {_name_of(company, mark): mark for company, mark in drawn}
    return [Route(_PATH + "{name:path}", _Logos(marks), name="logo")]


def draw_logo(company: str) -> bytes:
    """The company's mark as SVG: the same for the same name."""
    digest = sha256(company.casefold().encode()).digest()
    hue = int.from_bytes(digest[:2]) % 360
    turn = digest[2] % 4 * 90
    first = _SHAPES[digest[3] % len(_SHAPES)]
    second = _SHAPES[(digest[3] + 1 + digest[4] % (len(_SHAPES) - 1)) % len(_SHAPES)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIDE} {_SIDE}" '
        f'width="{_SIDE}" height="{_SIDE}">'
        f'<rect width="{_SIDE}" height="{_SIDE}" rx="20" fill="hsl({hue},55%,38%)"/>'
        f'<g transform="rotate({turn} {_SIDE // 2} {_SIDE // 2})">'
        f"{first(30, 30, f'hsl({hue},60%,88%)')}"
        f"{second(66, 66, f'hsl({(hue + 40) % 360},75%,70%)')}"
        "</g></svg>"
    ).encode()


def _disc(x: int, y: int, colour: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="17" fill="{colour}"/>'


def _ring(x: int, y: int, colour: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="13" fill="none" stroke="{colour}" stroke-width="8"/>'


def _square(x: int, y: int, colour: str) -> str:
    return f'<rect x="{x - 15}" y="{y - 15}" width="30" height="30" rx="4" fill="{colour}"/>'


def _triangle(x: int, y: int, colour: str) -> str:
    return f'<path d="M{x} {y - 18}l18 33h-36z" fill="{colour}"/>'


def _diamond(x: int, y: int, colour: str) -> str:
    return f'<path d="M{x} {y - 20}l20 20-20 20-20-20z" fill="{colour}"/>'


def _bars(x: int, y: int, colour: str) -> str:
    return f'<path d="M{x - 16} {y - 16}h32v9h-32zm0 23h32v9h-32z" fill="{colour}"/>'


_SHAPES: Final[Sequence[Callable[[int, int, str], str]]] = (
    *(_disc, _ring, _square),
    *(_triangle, _diamond, _bars),
)


def _name_of(company: str, mark: bytes) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", company.casefold()).strip("-")
    return f"{words or 'company'}-{sha256(mark).hexdigest()[:12]}.svg"


class _Logos:
    """An ASGI application, so that every method is handled here and answered in one form."""

    def __init__(self, marks: dict[str, bytes]) -> None:
        self._marks = marks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._respond(Request(scope))
        await response(scope, receive, send)

    def _respond(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            allowed = {**EMBEDDABLE, "Allow": "GET, HEAD"}
            return error_response(405, "METHOD_NOT_ALLOWED", "Use GET or HEAD.", headers=allowed)
        name = request.path_params["name"]
        mark = self._marks.get(name)
        if mark is None:
            message = "There is no such logo."
            return error_response(404, "NOT_FOUND", message, headers=EMBEDDABLE)
        etag = f'"{name}"'
        headers = _EVERY_MARK | {"ETag": etag}
        if has_entity_tag(request.headers, "if-none-match", etag):
            return Response(status_code=304, headers=headers)
        return Response(mark, headers=headers, media_type="image/svg+xml")
