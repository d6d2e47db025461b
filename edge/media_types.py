"""Chooses the form of an answer by the client's `Accept` header."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from edge import graphql_multipart, graphql_sse
from edge.graphql_multipart import MULTIPART
from edge.graphql_sse import SERVER_SENT_EVENTS
from edge.responses import GRAPHQL_JSON, JSON
from edge.result_streams import StreamFormat

STREAMS_IN_WORDS: Final = f"{graphql_sse.MEDIA_TYPE} or {graphql_multipart.MEDIA_TYPE}"
MAX_RANGES: Final = 100
"""Of a header. Browsers send ten; to read thousands would take as long as an operation."""
_ANY_JSON: Final = {JSON, "application/*", "*/*"}
STREAMS: Final[Mapping[str, StreamFormat]] = {
    graphql_sse.MEDIA_TYPE: SERVER_SENT_EVENTS,
    graphql_multipart.MEDIA_TYPE.lower(): MULTIPART,
}
"""Formats of streams by their media types in lower case."""


@dataclass(frozen=True, slots=True)
class Accepted:
    json: str | None
    """The media type of answers in JSON; None where the client accepts none."""
    stream: StreamFormat | None
    """The format of streams; None where the client names no such media type."""


def read_accept(header: str) -> Accepted:
    """Choose the forms of answers: the newer media type of JSON only where the client asks for it,
    and the stream format with the highest quality, the first one among equals.
    """
    found = dict(_read_ranges(header))
    wanted = {name: quality for name, quality in found.items() if quality > 0}
    json = GRAPHQL_JSON if GRAPHQL_JSON in wanted else JSON if wanted.keys() & _ANY_JSON else None
    streams = [name for name in wanted if name in STREAMS]
    best = max(streams, key=lambda name: wanted[name], default=None)
    return Accepted(json, STREAMS[best] if best is not None else None)


def _read_ranges(header: str) -> Iterator[tuple[str, float]]:
    """The media types of a header in lower case, each with its quality.

    Only one parameter is part of the type: `multipart/mixed` without it means the parts of a
    deferred answer.
    """
    for part in header.lower().split(",", MAX_RANGES)[:MAX_RANGES]:
        name, *rest = (word.strip() for word in part.split(";"))
        parameters = dict(word.partition("=")[::2] for word in rest)
        spec = parameters.get("subscriptionspec", "").strip('"')
        media_type = f"{name};subscriptionspec={spec}" if spec else name
        yield media_type, _read_quality(parameters.get("q", "1"))


def _read_quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0
