"""Reads by one command do what a cursor does."""

from storage.mongo.collections import Document
from storage.mongo.database import Database
from storage.mongo.direct_reads import read_all

MODELS: list[Document] = [{"_id": f"model {number}"} for number in range(5)]


async def test_an_answer_in_several_parts_is_read_to_its_end(database: Database) -> None:
    models = await _write_models(database)
    command: Document = {"aggregate": models, "pipeline": [{"$sort": {"_id": 1}}]}

    async with database.session() as session:
        assert await read_all(database, command, session) == MODELS
        in_parts = command | {"cursor": {"batchSize": 2}}
        assert await read_all(database, in_parts, session) == MODELS


async def test_an_answer_to_find_in_several_parts_is_read_to_its_end(database: Database) -> None:
    models = await _write_models(database)
    command: Document = {
        "find": models,
        "filter": {"_id": {"$ne": "model 4"}},
        "projection": {"_id": 1},
        "sort": {"_id": -1},
        "limit": 3,
    }

    assert await read_all(database, command) == MODELS[3:0:-1]
    assert await read_all(database, command | {"batchSize": 2}) == MODELS[3:0:-1]


async def test_a_read_whose_connection_has_broken_is_repeated(database: Database) -> None:
    models = await _write_models(database)
    (server,) = database.client._topology._servers.values()
    for connection in server.pool.conns:
        connection.conn.get_conn.transport.abort()

    async with database.session() as session:
        found = await read_all(database, {"aggregate": models, "pipeline": []}, session)

    assert len(found) == len(MODELS)


async def _write_models(database: Database) -> str:
    await database.collection("read_models").insert_many(MODELS)
    return "read_models"
