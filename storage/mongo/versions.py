"""The next state of a document that clients see."""

from typing import Final

from storage.mongo.collections import Document

NEXT_STATE: Final[Document] = {
    "version": {"$add": ["$version", 1]},
    "updatedAt": {"$max": ["$$NOW", {"$add": ["$updatedAt", 1]}]},
}
"""Set by every write that a client can see.

Clients keep the state with the latest `updatedAt`, so each is later than the one before, by a
millisecond at least. `$$NOW` alone does not ensure that: it is the time at which a command began,
and of two at the same moment the first may write last.
"""
