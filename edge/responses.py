"""Responses to HTTP requests: JSON, the form of errors in it, and the headers that files share."""

import re
from collections.abc import Mapping
from typing import Final

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

JSON: Final = "application/json"
GRAPHQL_JSON: Final = "application/graphql-response+json"
EMBEDDABLE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""Headers of every page."""
NOT_INDEXED: Final = {"X-Robots-Tag": "noindex"}
"""Header that keeps a page out of search engines: anyone who has its link may read it."""
INERT: Final = {
    "Content-Disposition": "inline",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
"""Headers of files that must not run anything when they are opened by themselves."""
_ENTITY_TAG: Final = re.compile(r'"[^"]*"')


def json_response(
    body: object,
    status: int = 200,
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = JSON,
) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type)


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    media_type: str = JSON,
) -> Response:
    """Answer a request that does not reach GraphQL, or is not for it."""
    return json_response(error_body(code, message), status, headers=headers, media_type=media_type)


def error_body(code: str, message: str) -> dict[str, object]:
    return {"errors": [{"message": message, "extensions": {"code": code}}]}


def has_entity_tag(headers: Headers, header: str, tag: str) -> bool:
    """Whether a list of entity tags has this one, weak or strong, or the asterisk for any."""
    value = ",".join(headers.getlist(header)).strip()
    return value == "*" or tag in _ENTITY_TAG.findall(value)
