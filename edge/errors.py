"""Shows errors of operations to clients: each has a code, and Darkroom's own faults are masked."""

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final, NotRequired, TypedDict, cast

import structlog
from graphql import GraphQLError

from domain.errors import ApiError

log = structlog.get_logger(__name__)

MAX_ERRORS: Final = 50
"""The number of errors in one answer; further ones are left out."""
MAX_CHARACTERS: Final = 500
"""The length of a message, and of a name in a path: errors repeat what a client has sent."""
INTERNAL: Final = "INTERNAL"
_BAD_INPUT: Final = "BAD_USER_INPUT"
_VARIABLE: Final = re.compile(
    r"Variable '\$(?P<name>\w+)'.*? has invalid value(?: at (?P<path>[\w.\[\]]+))?:"
)
_STEP: Final = re.compile(r"\w+")
_INTERNAL_MESSAGE: Final = "Something went wrong on our side."


class ErrorBody(TypedDict):
    """An error in the form in which every transport writes it. `extensions` has a `code`."""

    message: str
    extensions: dict[str, object]
    locations: NotRequired[object]
    path: NotRequired[object]


def present_errors(
    errors: Iterable[GraphQLError], *, request_id: str, invalid_code: str = "BAD_USER_INPUT"
) -> tuple[ErrorBody, ...]:
    """Give each error its code. Log Darkroom's own faults, and show only the request's id for them.

    `invalid_code` is the code of errors that only say that the client's input is not valid.
    """
    shown = islice(errors, MAX_ERRORS)
    return tuple(_present(error, request_id, invalid_code) for error in shown)


def internal_error(request_id: str) -> ErrorBody:
    extensions: dict[str, object] = {"code": INTERNAL, "requestId": request_id}
    return {"message": _INTERNAL_MESSAGE, "extensions": extensions}


def _present(error: GraphQLError, request_id: str, invalid_code: str) -> ErrorBody:
    original = error.original_error
    if isinstance(original, ApiError):
        return _body(error, str(original), original.extensions)
    if error.extensions and "code" in error.extensions:
        return _body(error, error.message, error.extensions)
    if error.path is None and original is None:
        if invalid_code == _BAD_INPUT:
            return _body(error, error.message, _bad_input(error.message))
        return _body(error, error.message, {"code": invalid_code})
    if error.path is None and isinstance(original, ValueError | GraphQLError):
        # No field has run: a scalar or the coercion of variables has refused a value.
        return _body(error, error.message, _bad_input(error.message))

    log.error("internal error", path=error.path, exc_info=original or error)
    shown = internal_error(request_id)
    if error.path is not None:
        shown["path"] = _shorten_path(error.path)
    return shown


def _bad_input(message: str) -> dict[str, object]:
    """Add the path of the invalid value in the variables: graphql-core only writes it into the
    text.
    """
    extensions: dict[str, object] = {"code": _BAD_INPUT}
    found = _VARIABLE.match(message)
    if found is not None:
        steps = (_shorten(step) for step in _STEP.findall(found["path"] or ""))
        path = [int(step) if step.isdecimal() else step for step in steps]
        extensions["path"] = [_shorten(found["name"]), *path]
    return extensions


def _body(error: GraphQLError, message: str, extensions: dict[str, object]) -> ErrorBody:
    body = {**error.formatted, "message": _shorten(message), "extensions": extensions}
    if error.path is not None:
        body["path"] = _shorten_path(error.path)
    return cast("ErrorBody", body)


def _shorten_path(path: Iterable[str | int]) -> list[str | int]:
    return [_shorten(step) if isinstance(step, str) else step for step in path]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
