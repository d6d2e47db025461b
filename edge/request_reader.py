"""Reads the requests of an HTTP connection, within limits.

httptools limits neither the head of a request, nor the number of requests that wait behind an
unanswered one, nor the number of chunks of a body. What must stay true: what one connection holds
in memory is bounded, and no call of the parser takes long, whatever the client sends.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edge.http_refusals import HEADERS_TOO_LARGE, MALFORMED, Refusal
from edge.request_heads import find_fault, find_fault_of_body, find_fault_of_upgrade
from settings import Limits

MAX_PIPELINED: Final = 16
"""Requests that may wait behind an unanswered one."""
MAX_SMALL_CHUNKS: Final = 1_000
CHUNK_BYTES: Final = 64
"""A body may have MAX_SMALL_CHUNKS chunks, and one more for each CHUNK_BYTES of its size: reading a
chunk of one byte takes as long as reading a large one.
"""
_CHUNKS_TOO_SMALL: Final = Refusal(400, "BAD_REQUEST", "The body comes in too many small chunks.")
_UPGRADE_TOO_EARLY: Final = Refusal(
    400, "BAD_REQUEST", "A WebSocket is opened once the answers before it have been read."
)
_DEFAULTS: Final = Limits()
_UPGRADE_HEADERS: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})


class _Stop(Exception):
    """Ends a call of the parser from within a callback."""


class RequestReader(HttpToolsProtocol, ABC):
    """What httptools calls for each part of a request.

    A subclass gives it the bytes that have arrived, and decides what becomes of a connection whose
    request is refused, or that becomes a WebSocket.
    """

    limits = _DEFAULTS
    in_head = False
    in_body = False
    head_began = 0.0
    """When the first byte of the head arrived, by the loop's clock."""
    stopped = False
    """Whether the rest of what the client sends is dropped."""
    _head_bytes = 0
    """The bytes of all complete names and values, and of the URL."""
    _body_bytes = 0
    _chunks = 0
    """What has arrived of the body."""
    _unparsed_bytes = 0
    """Bytes given to the parser since its last report; it holds incomplete names and values."""
    _refusal = MALFORMED
    _ignores_upgrade = False
    """Whether the head that has just been read asks for a protocol that is not spoken here."""

    @abstractmethod
    def refuse(self, refusal: Refusal) -> None:
        """Stop reading this connection, and say why."""

    @abstractmethod
    def hand_over(self, rest: bytes) -> None:
        """Continue as a WebSocket, with what has arrived after the handshake."""

    def is_answered(self) -> bool:
        """Whether every request whose head is complete has been answered."""
        return self.cycle is None or self.cycle.response_complete

    def parse(self, data: bytes | memoryview) -> None:
        """Parse what has arrived. Its size decides how long that takes."""
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._ignores_upgrade:
                self._parse_without_upgrade(data[upgrade.args[0] :])
            elif self._should_upgrade():
                self.hand_over(bytes(data[upgrade.args[0] :]))
            else:
                self.stopped = True  # What follows CONNECT may be another protocol.
        except httptools.HttpParserError:
            self.refuse(self._refusal)
        else:
            if self._unparsed_bytes > self.limits.head_bytes:
                self.refuse(self._head_too_large)

    def on_message_begin(self) -> None:
        """httptools: the first byte of a request has arrived."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Stop
        self.in_head = True
        self.head_began = self.loop.time()
        self._head_bytes = self._unparsed_bytes = self._body_bytes = self._chunks = 0
        super().on_message_begin()
        self.scope["extensions"] = {}

    def on_url(self, url: bytes) -> None:
        """httptools: a part of the URL has arrived."""
        super().on_url(url)
        self._unparsed_bytes = 0
        if len(self.url) > self.limits.url_bytes:
            message = f"A URL can have at most {self.limits.url_bytes} bytes."
            self._stop(Refusal(414, "URL_TOO_LONG", message))

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: a header is complete, or a trailer after a chunked body, which is dropped."""
        if not self.in_head:
            return
        self._unparsed_bytes = 0
        self._head_bytes += len(name) + len(value)
        limits = self.limits
        if self._head_bytes > limits.head_bytes or len(self.headers) >= limits.head_fields:
            self._stop(self._head_too_large)
        super().on_header(name, value.rstrip(b" \t"))  # httptools strips what precedes it

    def on_headers_complete(self) -> None:
        """httptools: the application may begin."""
        self.in_head = False
        self._unparsed_bytes = 0
        self._unset_keepalive_if_required()
        refusal = self._find_fault()
        if refusal is not None:
            self._stop(refusal)
        asks_for_another = self.parser.should_upgrade() and not self._should_upgrade()
        self._ignores_upgrade = asks_for_another and self.parser.get_method() != b"CONNECT"
        if not self._ignores_upgrade:
            super().on_headers_complete()
            self.in_body = True

    def on_chunk_header(self) -> None:
        """httptools: a chunk of the body begins."""
        self._chunks += 1
        if self._chunks > MAX_SMALL_CHUNKS + self._body_bytes // CHUNK_BYTES:
            self._stop(_CHUNKS_TOO_SMALL)

    def on_body(self, body: bytes) -> None:
        """httptools: a part of the body has arrived."""
        self._unparsed_bytes = 0
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """httptools: the request is complete."""
        if self._ignores_upgrade:
            return
        self.in_body = False
        self._unparsed_bytes = 0
        super().on_message_complete()

    def _find_fault(self) -> Refusal | None:
        """What is wrong with the head that has arrived."""
        parser, headers = self.parser, self.headers
        version = parser.get_http_version()
        refusal = find_fault(self.url, version, headers)
        if refusal is not None:
            return refusal
        if parser.should_upgrade() and self._should_upgrade():
            refusal = find_fault_of_upgrade(parser.get_method(), version, headers)
            if refusal is not None:
                return refusal
            # The protocol of WebSockets would not learn when there is room again.
            is_read = self.is_answered() and not self.flow.write_paused
            return None if is_read else _UPGRADE_TOO_EARLY
        return find_fault_of_body(version, headers)

    def _parse_without_upgrade(self, rest: bytes | memoryview) -> None:
        """Read the head again without its upgrade, which a server may ignore: some clients ask for
        HTTP/2 in every request, and httptools reads no body after an upgrade.
        """
        self._ignores_upgrade = False
        head = _write_without_upgrade(self.parser, self.url, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.parse(head)
        if not self.stopped:
            self.parse(rest)

    @property
    def _head_too_large(self) -> Refusal:
        message = (
            f"The headers can have at most {self.limits.head_bytes} bytes, and there can be "
            f"{self.limits.head_fields} of them."
        )
        return Refusal(431, HEADERS_TOO_LARGE, message)

    def _stop(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise _Stop


def _write_without_upgrade(
    parser: httptools.HttpRequestParser, url: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> bytes:
    version = parser.get_http_version().encode()
    head = [b"%b %b HTTP/%b\r\n" % (parser.get_method(), url, version)]
    for name, value in headers:
        if name == b"connection" and b"close" in value.lower():
            head.append(b"connection: close\r\n")
        elif name not in _UPGRADE_HEADERS:
            head.append(b"%b: %b\r\n" % (name, value))
    return b"".join((*head, b"\r\n"))
