"""The plan of a query in the database, according to its profiler."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from storage.mongo.collections import Document
from storage.mongo.database import Database


@dataclass(slots=True)
class Profile:
    """The commands that were run on a collection, filled in once the block has ended."""

    commands: list[Document] = field(default_factory=list)


@asynccontextmanager
async def profiled(database: Database, collection: str) -> AsyncIterator[Profile]:
    profile = Profile()
    await database.commands["system.profile"].drop()
    await database.commands.command("profile", 2)
    try:
        yield profile
    finally:
        await database.commands.command("profile", 0)
    profiles = database.commands["system.profile"].find(
        {"ns": f"{database.commands.name}.{collection}"}
    )
    profile.commands += await profiles.sort("ts", 1).to_list()
