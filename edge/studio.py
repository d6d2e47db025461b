"""Serves the studio, the web client: `/studio/`, the views below it, and the files of its build.

The files are read once, when the routes are made, and are the same for everybody. Tokens are not
handled here: the page keeps its token, and calls the API like any other client.
"""

import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from edge.responses import NOT_INDEXED, error_response, has_entity_tag

PATH: Final = "/studio/"
SHARED_PATH: Final = f"{PATH}shared/"
"""The path below which the page shows a share, by the share's token."""
PAGE: Final = "index.html"

_MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""The types of files that are served. The build's other files (compressed copies, digests) are not
served as such.
"""
_COMPRESSIBLE_BYTES: Final = 500
_FACT: Final = re.compile(r'(<meta name="darkroom-([a-z-]+)" content=")[^"]*"')
"""The settings that the server gives to the page."""
_EVERY_ANSWER: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_EVERY_PAGE: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class SignIn:
    """Where people sign in to the studio: OpenID Connect, the authorization code flow with PKCE."""

    issuer: str
    client_id: str
    scopes: str
    audience: str | None = None
    """The API that the token is requested for, where the issuer needs to know it."""
    urls: tuple[str, ...] = ()
    """Other origins of the issuer that the page connects to."""

    @property
    def origins(self) -> list[str]:
        parts = [urlsplit(url) for url in (self.issuer, *self.urls)]
        return [f"{part.scheme}://{part.netloc}" for part in parts]

    def as_text(self) -> str:
        facts = {
            "issuer": self.issuer,
            "clientId": self.client_id,
            "scopes": self.scopes,
            "audience": self.audience,
        }
        return orjson.dumps(facts).decode()


@dataclass(frozen=True)
class _File:
    """A file of the build, in every encoding that it is served in."""

    data: bytes
    brotli: bytes | None
    """As the build compressed it, if it did."""
    headers: Mapping[str, str]

    @property
    def encodings(self) -> Sequence[str]:
        """The names of the encodings, the smallest first; `identity` is always among them."""
        if len(self.data) <= _COMPRESSIBLE_BYTES:
            return ["identity"]
        return [*(["br"] if self.brotli else []), "gzip", "identity"]

    def encoded(self, encoding: str) -> bytes:
        if encoding == "gzip":
            return self._gzip
        return self.brotli if encoding == "br" and self.brotli else self.data

    @cached_property
    def _gzip(self) -> bytes:
        # When it is first asked for: browsers take Brotli, and all files together take 15 ms.
        return gzip.compress(self.data, mtime=0)


def studio_routes(
    build: Path,
    *,
    environment: str,
    image_origins: Iterable[str],
    sign_in: SignIn | None = None,
) -> list[Route]:
    """Routes for `/studio/` and everything below it; none where there is no build.

    `image_origins` are the origins, other than the page's own, that images are shown from and
    uploads are sent to. Without `sign_in` the page is opened with a token.
    """
    if not (build / PAGE).is_file():
        return []
    policy = _content_security_policy(image_origins, sign_in.origins if sign_in else ())
    facts = {"environment": environment, "sign-in": sign_in.as_text() if sign_in else ""}
    files = {
        path.relative_to(build).as_posix(): _read(path, build, policy=policy, facts=facts)
        for path in sorted(build.rglob("*"))
        if path.is_file() and path.suffix in _MEDIA_TYPES
    }

    async def serve(request: Request) -> Response:
        name = request.path_params["name"]
        file = files.get(name)
        if file is None:
            # A view has a URL but no file: the page reads the URL.
            if "." in name.rpartition("/")[2]:
                return error_response(
                    404, "NOT_FOUND", "There is no such file.", headers=_EVERY_ANSWER
                )
            file = files[PAGE]
        response = _respond(request, file)
        if request.url.path.startswith(SHARED_PATH):
            response.headers.update(NOT_INDEXED)
        return response

    async def enter(_: Request) -> Response:
        return RedirectResponse(PATH)

    return [Route(PATH.removesuffix("/"), enter), Route(PATH + "{name:path}", serve)]


def _content_security_policy(image_origins: Iterable[str], issuers: Iterable[str]) -> str:
    origins = " ".join(["'self'", *dict.fromkeys(image_origins)])
    connected = " ".join([origins, *dict.fromkeys(issuers)])
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            # Placeholders are data URLs; previews of files that are being uploaded are blobs.
            f"img-src {origins} blob: data:",
            f"connect-src {connected}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _read(path: Path, build: Path, *, policy: str, facts: Mapping[str, str]) -> _File:
    data = path.read_bytes()
    headers = {**_EVERY_ANSWER, "Content-Type": _MEDIA_TYPES[path.suffix]}
    if path.name == PAGE:
        data = _FACT.sub(
            lambda found: f'{found[1]}{escape(facts[found[2]])}"', data.decode()
        ).encode()
        headers |= {**_EVERY_PAGE, "Content-Security-Policy": policy}
    # The name of an asset contains the digest of its content.
    hashed = path.relative_to(build).parts[0] == "assets"
    headers["Cache-Control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
    headers["ETag"] = f'"{sha256(data).hexdigest()[:32]}"'
    if len(data) > _COMPRESSIBLE_BYTES:
        headers["Vary"] = "Accept-Encoding"
    compressed = path.with_name(f"{path.name}.br")
    return _File(data, compressed.read_bytes() if compressed.is_file() else None, headers)


def _respond(request: Request, file: _File) -> Response:
    if has_entity_tag(request.headers, "if-none-match", file.headers["ETag"]):
        return Response(status_code=304, headers=file.headers)
    accepted = _accepted_encodings(request.headers.get("accept-encoding", ""))
    encoding = next(name for name in file.encodings if name in accepted or name == "identity")
    headers = dict(file.headers)
    if encoding != "identity":
        headers["Content-Encoding"] = encoding
    return Response(file.encoded(encoding), headers=headers)


def _accepted_encodings(header: str) -> set[str]:
    """The encodings of an Accept-Encoding header, without those that it refuses with `q=0`."""
    names = set()
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if not re.fullmatch(r"\s*q=0(\.0*)?\s*", weight):
            names.add(name.strip())
    return names
