"""How a body is sent by HTTP: with a length, in chunks, packed, by HTTP/1.0, and with heads as
servers and proxies write them.
"""

import gzip
import zlib
from collections.abc import Callable
from random import Random
from typing import Final

from tests.simulators.canned_responses import Answer, http, http_open

_Envelope = Callable[[bytes, str, Random], Answer]


def put_in_envelope(body: bytes, kind: str, rng: Random, changes: list[str]) -> Answer:
    """A whole answer with this body and content type; `changes` gets the envelope's name."""
    name = rng.choice(_OFTEN)
    changes.append(name)
    return _ENVELOPES[name](body, kind, rng)


def _in_chunks(body: bytes, kind: str, rng: Random) -> Answer:
    size = rng.randint(1, 300)
    return (
        _chunked(kind)
        + b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in _pieces(body, size))
        + b"0\r\n\r\n"
    )


def _in_odd_chunks(body: bytes, kind: str, rng: Random) -> Answer:
    """With leading zeros, extensions and a trailer."""
    size = rng.randint(1, 3_000)
    extension = rng.choice((";a=1", ';a="b"', ";a", ""))
    return (
        _chunked(kind)
        + b"".join(
            f"00{len(one):X}{extension}\r\n".encode() + one + b"\r\n" for one in _pieces(body, size)
        )
        + b"0\r\nx-checksum: 1\r\nserver-timing: a;dur=1\r\n\r\n"
    )


def _chunked(kind: str) -> bytes:
    return http_open(b"", "transfer-encoding: chunked", content_type=kind)


def _pieces(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def _by_http_1_0(body: bytes, kind: str, rng: Random) -> Answer:
    """Its end is that of the connection."""
    head, _, rest = http_open(body, content_type=kind).partition(b"\r\n")
    return head.replace(b"1.1", b"1.0") + b"\r\n" + rest.replace(b"connection: close\r\n", b"", 1)


def _with_odd_head(body: bytes, kind: str, rng: Random) -> Answer:
    length = rng.choice((f"Content-Length:{len(body)}", f"CONTENT-LENGTH:   {len(body)}  "))
    lines = [
        "HTTP/1.1 200",
        rng.choice((f"CONTENT-TYPE:{kind}", f"cOnTeNt-TyPe: \t{kind} ")),
        *rng.sample(("X-A:", "x-a: é", "Set-Cookie: a=b", "Set-Cookie: c=d", "Vary:*"), 3),
        length,
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _after_hints(body: bytes, kind: str, rng: Random) -> Answer:
    hint = rng.choice((b"103 Early Hints\r\nlink: </a>; rel=preload", b"100 Continue", b"102 X"))
    return (b"HTTP/1.1 " + hint + b"\r\n\r\n") * rng.choice((1, 2)) + http(body, content_type=kind)


_ENVELOPES: Final[dict[str, _Envelope]] = {
    "length": lambda body, kind, _: http(body, content_type=kind),
    "open": lambda body, kind, _: http_open(body, content_type=kind),
    "chunks": _in_chunks,
    "odd chunks": _in_odd_chunks,
    "HTTP/1.0": _by_http_1_0,
    "odd head": _with_odd_head,
    "after hints": _after_hints,
    "another success": lambda body, kind, rng: http(
        body, status=rng.choice((201, 202, 203)), content_type=kind
    ),
    "no content type": lambda body, kind, _: http(body, content_type=kind).replace(
        f"content-type: {kind}\r\n".encode(), b"", 1
    ),
    "gzip": lambda body, kind, _: http(
        gzip.compress(body, 1), "content-encoding: gzip", content_type=kind
    ),
    "gzip in two members": lambda body, kind, _: http(
        gzip.compress(body[:99], 1) + gzip.compress(body[99:], 1),
        "content-encoding: gzip",
        content_type=kind,
    ),
    "gzip, spelled oddly": lambda body, kind, rng: http(
        gzip.compress(body, 1),
        f"content-encoding: {rng.choice(('GZIP', 'x-gzip', 'identity, gzip', ' gzip '))}",
        content_type=kind,
    ),
    "deflate": lambda body, kind, rng: http(
        zlib.compress(body, 1) if rng.random() < 0.5 else zlib.compress(body, 1)[2:-4],
        "content-encoding: deflate",
        content_type=kind,
    ),
    "odd encoding": lambda body, kind, rng: http(
        body,
        f"content-encoding: {rng.choice(('aws-chunked', 'identity', 'utf-8', ''))}",
        content_type=kind,
    ),
}
_OFTEN: Final = ("length", *_ENVELOPES)
