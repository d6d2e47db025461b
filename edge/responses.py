"""JSON answers to HTTP requests, and the one form of an error in them."""

from collections.abc import Mapping
from typing import Final

import orjson
from starlette.responses import Response

JSON: Final = "application/json"
GRAPHQL_JSON: Final = "application/graphql-response+json"


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
    """Answer a request that does not get as far as GraphQL, or is none."""
    body = {"errors": [{"message": message, "extensions": {"code": code}}]}
    return json_response(body, status, headers=headers, media_type=media_type)
