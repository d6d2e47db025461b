"""Exports in MongoDB and in the object store, where the database's answers are lost."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.errors import Overloaded
from domain.execution.exporter import Exporter
from domain.ids import new_export_id
from domain.jobs import Export
from domain.signing import Signer
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.jobs import MongoExportRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.turns import MongoTurnRepository
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import ANA, LONG, an_account


class LosesAnswers(MongoExportRepository):
    """Completes an export, and the answer does not arrive."""

    async def complete(self, *given, **more):  # type: ignore[no-untyped-def]
        assert await super().complete(*given, **more)
        raise Overloaded


async def test_a_complete_export_has_its_bytes_even_if_the_answer_was_lost(
    database: Database, tmp_path: Path
) -> None:
    await an_account(database)
    exports = LosesAnswers(database)
    objects = FolderObjectStore(tmp_path, public_url="", signer=Signer(b"x" * 32))
    exporter = Exporter(
        exports,
        conversations=MongoConversationRepository(database),
        turns=MongoTurnRepository(database),
        posts=MongoPostRepository(database),
        albums=MongoAlbumRepository(database),
        images=MongoImageRepository(database),
        objects=objects,
    )
    job = Export(
        id=new_export_id(), owner_id=ANA, conversation_id=None, created_at=datetime.now(UTC)
    )
    assert await exports.create(job, at_most=1)
    claim = await exports.claim(lease=LONG)
    assert claim is not None

    with pytest.raises(Overloaded):
        await exporter.run(claim)

    found = (await exports.get_many(ANA, [job.id]))[job.id]
    assert found.key is not None
    assert await objects.size(found.key) == found.byte_size
    await objects.aclose()
