"""Runs the operations of one WebSocket side by side, and writes their results as messages."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import Final

import orjson
import structlog
from starlette.websockets import WebSocketDisconnect

from domain.errors import Unauthenticated
from domain.traces import current_trace, set_trace
from edge.errors import ErrorBody, internal_error
from edge.execution import OperationExecutor
from edge.frames import Frames, text_frame
from edge.light_waits import Gate
from edge.outcomes import Result, Streaming, read_results
from edge.traces import merge_trace, request_id
from edge.ws_connection import Close, Connection
from edge.ws_messages import Subscribe
from schema.context import Scope

ANSWERS_AT_ONCE: Final = 4
"""How many answers of a socket may be computed and not yet be written: further operations begin
when the client has read some. Streams compute what they send when there is room for it.
"""
MAX_WAITING_CHARACTERS: Final = 64 * 1024
"""In the messages of operations that have not begun. Nothing more is read from a socket with more
of them, until some have begun.
"""
TOKEN_NEEDED: Final = "A token is needed"
_TOO_MANY: Final[ErrorBody] = {
    "message": "A WebSocket cannot run more operations at the same time.",
    "extensions": {"code": "TOO_MANY_SUBSCRIPTIONS"},
}
_COMPLETE: Final[dict[str, object]] = {"type": "complete"}

log = structlog.get_logger(__name__)


class SocketOperations:
    """The running operations of a socket, by their ids.

    `call_after_each` is called when an operation has ended without being cancelled.
    """

    __slots__ = (
        "_answering",
        "_call_after_each",
        "_connection",
        "_executor",
        "_has_room",
        "_limit",
        "_tasks",
        "_waiting_characters",
    )

    def __init__(
        self,
        connection: Connection,
        executor: OperationExecutor,
        *,
        limit: int,
        call_after_each: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._executor = executor
        self._limit = limit
        self._call_after_each = call_after_each
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._answering = asyncio.Semaphore(ANSWERS_AT_ONCE)
        self._waiting_characters = 0
        self._has_room = Gate()

    def __len__(self) -> int:
        return len(self._tasks)

    async def wait_for_room(self) -> None:
        """Wait while the operations that have not begun take too much memory."""
        while self._waiting_characters > MAX_WAITING_CHARACTERS:
            self._has_room.clear()
            await self._has_room.wait()

    async def start(self, message: Subscribe, scope: Scope) -> None:
        """Run an operation in a task. Close the socket where its id is in use."""
        if message.id in self._tasks:
            reason = f"Subscriber for {message.id} already exists"
            await self._connection.close(Close.ID_IN_USE, reason)
        elif len(self._tasks) >= self._limit:
            await self._connection.send({"id": message.id, "type": "error", "payload": [_TOO_MANY]})
        else:
            self._tasks[message.id] = asyncio.create_task(
                self._run(message, scope), name="operation of a socket"
            )
            await asyncio.sleep(0)  # It begins to wait, so that `wait_for_room` counts it.

    def cancel(self, operation_id: str) -> bool:
        """Cancel an operation, and return whether it was running."""
        task = self._tasks.pop(operation_id, None)
        return task is not None and task.cancel()

    def cancel_all(self) -> list[asyncio.Task[None]]:
        """Cancel every operation. Return the tasks, which are still ending."""
        for task in self._tasks.values():
            task.cancel()
        return [*self._tasks.values()]

    def forget(self) -> None:
        """Forget all operations, and what was to be called: they hold the socket, which holds this,
        and nothing would be freed until the next full garbage collection.
        """
        self._tasks.clear()
        self._call_after_each = _do_nothing

    async def wait(self, seconds: float) -> None:
        """Wait until those that are running have ended, or for this time."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=seconds)

    async def _run(self, message: Subscribe, scope: Scope) -> None:
        if message.names:
            set_trace(merge_trace(current_trace(), message.names))
        operation_id = message.id
        with suppress(WebSocketDisconnect):  # After a disconnect there is no client to write to.
            try:
                answering = self._answer(message, scope)
                # While an answer is written, and a subscription is open, the message would keep
                # its document and its variables in memory.
                del message
                answered = await answering
                if not isinstance(answered, Streaming):
                    last = answered
                else:
                    try:
                        last = await self._write_stream(operation_id, answered, scope)
                    finally:
                        answered.release()
            except _TokenNeeded:
                await self._connection.close(Close.FORBIDDEN, TOKEN_NEEDED)
                return
            except WebSocketDisconnect:
                raise
            except Exception:
                log.exception("operation failed")
                last = {"type": "error", "payload": [internal_error(request_id())]}
            # The client may use the id again as soon as it reads the last message.
            self._tasks.pop(operation_id, None)
            await self._connection.send({"id": operation_id, **last})
            self._call_after_each()

    async def _answer(self, message: Subscribe, scope: Scope) -> Streaming | dict[str, object]:
        """Run an operation. Unless it is a stream, send all its messages but the last, and return
        that one.
        """
        operation_id = message.id
        await self._wait_for_turn(message.characters)
        try:
            if not self._connection.is_open:  # It may have been closed while this waited.
                raise WebSocketDisconnect
            executing = self._executor.execute(
                message.operation, scope=scope, request_id=request_id(), waits=True
            )
            del message
            outcome = await executing
            if isinstance(outcome, Streaming):
                return outcome
            result = outcome.result
            _require_token(result, scope)
            if not result.has_run:
                return {"type": "error", "payload": result.errors}
            sending = self._connection.send_text(_next_message(operation_id, result))
            del outcome, result  # While the client does not read, only the frame is kept.
            await sending
            return _COMPLETE
        finally:
            self._answering.release()

    async def _wait_for_turn(self, characters: int) -> None:
        """Wait until one more answer may be computed: until the client reads what it has been sent,
        and few answers are on their way. `self._answering` has to be released then.
        """
        self._waiting_characters += characters
        try:
            await self._answering.acquire()
            try:
                await self._connection.ready()
            except BaseException:
                self._answering.release()
                raise
        finally:
            self._waiting_characters -= characters
            self._has_room.set()

    async def _write_stream(
        self, operation_id: str, outcome: Streaming, scope: Scope
    ) -> dict[str, object]:
        """Send all messages of a stream but the last, and return that one.

        Raise _TokenNeeded where it runs for nobody, and needs a viewer.
        """
        frames = self._connection.frames
        if outcome.deliver is not None and frames is not None:
            writer = _FrameWriter(operation_id, frames)
            failure = await outcome.deliver(writer)
            await writer.ready()
            _require_token(failure, scope)
            return {"type": "error", "payload": failure.errors} if failure else _COMPLETE
        async with aclosing(read_results(outcome)) as results:
            async for result in results:
                _require_token(result, scope)
                if not result.has_run:
                    return {"type": "error", "payload": result.errors}
                await self._connection.send_text(_next_message(operation_id, result))
        return _COMPLETE


def _do_nothing() -> None:
    pass


class _TokenNeeded(Exception):
    pass


def _require_token(result: Result | None, scope: Scope) -> None:
    if result is not None and scope.viewer is None and Unauthenticated.code in result.codes:
        raise _TokenNeeded


@lru_cache(maxsize=256)  # Clients number their operations: most heads are the same object.
def _head_of_next(operation_id: str) -> bytes:
    """The beginning of a message with a result. The result and a brace complete it."""
    return b'{"id":%b,"type":"next","payload":' % orjson.dumps(operation_id)


def _next_message(operation_id: str, result: Result) -> bytes:
    return b"%b%b}" % (_head_of_next(operation_id), result.encoded)


class _FrameWriter:
    """Receives the results of an operation, and writes them as frames."""

    __slots__ = ("_frames", "_head", "ready")

    def __init__(self, operation_id: str, frames: Frames) -> None:
        self._head = _head_of_next(operation_id)
        self._frames = frames
        self.ready = frames.ready

    def take(self, item: Result) -> bool:
        return self._frames.write(item.framed(self._head, text_frame))
