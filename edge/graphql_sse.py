"""GraphQL over server-sent events: one operation for each request, as graphql-sse and urql read it.

Events are separated by an empty line, which has to be LF LF: urql recognises no other.
"""

from typing import Final

from edge.outcomes import Result
from edge.result_streams import StreamFormat

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_SECONDS: Final = 15.0
_COMMENT: Final = b":\n\n"


def _write_next(result: Result) -> bytes:
    return b"event: next\ndata: %b\n\n" % result.encoded


SERVER_SENT_EVENTS: Final = StreamFormat(
    content_type=f"{MEDIA_TYPE}; charset=utf-8",
    begin=_COMMENT,
    heartbeat=_COMMENT,
    heartbeat_seconds=HEARTBEAT_SECONDS,
    write=_write_next,
    # Browsers pass on an event only if it has data.
    end=b"event: complete\ndata:\n\n",
)
