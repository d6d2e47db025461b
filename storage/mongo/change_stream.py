"""A change stream, read over one connection of the driver's pool.

The driver opens the stream. What it has brought is asked for here, in the fewest steps: the driver
itself would choose a server, a connection and a session for each read, and write a new message.
`driver_connections.py` says how a connection is read.

What must stay true: each wait has a limit, and a connection with an answer outstanding is closed,
never given back.
"""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, TypeAlias

import bson
from bson import CodecOptions, Int64
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.asynchronous.pool import AsyncConnection
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

Token: TypeAlias = Mapping[str, Any]

SILENCE_SECONDS: Final = 8
"""After this time an unanswered read is given up. A quiet stream answers sooner."""
_CLOSE_SECONDS: Final = 1
_IN_BYTES: Final[CodecOptions[Any]] = CodecOptions(document_class=RawBSONDocument)
"""Documents stay bytes until they are read."""

# A message of MongoDB's protocol: its head; no flags; and one section, a document.
_HEAD: Final = struct.Struct("<iiiiIb")
_MESSAGE: Final = 2013


class ChangeStream:
    """An open change stream. `open_stream` makes it."""

    def __init__(
        self,
        database: AsyncDatabase[RawBSONDocument],
        connection: AsyncConnection,
        *,
        longest_answer_ms: int,
    ) -> None:
        self.token: Token | None = None
        """The position that the stream has reached. None: the one where it began."""
        self.alive = True
        """Whether anything may follow."""
        self._database = database
        self._connection = connection
        self.opened = AsyncExitStack()
        """Gives the connection back when it is closed."""
        self._longest_answer_ms = longest_answer_ms
        self._cursor_id = 0
        self._more = b""
        """The message that asks for more."""
        self._first: Sequence[RawBSONDocument] = ()
        self._is_asking = False

    async def open(self, stages: Sequence[Mapping[str, Any]]) -> Token | None:
        """Open the cursor. Return where it begins, unless it has brought something already. Raise
        what the driver does.
        """
        command = {"aggregate": 1, "pipeline": stages, "cursor": {}}
        reply = await self._connection.command(
            self._database.name,
            command,
            codec_options=_IN_BYTES,
            read_concern=self._database.read_concern,
            client=self._database.client,
        )
        cursor = reply["cursor"]
        self._first, self._cursor_id = cursor["firstBatch"], cursor["id"]
        more = bson.encode(
            {
                "getMore": Int64(self._cursor_id),
                "collection": "$cmd.aggregate",
                "maxTimeMS": self._longest_answer_ms,
                "$db": self._database.name,
            }
        )
        self._more = _HEAD.pack(_HEAD.size + len(more), 0, 0, _MESSAGE, 0, 0) + more
        return None if self._first else cursor["postBatchResumeToken"]

    async def next(self) -> Sequence[RawBSONDocument]:
        """Wait for events, and return them; none where the stream stays quiet. Raise a
        PyMongoError.
        """
        if self._first:
            first, self._first = self._first, ()
            self.alive = bool(self._cursor_id)
            self.token = first[-1]["_id"]
            return first
        try:
            reply = await self._ask()
        except TimeoutError as error:
            raise AutoReconnect("The change stream was silent for too long.") from error
        if reply["ok"] != 1:
            raise OperationFailure(reply.get("errmsg", ""), reply.get("code"), dict(reply))
        cursor = reply["cursor"]
        events: Sequence[RawBSONDocument] = cursor["nextBatch"]
        self._cursor_id = cursor["id"]
        self.alive = bool(self._cursor_id)
        # An end belongs to its event, and the token after a batch may be later than that.
        self.token = events[-1]["_id"] if events else cursor["postBatchResumeToken"]
        return events

    async def close(self) -> None:
        """Close the cursor, and give the connection back; or close that, and its cursor with it,
        where an answer is outstanding. Does not raise.
        """
        connection, opened = self._connection, self.opened.pop_all()
        cursor_id, self._cursor_id = self._cursor_id, 0
        with suppress(PyMongoError, TimeoutError):
            async with opened:
                if self._is_asking:
                    await connection.close_conn(None)
                elif cursor_id:
                    async with asyncio.timeout(_CLOSE_SECONDS):
                        command = {"killCursors": "$cmd.aggregate", "cursors": [cursor_id]}
                        await connection.command(self._database.name, command)

    async def _ask(self) -> RawBSONDocument:
        self._is_asking = True
        async with asyncio.timeout(SILENCE_SECONDS):
            await self._connection.send_message(self._more, 0)
            answer = await self._connection.receive_message(0)
        self._is_asking = False
        return RawBSONDocument(bytes(answer.raw_command_response()))


async def open_stream(
    database: AsyncDatabase[RawBSONDocument],
    stages: Sequence[Mapping[str, Any]],
    *,
    longest_answer_ms: int,
    resume_after: Token | None,
    start_after: Token | None,
) -> ChangeStream:
    """Open a change stream on the whole database. Raise what the driver does."""
    after: dict[str, Any] = {}
    if resume_after is not None:
        after = {"resumeAfter": resume_after}
    elif start_after is not None:
        after = {"startAfter": start_after}
    changes = {"$changeStream": {"fullDocument": "updateLookup", **after}}
    # The driver hears of what fails until the stream is open, and chooses its servers by that.
    async with AsyncExitStack() as stack:
        client = database.client
        checkout = await client._conn_for_reads(ReadPreference.PRIMARY, None, "aggregate")
        connection, _ = await stack.enter_async_context(checkout)
        stream = ChangeStream(database, connection, longest_answer_ms=longest_answer_ms)
        begins_at = await stream.open([changes, *stages])
        stream.opened = stack.pop_all()
    if not after:
        stream.token = begins_at
    return stream
