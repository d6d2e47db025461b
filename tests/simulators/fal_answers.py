"""Answers of a simulated fal that do not go well: errors in fal's shapes, and nonsense."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tests.simulators.fal_script import Script

ENDLESS_BYTES: Final = 2**31
_PIECE: Final = b" " * 2**16

_MODEL_ERRORS: Final[Mapping[str, tuple[int, str]]] = {
    "internal_server_error": (500, "true"),
    "generation_timeout": (504, "true"),
    "downstream_service_unavailable": (500, "true"),
    "downstream_service_error": (500, "false"),
    "content_policy_violation": (422, "false"),
    "no_media_generated": (422, "false"),
    "image_too_small": (422, "false"),
    "image_too_large": (422, "false"),
    "image_load_error": (422, "false"),
    "unsupported_image_format": (422, "false"),
    "file_too_large": (422, "false"),
    "face_detection_error": (422, "false"),
    "file_download_error": (422, "false"),
    "greater_than": (422, "false"),
    "literal_error": (422, "false"),
    "feature_not_supported": (422, "false"),
}
"""`detail[].type`: its status, and `X-Fal-Retryable`."""
_PLATFORM_ERRORS: Final[Mapping[str, int]] = {
    "request_timeout": 504,
    "startup_timeout": 504,
    "runner_scheduling_failure": 503,
    "runner_connection_timeout": 503,
    "runner_disconnected": 503,
    "runner_connection_refused": 503,
    "runner_connection_error": 503,
    "runner_incomplete_response": 502,
    "runner_server_error": 500,
    "internal_error": 500,
    "client_disconnected": 499,
    "client_cancelled": 499,
    "bad_request": 400,
}
WORDS: Final = "words"
"""The failure that names no type."""
FAILURES: Final = frozenset({*_MODEL_ERRORS, *_PLATFORM_ERRORS, WORDS})


def failure(kind: str, *, prompt: str) -> Response:
    if kind in _PLATFORM_ERRORS:
        return platform_error(kind, {})
    if kind == WORDS:
        return json({"detail": f"no type, but words: {prompt}"}, 422)
    status, retryable = _MODEL_ERRORS[kind]
    # As fal does, it repeats what it was given.
    detail = {
        "loc": ["body", "prompt"],
        "msg": f"The request failed: {prompt}",
        "type": kind,
        "url": f"https://docs.fal.ai/errors#{kind}",
        "ctx": {},
        "input": prompt,
    }
    return json({"detail": [detail]}, status, {"x-fal-retryable": retryable})


def platform_error(kind: str, headers: Mapping[str, str]) -> Response:
    fields = {"detail": "the request could not be served", "error_type": kind}
    return json(fields, _PLATFORM_ERRORS[kind], {"x-fal-error-type": kind, **headers})


def error(status: int, script: Script, *, html: bool) -> Response:
    headers = {}
    if script.retry_after and status in (429, 503):
        headers["retry-after"] = script.retry_after
        if script.retry_after.startswith("@"):
            until = datetime.now(UTC) + timedelta(seconds=float(script.retry_after[1:]))
            headers["retry-after"] = format_datetime(until, usegmt=True)
    if status == 429:
        headers["x-fal-needs-retry"] = "1"
    if html:
        return Response(f"<h1>{status}</h1>", status, headers, "text/html")
    return json({"detail": f"scripted {status}"}, status, headers)


def logs(status: str) -> list[dict[str, str]]:
    if status == "IN_QUEUE":
        return []
    told = {"message": "step 4/28", "level": "INFO", "source": "USER"}
    return [told | {"timestamp": datetime.now(UTC).isoformat()}]


NONSENSE: Final[Mapping[str, Callable[[], Response]]] = {
    "html": lambda: Response("<html><body>Bad gateway</body></html>", media_type="text/html"),
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
