"""Records what Darkroom asks the database for, and objects to a command that names no shard key.

Collections are sharded by their owner. A command with equality on the owner goes to one shard; any
other goes to all of them, and costs more with each shard that is added. What has to go to all is
named in `TO_ALL_SHARDS`, with the reason.
"""

import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Final

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from storage.mongo.calls import inside

OWNER: Final = "ownerId"
OF_ITS_OWN: Final = "_id"
"""Sharded by `_id`, which is the owner or says nothing."""
SHARD_KEYS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            *("conversations", "turns", "posts", "images", "prompts", "albums", "albumImages"),
            *("modelDays", "shares", "exports", "imports", "trash", "uploads", "ledger"),
            *("webhooks", "deliveries"),
        ),
        OWNER,
    ),
    **dict.fromkeys(("accounts", "viewers", "buckets", "idempotency"), OF_ITS_OWN),
}
"""Collections that are not named here are small, and are not sharded."""
_SWEEP: Final = "a process looks for what waits, of all viewers; an index has only what waits"
_FOUND: Final = "what a sweep has found, of several viewers"
_OPERATOR: Final = "an operator looks at everything"
_BY_RANGE: Final = "the ids begin with the owner's: one shard, where the shards are ranges of them"
TO_ALL_SHARDS: Final[Mapping[str, str]] = {
    "MongoClaimRepository.list_waiting": _SWEEP,
    "MongoClaimRepository.end_overdue": _SWEEP,
    "MongoWaitingTurnRepository.list": _SWEEP,
    "MongoOutboxRepository.take": _SWEEP,
    "MongoJobRepository.claim": _SWEEP,
    "MongoJobRepository.abandon": _SWEEP,
    "MongoErasureRepository.take_over": _SWEEP,
    "MongoUploadRepository.list_expired": _SWEEP,
    "MongoExportRepository.list_expired": _SWEEP,
    "MongoTrashRepository.list_expired": _SWEEP,
    "MongoUploadRepository.forget": _FOUND,
    "MongoExportRepository.forget": _FOUND,
    "MongoTrashRepository.forget": _FOUND,
    "MongoAccountRepository.list_existing": "who of those that are connected has been deleted",
    "MongoBacklogRepository.list_backlogs": "the backlog of all viewers is what is measured",
    "MongoBacklogRepository.list_stuck": _OPERATOR,
    "MongoBacklogRepository.list_deletions": _OPERATOR,
    "MongoViewerRepository.list_blocked": "every process knows all who are blocked; they are few",
    "MongoViewerRepository.list_blocks": "a command; they are few",
    "MongoErasureRepository.delete_small_records": _BY_RANGE,
    "MongoErasureRepository.finish": _BY_RANGE,
    "MongoAccountRepository.prove": _OPERATOR,
    "MongoReferencedObjectRepository.read_shard": "reconciliation asks who refers to an object",
}


class ShardKeys(CommandListener):
    """Listens to all clients, and looks at what repositories send."""

    def __init__(self) -> None:
        self.violations: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        if inside.get() is None:
            return  # a test's own, or the change feed
        collection = event.command.get(event.command_name)
        if not isinstance(collection, str) or collection not in SHARD_KEYS:
            return
        key = SHARD_KEYS[collection]
        for asked in _filters(event.command_name, event.command):
            if not _has_equality(asked, key):
                self._object(collection, event.command_name, asked)

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...

    def _object(self, collection: str, command: str, asked: Any) -> None:
        by = _function(sys._getframe())
        if by is not None and by not in TO_ALL_SHARDS:
            self.violations.append(f"{by}: {command} in {collection}: {_shape(asked)}")


def _filters(name: str, command: Mapping[str, Any]) -> Iterator[Any]:
    if name in ("find", "distinct"):
        yield command.get("filter") or command.get("query") or {}
    elif name in ("count", "findAndModify"):
        yield command.get("query") or {}
    elif name == "update":
        yield from (one["q"] for one in command["updates"])
    elif name == "delete":
        yield from (one["q"] for one in command["deletes"])
    elif name == "aggregate":
        yield from _filters_of_stages(command["pipeline"])


def _filters_of_stages(stages: list[Any]) -> Iterator[Any]:
    first: list[Any] = []
    for stage in stages:
        if "$match" not in stage:
            break
        first.append(stage["$match"])
    yield {"$and": first}
    for stage in stages:
        if "$unionWith" in stage:
            yield from _filters_of_stages(stage["$unionWith"]["pipeline"])


def _has_equality(asked: Mapping[str, Any], key: str) -> bool:
    if any(_has_equality(one, key) for one in asked.get("$and", ())):
        return True
    wanted = asked.get(key)
    if isinstance(wanted, Mapping):
        return "$eq" in wanted or len(wanted.get("$in", (1, 2))) <= 1
    return wanted is not None


def _shape(asked: Any) -> str:
    if isinstance(asked, Mapping):
        return "{" + ", ".join(f"{name}: {_shape(value)}" for name, value in asked.items()) + "}"
    if isinstance(asked, (list, tuple)):
        return "[" + ", ".join(map(_shape, asked[:2])) + "]"
    return "…"


def _function(frame: FrameType | None) -> str | None:
    """The method of a repository that waits for the command. None: it is a test's own."""
    found = None
    while frame is not None:
        code = frame.f_code
        if "Repository." in code.co_qualname and "<" not in code.co_qualname:
            found = code.co_qualname
        frame = frame.f_back
    return found
