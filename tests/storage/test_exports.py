"""Exports in MongoDB and in the object store, where the database's answers are lost."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.errors import Overloaded, StoreUnavailable
from domain.execution.exporter import Exporter
from domain.ids import new_export_id
from domain.images import ARCHIVE, new_key
from domain.jobs import MAX_TRIES, Export, JobClaim
from domain.outputs import OutputStatus
from domain.signing import Signer
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.images import MongoImageRepository
from storage.mongo.jobs import MongoExportRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.turns import MongoTurnRepository
from storage.objects.folder import FolderObjectStore
from tests.storage.builders import ANA, EXPIRED, LONG, an_account
from tests.waits import eventually


class LosesAnswers(MongoExportRepository):
    """Completes an export, and the answer does not arrive."""

    async def complete(self, *given, **more):  # type: ignore[no-untyped-def]
        assert await super().complete(*given, **more)
        raise Overloaded


class IsAway(FolderObjectStore):
    """A store that can delete nothing at the moment."""

    async def delete_parts(self, key: str) -> None:
        raise StoreUnavailable(key)


def an_exporter(
    database: Database, exports: MongoExportRepository, objects: FolderObjectStore
) -> Exporter:
    return Exporter(
        exports,
        conversations=MongoConversationRepository(database),
        turns=MongoTurnRepository(database),
        posts=MongoPostRepository(database),
        albums=MongoAlbumRepository(database),
        images=MongoImageRepository(database),
        objects=objects,
    )


async def a_claim(
    database: Database, exports: MongoExportRepository, *, lease: timedelta
) -> JobClaim[Export]:
    await an_account(database)
    job = Export(
        id=new_export_id(), owner_id=ANA, conversation_id=None, created_at=datetime.now(UTC)
    )
    assert await exports.create(job, at_most=1)
    claim = await exports.claim(lease=lease)
    assert claim is not None
    return claim


async def test_a_complete_export_has_its_bytes_even_if_the_answer_was_lost(
    database: Database, tmp_path: Path
) -> None:
    exports = LosesAnswers(database)
    objects = FolderObjectStore(tmp_path, public_url="", signer=Signer(b"x" * 32))
    claim = await a_claim(database, exports, lease=LONG)

    with pytest.raises(Overloaded):
        await an_exporter(database, exports, objects).run(claim)

    found = (await exports.get_many(ANA, [claim.job.id]))[claim.job.id]
    assert found.key is not None
    assert await objects.get_size(found.key) == found.byte_size
    await objects.aclose()


async def test_an_export_fails_after_its_last_try_even_while_the_store_is_away(
    database: Database, tmp_path: Path
) -> None:
    exports = MongoExportRepository(database)
    objects = IsAway(tmp_path, public_url="", signer=Signer(b"x" * 32))
    claim = await a_claim(database, exports, lease=EXPIRED)
    assert await exports.expect_bytes(claim, [new_key("exports", ARCHIVE)])
    await database.exports.update_one({"_id": claim.job.id}, {"$set": {"fence": MAX_TRIES}})

    async def has_failed() -> bool:
        job = (await exports.get_many(ANA, [claim.job.id]))[claim.job.id]
        return job.status is OutputStatus.FAILED

    async with an_exporter(database, exports, objects).serve():
        await eventually(has_failed, what="the export fails")
    await objects.aclose()
