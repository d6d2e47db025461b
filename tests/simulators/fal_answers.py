"""Error responses of a simulated fal, in fal's formats."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from tests.simulators.answers import json, retry_after
from tests.simulators.script import Script

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
BILLED_FAILURES: Final = frozenset({"content_policy_violation", "no_media_generated"})
"""The model has run for these. Failures of fal's own are free."""
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


def error(status: int, script: Script) -> Response:
    headers = retry_after(status, script)
    if status == 429:
        headers["x-fal-needs-retry"] = "1"
    return json({"detail": f"scripted {status}"}, status, headers)


def logs(status: str) -> list[dict[str, str]]:
    if status == "IN_QUEUE":
        return []
    entry = {"message": "step 4/28", "level": "INFO", "source": "USER"}
    return [entry | {"timestamp": datetime.now(UTC).isoformat()}]
