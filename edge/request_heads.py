"""What is wrong with the head of an HTTP request, found before anything is done with the request.

A proxy in front may have read it in another way. What can be read in two ways is refused.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from edge.http_refusals import HEADERS_TOO_LARGE, MALFORMED, Refusal

_WRONG_CODING: Final = Refusal(400, "BAD_REQUEST", "The only Transfer-Encoding is `chunked`.")
_REPEATED: Final = Refusal(
    400, "BAD_REQUEST", "Host, Origin and Authorization can each be sent once."
)
_TWO_HOSTS: Final = Refusal(400, "BAD_REQUEST", "Host differs from the host of the request's URL.")
_SENT_ONCE: Final = (b"host", b"origin", b"authorization")
"""Headers that decide who may do what."""
_HTTP_1_1: Final = "1.1"
_NO_UPGRADE: Final = Refusal(400, "BAD_REQUEST", "A WebSocket is opened with GET in HTTP/1.1.")
_UPGRADE_WITH_BODY: Final = Refusal(400, "BAD_REQUEST", "A WebSocket is opened without a body.")
_LONG_LIST: Final = Refusal(
    431,
    HEADERS_TOO_LARGE,
    "Connection, Upgrade and Sec-WebSocket-* have at most 1 KB each in a WebSocket handshake.",
)
_LIST_BYTES: Final = 1_024
"""Of all values of one name. websockets reads such a list letter by letter: 2 µs for each."""


def find_fault(url: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> Refusal | None:
    """Why the request is refused, if it is."""
    names = [name for name, _ in headers]
    if any(names.count(name) > 1 for name in _SENT_ONCE):
        return _REPEATED
    is_named = b"host" in names or version < _HTTP_1_1
    if not is_named or not url.isascii():
        return MALFORMED
    if not url.startswith(b"/") and _names_another_host(url, headers):
        return _TWO_HOSTS
    return None


def find_fault_of_body(version: str, headers: Sequence[tuple[bytes, bytes]]) -> Refusal | None:
    """Why the request is refused because of the way its body is sent, if it is."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    # HTTP/1.0 has none: what begins behind such a body is unknown to a proxy of that version.
    if codings and (version < _HTTP_1_1 or any(value.lower() != b"chunked" for value in codings)):
        return _WRONG_CODING
    return None


def find_fault_of_upgrade(
    method: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]
) -> Refusal | None:
    """Why no WebSocket is opened, as far as the head tells."""
    if method != b"GET" or version != _HTTP_1_1:
        return _NO_UPGRADE
    if _announces_body(headers):
        return _UPGRADE_WITH_BODY
    lists: Counter[bytes] = Counter()
    for name, value in headers:
        if name in (b"connection", b"upgrade") or name.startswith(b"sec-websocket-"):
            lists[name] += len(value)
    return _LONG_LIST if max(lists.values(), default=0) > _LIST_BYTES else None


def _announces_body(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a body follows, even an empty one in chunks."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


def _names_another_host(url: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a URL as sent to a proxy is for another host than the header says."""
    _, is_whole, rest = url.partition(b"://")
    named = _without_default_port(re.split(rb"[/?#]", rest, maxsplit=1)[0])
    return bool(is_whole) and any(
        name == b"host" and _without_default_port(value) != named for name, value in headers
    )


def _without_default_port(host: bytes) -> bytes:
    return host.lower().removesuffix(b":80")
