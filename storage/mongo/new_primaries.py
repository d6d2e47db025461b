"""A new primary shows everything that was acknowledged before its election.

A write is acknowledged once a majority of members has it. A primary that is killed right afterwards
may not have said so to the others: the new one has the write, and reads by majority do not show it
until the first write of its own term has reached a majority. On a busy machine this took up to 0.95
seconds. What must stay true: before the first command after an election, a linearizable read is
answered, which the primary delays until then.

`Pool._get_conn` is private to the driver. So its version is pinned, and
`tests/resilience/test_changing_primary.py` checks that it is called for every command.
"""

from typing import Any, Final

from bson import ObjectId
from pymongo.asynchronous.pool import AsyncConnection

from storage.mongo.driver_connections import DirectPool

_READ_SECONDS: Final = 4
"""Only for commands without a time limit. Others give theirs."""


class CaughtUpPool(DirectPool):
    """Connections to a server that has caught up with what earlier primaries have acknowledged."""

    def __init__(self, *args: Any, database: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._database = database  # Its user may be allowed to read nothing else.
        self._election: ObjectId | None = None

    async def _get_conn(self, checkout_started_time: float, handler: Any = None) -> AsyncConnection:
        connection = await super()._get_conn(checkout_started_time, handler)
        if handler is None:  # The driver's own, which read no documents.
            return connection
        # Set with the primary that the driver has chosen, or later. None where nobody is elected.
        election: ObjectId | None = handler.client.topology_description.max_election_id
        if election != self._election:
            try:
                handler.contribute_socket(connection)
                await self._catch_up(connection)
            except BaseException:
                await self.checkin(connection)
                raise
            self._election = election
        return connection

    async def _catch_up(self, connection: AsyncConnection) -> None:
        await connection.command(
            self._database,
            {
                "find": "accounts",
                "filter": {"_id": None},
                "limit": 1,
                "singleBatch": True,
                "readConcern": {"level": "linearizable"},
                "maxTimeMS": _READ_SECONDS * 1000,
            },
            publish_events=False,  # It is none of the caller's commands.
        )
