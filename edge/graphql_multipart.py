"""GraphQL subscriptions as `multipart/mixed`: Apollo's protocol, as Apollo Client and gql read it.

Some clients take a part as complete when they have read the boundary that follows it, others when
they have read as many bytes as its length says: each part is sent with both. The last boundary ends
the body, without an empty part before it, which Apollo Client would take for an error.
"""

from typing import Final

import orjson

from edge.outcomes import Result
from edge.result_streams import StreamFormat

MEDIA_TYPE: Final = "multipart/mixed;subscriptionSpec=1.0"
HEARTBEAT_SECONDS: Final = 5.0
_BOUNDARY: Final = b"--graphql"
_HEAD: Final = b"\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def _write_part(body: bytes) -> bytes:
    """Write a part, and the boundary after it."""
    return b"%b%b\r\n%b" % (_HEAD % len(body), body, _BOUNDARY)


def _write_result(result: Result) -> bytes:
    """A result as a part: errors of fields are inside the payload, an error that ends the
    subscription is beside it.
    """
    if result.has_run:
        return _write_part(b'{"payload":%b}' % result.encoded)
    return _write_part(orjson.dumps({"payload": None, "errors": result.errors}))


_HEARTBEAT: Final = _write_part(b"{}")

MULTIPART: Final = StreamFormat(
    content_type="multipart/mixed;boundary=graphql;subscriptionSpec=1.0",
    begin=_BOUNDARY + _HEARTBEAT,
    heartbeat=_HEARTBEAT,
    heartbeat_seconds=HEARTBEAT_SECONDS,
    write=_write_result,
    end=b"--\r\n",
)
