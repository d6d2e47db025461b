"""Responses of a simulated OpenAI: errors in its own format and Azure's, and events."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from tests.simulators.answers import json, retry_after
from tests.simulators.script import Script

_REFUSED: Final = "image_generation_user_error"
_WRONG: Final = "invalid_request_error"
_FAILURES: Final[Mapping[str, tuple[int, str | None]]] = {
    "moderation_blocked": (400, _REFUSED),
    "content_policy_violation": (400, _WRONG),
    "image_content_policy_violation": (400, _WRONG),
    "contentFilter": (400, None),
    "content_filter": (400, None),
    "invalid_value": (400, _WRONG),
    "invalid_image": (400, _REFUSED),
    "billing_hard_limit_reached": (400, _WRONG),
    "insufficient_quota": (429, "insufficient_quota"),
    "rate_limit_exceeded": (429, "requests"),
    "server_error": (500, "server_error"),
    "model_not_found": (404, _WRONG),
    "DeploymentNotFound": (404, None),
    "organization_must_be_verified": (403, _WRONG),
    "filtered": (400, None),
    "429": (429, None),
}
"""`error.code`: its status, and `error.type`."""
FAILURES: Final = frozenset(_FAILURES)


def error_of(kind: str, *, prompt: str) -> dict[str, Any]:
    """As OpenAI does, it repeats what it was given."""
    described: dict[str, Any] = {"message": f"The request failed: {prompt}", "param": None}
    described |= {"code": kind, "type": _FAILURES[kind][1]}
    if kind == "filtered":
        # The reason is only inside.
        results = {"violence": {"filtered": True, "severity": "high"}, "hate": {"filtered": False}}
        described |= {"code": "400", "inner_error": {"content_filter_results": results}}
    return {
        name: value for name, value in described.items() if value is not None or name == "param"
    }


def failure(kind: str, *, prompt: str, script: Script) -> Response:
    status = _FAILURES[kind][0]
    described = {"error": error_of(kind, prompt=prompt)}
    return json(described, status, {"x-request-id": "req_1", **_waits(status, script)})


def error(status: int, script: Script) -> Response:
    """One whose code is its status, as Azure has them."""
    described = {"code": str(status), "message": f"scripted {status}"}
    return json({"error": described}, status, _waits(status, script))


def _waits(status: int, script: Script) -> dict[str, str]:
    """How long to wait: as everybody, in milliseconds (`…ms`), or as a limit (`…limit`)."""
    hint = script.retry_after
    if hint.endswith("limit") and status == 429:
        return {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": hint.removesuffix("limit"),
            "x-ratelimit-remaining-tokens": "7",
            "x-ratelimit-reset-tokens": "9m0s",
        }
    if hint.endswith("ms") and status in (429, 503):
        return {"retry-after-ms": hint.removesuffix("ms"), "retry-after": "99"}
    return retry_after(status, script)


def event(name: str, fields: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(fields))
