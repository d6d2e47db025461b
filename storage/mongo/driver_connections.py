"""Connections of the driver that start no task for a command.

The driver starts three for each: to write, to read, and to check every half second whether the
connection was given up. What must stay true: a read ends at its time limit, and
soon after the driver has given up the connection, and the connection is closed then.

`AsyncMongoClient(_pool_class=DirectPool)` has such connections. The methods that are
overridden are private to the driver. So its version is pinned, and
`tests/storage/test_driver_connections.py` checks that the driver has what is used here.
"""

import asyncio
import math
import time
from typing import Any, Final

from pymongo import _csot
from pymongo.asynchronous.pool import AsyncConnection, Pool
from pymongo.errors import ProtocolError, _OperationCancelled
from pymongo.message import _UNPACK_REPLY, _OpMsg

_CHECK_SECONDS: Final = 0.5
"""Between two checks whether the driver has given up a connection: the driver's own interval."""


class DirectPool(Pool):
    """The driver's pool, but for how its connections are written to and read."""

    async def connect(self, handler: Any = None) -> AsyncConnection:
        connection = await super().connect(handler)
        if not self.is_sdam:  # Monitors change a limit during a read.
            connection.__class__ = DirectConnection
        return connection


class DirectConnection(AsyncConnection):
    async def send_message(self, message: bytes, max_doc_size: int) -> None:
        """Write a message. The driver would give this a time limit, but it does not wait."""
        if max_doc_size > self.max_bson_size:
            await super().send_message(message, max_doc_size)
            return
        try:
            await self.conn.get_conn.write(message)
        except BaseException as error:
            await self._raise_connection_failure(error)

    async def receive_message(self, request_id: int | None) -> _OpMsg:
        """Read the answer to a message. Raise ConnectionFailure, after which it is closed."""
        watch = _Watch(self)
        try:
            data, code = await self.conn.get_conn.read(request_id, self.max_message_size)
            if code not in _UNPACK_REPLY:
                raise ProtocolError(f"Got opcode {code!r}, and expected {_UNPACK_REPLY.keys()!r}.")
            return _UNPACK_REPLY[code](data)
        except BaseException as error:
            await self._raise_connection_failure(error)
        finally:
            watch.end()


class _Watch:
    """Ends a read whose time is over, or whose connection the driver has given up."""

    __slots__ = ("_connection", "_ends_at", "_timer")

    def __init__(self, connection: DirectConnection) -> None:
        self._connection = connection
        limit = connection.conn.gettimeout
        if _csot.get_timeout():
            self._ends_at = _csot.get_deadline()
        else:
            self._ends_at = time.monotonic() + limit if limit else math.inf
        self._timer = self._check_later()

    def end(self) -> None:
        self._timer.cancel()

    def _check_later(self) -> asyncio.TimerHandle:
        seconds = min(_CHECK_SECONDS, max(0.0, self._ends_at - time.monotonic()))
        return asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        protocol = self._connection.conn.get_conn
        if self._connection.cancel_context.cancelled:
            protocol.close(_OperationCancelled("operation cancelled"))
        elif time.monotonic() >= self._ends_at:
            protocol.close(TimeoutError("timed out"))
        else:
            self._timer = self._check_later()
