"""One transaction: the collections as it sees them, and the ways in which it ends.

A function whose writes must be part of a transaction takes a `Transaction`, which only
`Database.transact` makes. Its collections add the session to every call, so that none can be
forgotten.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.results import DeleteResult, UpdateResult

from domain.conflicts import Conflict
from domain.credits import Movement
from storage.mongo.collections import Collections, Document

Filter = Mapping[str, Any]
Update = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Abort(Exception):
    """Raised inside a transaction that is not to be committed. It is rolled back."""

    def __init__(self, conflict: Conflict) -> None:
        super().__init__(conflict)
        self.conflict = conflict


class Contended(PyMongoError):
    """Raised by a repository inside a transaction that met another one, but does not depend on what
    that one wrote: for example, two turns that store the same new prompt.

    The driver starts the transaction again, as it does if the server finds the two in conflict.
    """

    def __init__(self) -> None:
        super().__init__("Another transaction came first.", ["TransientTransactionError"])


class SessionCollection:
    """A collection, read and written inside one transaction only."""

    __slots__ = ("_collection", "_session")

    def __init__(self, collection: AsyncCollection[Document], session: AsyncClientSession) -> None:
        self._collection = collection
        self._session = session

    def find(self, query: Filter, projection: Filter | None = None) -> AsyncCursor[Document]:
        return self._collection.find(query, projection, session=self._session)

    async def aggregate(self, stages: Sequence[Document]) -> AsyncCommandCursor[Document]:
        return await self._collection.aggregate(stages, session=self._session)

    async def find_one(self, query: Filter) -> Document | None:
        return await self._collection.find_one(query, session=self._session)

    async def distinct(self, field: str, query: Filter) -> list[Any]:
        return await self._collection.distinct(field, query, session=self._session)

    async def count_documents(self, query: Filter, *, limit: int) -> int:
        return await self._collection.count_documents(query, session=self._session, limit=limit)

    async def find_one_and_update(
        self, query: Filter, update: Update, **options: Any
    ) -> Document | None:
        found: Document | None = await self._collection.find_one_and_update(
            query, update, session=self._session, **options
        )
        return found

    async def find_one_and_delete(self, query: Filter) -> Document | None:
        found: Document | None = await self._collection.find_one_and_delete(
            query, session=self._session
        )
        return found

    async def update_one(
        self, query: Filter, update: Update, *, upsert: bool = False
    ) -> UpdateResult:
        return await self._collection.update_one(
            query, update, upsert=upsert, session=self._session
        )

    async def update_many(self, query: Filter, update: Update) -> UpdateResult:
        return await self._collection.update_many(query, update, session=self._session)

    async def insert_one(self, document: Document) -> None:
        await self._collection.insert_one(document, session=self._session)

    async def insert_many(self, documents: Iterable[Document]) -> None:
        """Insert all of them, if there are any. MongoDB itself refuses to insert none."""
        # The driver takes twice as long to insert one document as if it were one of many.
        match list(documents):
            case []:
                pass
            case [only]:
                await self.insert_one(only)
            case many:
                await self._collection.insert_many(many, session=self._session)

    async def delete_one(self, query: Filter) -> DeleteResult:
        return await self._collection.delete_one(query, session=self._session)

    async def delete_many(self, query: Filter) -> DeleteResult:
        return await self._collection.delete_many(query, session=self._session)


class Transaction(Collections[SessionCollection]):
    """An open transaction. After its end every call raises RuntimeError."""

    __slots__ = ("_database", "_open", "_session", "fills_outbox", "movements")

    def __init__(self, database: AsyncDatabase[Document], session: AsyncClientSession) -> None:
        self.movements: list[Movement] = []
        """The entries of the ledger that it writes."""
        self.fills_outbox = False
        """Whether something is to be delivered to webhooks once it has been committed."""
        self._database = database
        self._session = session
        self._open = True

    def collection(self, name: str) -> SessionCollection:
        if not self._open:
            raise RuntimeError("This transaction has ended.")
        return SessionCollection(self._database[name], self._session)

    def end(self) -> None:
        self._open = False
