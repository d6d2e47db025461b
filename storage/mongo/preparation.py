"""Collections and indexes are made by one process, however many start at the same time."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pymongo
import structlog
from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure

from storage.mongo.collections import INDEXES, RETIRED_INDEXES, Document
from storage.mongo.due import begin_if_due

log = structlog.get_logger(__name__)

BUILD_SECONDS: Final = 6 * 3600
"""How long building the index of a large collection may take. Meanwhile other processes wait, and
do not serve.
"""
_LEASE: Final = timedelta(seconds=30)
"""After this time another process builds as well. That does no harm: the database builds an index
once, and the second process waits for it.
"""
_JOBS: Final = "chores"
_JOB: Final = "indexes"
_LOOK_AGAIN_SECONDS: Final = (0.1, 0.4)
_MOST_LOOKS: Final = BUILD_SECONDS
_NAMESPACE_EXISTS: Final = 48

Missing = Mapping[str, Sequence[IndexModel]]
"""The missing indexes, by the names of their collections. A collection that has retired indexes may
need none.
"""


async def prepare(database: AsyncDatabase[Document]) -> None:
    """Make the collections and indexes that are missing, or wait until another process has made
    them.
    """
    for _ in range(_MOST_LOOKS):
        if not await _find_missing(database):
            return
        if await _may_build(database):
            try:
                # Another process may have been faster than the check above.
                await _build(database, await _find_missing(database))
            finally:
                await database[_JOBS].delete_one({"_id": _JOB})
            return
        await asyncio.sleep(random.uniform(*_LOOK_AGAIN_SECONDS))


async def _find_missing(database: AsyncDatabase[Document]) -> Missing:
    existing = set(await database.list_collection_names())
    missing: dict[str, Sequence[IndexModel]] = {}
    for name, indexes in INDEXES.items():
        if name not in existing:
            missing[name] = indexes
            continue
        found = [_described(described) async for described in await database[name].list_indexes()]
        lacking = [index for index in indexes if _described(index.document) not in found]
        retired = RETIRED_INDEXES.get(name, ())
        if lacking or any(described["name"] in retired for described in found):
            missing[name] = lacking
    return missing


def _described(index: Mapping[str, Any]) -> Document:
    return {**index, "key": list(index["key"].items()), "v": None}


async def _may_build(database: AsyncDatabase[Document]) -> bool:
    try:
        return await begin_if_due(database[_JOBS], _JOB, every=_LEASE) is not None
    except DuplicateKeyError:  # Another process has made it at the same time.
        return False


async def _build(database: AsyncDatabase[Document], missing: Missing) -> None:
    with pymongo.timeout(BUILD_SECONDS):
        for name, indexes in missing.items():
            for retired in RETIRED_INDEXES.get(name, ()):
                with suppress(OperationFailure):  # There is none.
                    await database[name].drop_index(retired)
            is_new = await _create(database, name)
            if indexes and not is_new:
                log.info("building indexes", collection=name, count=len(indexes))
            if indexes:
                await database[name].create_indexes(list(indexes))


async def _create(database: AsyncDatabase[Document], name: str) -> bool:
    """Make a collection. Return False where it exists already; another process may have been
    faster.
    """
    try:
        await database.create_collection(name, check_exists=False)
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise
        return False
    return True
