"""Responses given byte by byte, for cases that no simulator covers.

One exchange is all that a provider answers in one run. Its number stands in the prompt, as
`exchange 7`, in the job's id and in the names of its files.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from tests.simulators.pictures import picture

_IN_BODY: Final = re.compile(rb"exchange (\d+)")
_IN_PATH: Final = re.compile(r"/exchange-(\d+)(?:/|$)")
_FILE: Final = re.compile(r"/(\d+)\.png$")

Answer = bytes
"""A whole answer of HTTP, its head included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The responses of one run. Of several, each is sent once, the last one repeatedly."""

    submission: Answer
    """For a provider of which one call is the whole run, this is all."""
    status: Sequence[Answer] = ()
    result: Sequence[Answer] = ()
    files: Mapping[int, Sequence[Answer]] | None = None
    """By their numbers; where none are given, each is its own picture."""


def http(
    body: bytes, *headers: str, status: int = 200, content_type: str = "application/json"
) -> Answer:
    """A response with its length in the header."""
    head = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", *headers]
    return "\r\n".join([*head, f"content-length: {len(body)}", "", ""]).encode() + body


def http_open(body: bytes, *headers: str, content_type: str = "text/event-stream") -> Answer:
    """An answer that ends with its connection."""
    head = ["HTTP/1.1 200 OK", f"content-type: {content_type}", *headers]
    return "\r\n".join([*head, "connection: close", "", ""]).encode() + body


def json(value: Any) -> Answer:
    return http(orjson.dumps(value))


def events(*values: Any, done: bool = False) -> Answer:
    written = b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values)
    return http_open(written + (b"data: [DONE]\n\n" if done else b""))


def file_of(number: int, index: int) -> bytes:
    """The picture that a file is."""
    return picture(f"exchange {number}, file {index}")


def link_to(url: str, number: int, index: int = 0) -> str:
    return f"{url}/files/exchange-{number}/{index}.png"


class CannedResponses:
    """All responses. Requests are counted by exchange and by kind."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._asked: dict[tuple[int, str], int] = {}

    def answer(self, target: str, body: bytes) -> Answer:
        method, path = target.split(" ")[:2]
        path = path.partition("?")[0]
        found = _IN_PATH.search(path) or _IN_BODY.search(body)
        if found is None:
            return http(b"{}", status=404)
        number = int(found[1])
        exchange, kind = self.exchanges[number], _kind_of(method, path)
        count = self._asked.get((number, kind), 0)
        self._asked[number, kind] = count + 1
        if kind == "submission":
            return exchange.submission
        if kind.isdigit():
            usual = [http(file_of(number, int(kind)), content_type="image/png")]
            answers: Sequence[Answer] = (exchange.files or {}).get(int(kind), usual)
        else:
            answers = exchange.status if kind == "status" else exchange.result
        return answers[min(count, len(answers) - 1)] if answers else http(b"{}", status=404)

    def forget(self) -> None:
        """Begin to count again."""
        self._asked.clear()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Serve on loopback until the block ends; the base URL."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?im)^content-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            writer.write(self.answer(head, body))
            await writer.drain()
        writer.close()


def _kind_of(method: str, path: str) -> str:
    """What is requested: the submission, a status, a result, or the number of a file."""
    file = _FILE.search(path)
    if file is not None:
        return file[1]
    if method != "GET":
        return "submission"
    # A prediction's status is its result; only fal has both.
    is_result = "/requests/" in path and not path.endswith("/status")
    return "result" if is_result else "status"
