"""Reads of everything at once, by one command.

A cursor of the driver takes a tenth more processor time for a read whose answer comes at once. What
must stay true: as by a cursor, all documents are read, by majority, not from before what the
session has seen, and once more if the connection breaks.
"""

from typing import Final

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from storage.mongo.calls import is_passing
from storage.mongo.collections import Document
from storage.mongo.database import SHOWN, Database, Session

_BATCH: Final = 1_000


async def read_all(
    database: Database, command: Document, session: Session | None = None
) -> list[Document]:
    """All documents that a `find` or an `aggregate` returns; they are only to be shown."""
    try:
        return await _read(database, command, session)
    except PyMongoError as error:
        if error.timeout or not is_passing(error):
            raise
        return await _read(database, command, session)


async def _read(database: Database, command: Document, session: Session | None) -> list[Document]:
    concern: Document = {"level": "majority"}
    if session is not None and session.operation_time is not None:
        concern["afterClusterTime"] = session.operation_time
    whole = command | {"readConcern": concern}
    if "find" in command:
        whole.setdefault("batchSize", _BATCH)
    else:
        whole.setdefault("cursor", {"batchSize": _BATCH})
    answer = await database.commands.command(whole, session=session, codec_options=SHOWN)
    cursor = answer["cursor"]
    found: list[Document] = cursor["firstBatch"]
    if cursor["id"]:  # One answer has at most 16 MB.
        name = command.get("find") or command["aggregate"]
        unread = {"killCursors": name, "cursors": [cursor["id"]]}
        await database.commands.command(unread, session=session)
        return await _read_by_cursor(
            database.collection(name).with_options(codec_options=SHOWN), command, session
        )
    return found


async def _read_by_cursor(
    collection: AsyncCollection[Document], command: Document, session: Session | None
) -> list[Document]:
    if "find" not in command:
        aggregated = await collection.aggregate(command["pipeline"], session=session)
        return await aggregated.to_list()
    return await collection.find(
        command["filter"],
        command["projection"],
        sort=command["sort"],
        limit=command["limit"],
        session=session,
    ).to_list()
