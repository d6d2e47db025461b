"""Reads the messages that a client sends over graphql-transport-ws."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from edge.json_input import NUL_ESCAPE, decode_json
from edge.outcomes import Operation
from edge.parameters import InvalidParameters, read_parameters
from edge.traces import find_trace_values

MAX_ID_LENGTH: Final = 64


@dataclass(frozen=True, slots=True)
class ConnectionInit:
    authorization: str | None
    """The value of the payload's `Authorization`; None where it is not text."""
    has_authorization: bool
    """Whether there is one. Without it, the socket has no viewer."""
    names: Mapping[str, str]
    """Values of the trace that the socket belongs to: see `edge.traces`."""


@dataclass(frozen=True, slots=True)
class Ping:
    authorization: str | None
    """The value of the payload's `Authorization`; None where it is not text."""
    has_authorization: bool
    """Whether the client wants to renew its token."""


@dataclass(frozen=True, slots=True)
class Pong:
    pass


@dataclass(frozen=True, slots=True)
class Subscribe:
    id: str
    operation: Operation
    names: Mapping[str, str]
    """Values of the trace that the operation belongs to, if it is not the socket's."""
    characters: int
    """The length of the message."""


@dataclass(frozen=True, slots=True)
class Complete:
    id: str


Message: TypeAlias = ConnectionInit | Ping | Pong | Subscribe | Complete


class InvalidMessage(Exception):
    """What the client has sent is not a message of the protocol."""


def read_message(text: str | None) -> Message:
    """Read a message. `text` is None for a binary frame. Raise InvalidMessage."""
    if text is None:
        raise InvalidMessage("WebSocket message type must be text")
    try:
        message = decode_json(text)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("WebSocket message must be valid JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InvalidMessage("A message must be an object with a type")
    match message["type"]:
        case "subscribe":
            return _read_subscribe(message, text)
        case "complete":
            if not isinstance(message.get("id"), str):
                raise InvalidMessage("The id must be a string")
            return Complete(message["id"])
    payload = message.get("payload")
    if not isinstance(payload, dict | None):
        raise InvalidMessage("Invalid payload")
    match message["type"]:
        case "connection_init":
            found = _find_authorization(payload)
            return ConnectionInit(
                _text(found), has_authorization=found is not None, names=find_trace_values(payload)
            )
        case "ping":
            found = _find_authorization(payload)
            return Ping(_text(found), has_authorization=found is not None)
        case "pong":
            return Pong()
    raise InvalidMessage(f"Unknown message type: {message['type']}")


def _find_authorization(payload: Mapping[str, Any] | None) -> object:
    """A value by the name of its header, in any case; None where it is missing or null. Raise
    InvalidMessage where there are different ones.
    """
    named = [value for name, value in (payload or {}).items() if name.lower() == "authorization"]
    if any(value != named[0] for value in named):
        raise InvalidMessage("The payload must have one Authorization")
    return named[0] if named else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _read_subscribe(message: Mapping[str, Any], text: str) -> Subscribe:
    operation_id, payload = message.get("id"), message.get("payload")
    # An id that consisted of NULs may have become empty, which is allowed.
    least = 0 if NUL_ESCAPE in text else 1
    if not isinstance(operation_id, str) or not least <= len(operation_id) <= MAX_ID_LENGTH:
        raise InvalidMessage(f"The id must be a string of 1 to {MAX_ID_LENGTH} characters")
    if not isinstance(payload, dict):
        raise InvalidMessage("The payload must be an object")
    try:
        operation = read_parameters(payload)
        names = find_trace_values(payload.get("extensions"))
        return Subscribe(operation_id, operation, names, characters=len(text))
    except InvalidParameters as invalid:
        raise InvalidMessage(str(invalid)) from invalid
