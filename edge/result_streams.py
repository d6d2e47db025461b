"""Streams of results over HTTP: results as they come, heartbeats between them, and an end.

What must stay true: an operation ends when its client leaves or its token ends, whatever the client
reads; results are asked for one at a time, so that a slow client gets only the newest states.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, ExitStack, aclosing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import structlog
from starlette.types import Receive, Scope, Send

from domain.errors import Forbidden
from domain.ids import ViewerId
from domain.viewers import Viewer
from edge.errors import internal_error
from edge.http_protocol import ENDLESS
from edge.outcomes import Outcome, Result, Streaming, read_results

END_SECONDS: Final = 10.0
"""How long a cancelled operation may take to end."""
_UNBUFFERED: Final = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
"""For proxies: pass on at once what is written."""
_EXPIRED: Final = Result(
    None, ({"message": "The token has expired.", "extensions": {"code": "UNAUTHENTICATED"}},)
)

_BLOCKED: Final = Result(
    None, ({"message": Forbidden.message, "extensions": {"code": Forbidden.code}},)
)

CallWhenGone: TypeAlias = Callable[[ViewerId, Callable[[], None]], AbstractContextManager[None]]
"""Enters a context in which the function is called once the viewer has been deleted, or blocked."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFormat:
    """Writes the results of one operation into one body."""

    content_type: str
    begin: bytes
    heartbeat: bytes
    heartbeat_seconds: float
    write: Callable[[Result], bytes]
    end: bytes


class ResultStream:
    """An ASGI application that writes an outcome until it has ended, its client has left, or its
    token has expired: then the last result is an error, `UNAUTHENTICATED`.
    """

    def __init__(
        self,
        outcome: Outcome,
        stream_format: StreamFormat,
        *,
        request_id: str,
        viewer: Viewer | None,
        call_when_blocked: CallWhenGone,
    ) -> None:
        self._outcome = outcome
        self._format = stream_format
        self._request_id = request_id
        self._viewer = viewer
        self._call_when_blocked = call_when_blocked
        self._is_blocked = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._write(scope, receive, send)
        finally:
            if isinstance(self._outcome, Streaming):
                self._outcome.release()

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.get("extensions", {})[ENDLESS] = {}
        content_type = (b"content-type", self._format.content_type.encode())
        headers = [content_type, *_UNBUFFERED]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send_part(send, self._format.begin)
        writing = _start(self._write_results(send), "results of a stream")
        leaving = _start(wait_until_left(receive), "client of a stream")
        limit = asyncio.timeout(self._seconds_left())
        last, watching = b"", ExitStack()
        try:
            async with limit:
                watching.enter_context(self._watch(limit))
                while not await _is_any_done(writing, leaving, self._format.heartbeat_seconds):
                    await _send_part(send, self._format.heartbeat)
                if leaving.done():
                    return
                await writing
        except Exception:
            if limit.expired():
                failure = _BLOCKED if self._is_blocked else _EXPIRED
            else:
                log.exception("operation failed")
                failure = Result(None, (internal_error(self._request_id),))
            last = self._format.write(failure)
        finally:
            watching.close()
            await _end(writing, leaving)
        await _send_part(send, last + self._format.end, more=False)

    async def _write_results(self, send: Send) -> None:
        async with aclosing(read_results(self._outcome)) as results:
            async for result in results:
                await _send_part(send, self._format.write(result))
                if not result.has_run:
                    return

    def _watch(self, limit: asyncio.Timeout) -> AbstractContextManager[None]:
        """End the stream when the viewer is blocked."""
        if self._viewer is None:
            return nullcontext()

        def end() -> None:
            if not limit.expired():
                self._is_blocked = True
                limit.reschedule(asyncio.get_running_loop().time())

        return self._call_when_blocked(self._viewer.id, end)

    def _seconds_left(self) -> float | None:
        if self._viewer is None or self._viewer.valid_until is None:
            return None
        return (self._viewer.valid_until - datetime.now(UTC)).total_seconds()


def _start(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.create_task(coroutine, name=name)


async def _is_any_done(
    first: asyncio.Task[None], second: asyncio.Task[None], seconds: float
) -> bool:
    done, _ = await asyncio.wait(
        (first, second), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
    )
    return bool(done)


async def wait_until_left(receive: Receive) -> None:
    """Return once the client of a request has left. What it still sends is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=END_SECONDS)


async def _send_part(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
