"""A process that is killed during an import that will fail: the next process deletes what was made,
records and bytes.
"""

import io
import json
import random
import zipfile
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from domain.execution.image_imports import GROUP_SIZE
from tests.api.jobs import ARCHIVE, EXPORT_VIEWER, IMPORT, NODE
from tests.api.test_imports import exported
from tests.clients import Data
from tests.operations import SMALL, conversation_with
from tests.resilience.processes import wait_until_answering
from tests.resilience.scale import SEED
from tests.resilience.sites import Site, open_site
from tests.uploads import a_picture, sent, uploaded
from tests.waits import eventually

IMAGES: Final = 2 * GROUP_SIZE - 1
SECONDS: Final = 60.0


async def test_a_failed_import_leaves_nothing_behind(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with open_site(tmp_path) as site:
        (api,) = site.apis
        await wait_until_answering(site.client(api, "ana"))
        ana, bea = site.client(api, "ana"), site.client(api, "bea")
        await wait_until_answering(bea)
        for _ in range(IMAGES):
            await uploaded(ana, a_picture((400, 300)))
        await conversation_with(ana, options=SMALL)
        data = with_an_image_that_is_none(await exported(ana, EXPORT_VIEWER))
        before = files_of(tmp_path)
        upload = await sent(bea, data, ARCHIVE, purpose="IMPORT")
        job = (await bea(IMPORT, id=upload["id"]))["importConversation"]["import"]
        wanted = chance.randint(1, GROUP_SIZE)

        await eventually(lambda: has_made(site, job, wanted), within=SECONDS, what="some are made")
        await api.kill()
        await site.documents.imports.update_one(
            {"_id": job["id"]}, {"$set": {"leaseUntil": datetime.now(UTC)}}
        )
        await api.start()
        bea = site.client(api, "bea")

        async def has_failed() -> bool:
            found: Data = (await bea(NODE, id=job["id"]))["node"]
            return bool(found["status"] == "FAILED")

        await eventually(has_failed, within=SECONDS, what="the import fails")
        assert not await has_made(site, job, 1)
        await eventually(
            lambda: are_gone(tmp_path, before),
            within=SECONDS,
            what="no bytes are left, nor the ZIP",
        )


async def has_made(site: Site, job: Data, count: int) -> bool:
    found = [
        await site.documents[name].count_documents({"importId": job["id"]})
        for name in ("images", "turns", "posts", "albums")
    ]
    return sum(found) >= count


async def are_gone(folder: Path, before: set[str]) -> bool:
    return files_of(folder) == before


def files_of(folder: Path) -> set[str]:
    objects = next(folder.rglob("objects"))
    return {str(one) for one in objects.rglob("*") if one.is_file()}


def with_an_image_that_is_none(data: bytes) -> bytes:
    """The last one, whose digest is right."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(written, "w") as new:
        entries = {name: old.read(name) for name in old.namelist()}
        parts = [name for name in entries if name.startswith("images/part-")]
        part = json.loads(entries[max(parts)])
        last = part["images"][-1]
        entries[last["file"]] = b"no image"
        last["sha256"] = sha256(b"no image").hexdigest()
        entries[max(parts)] = json.dumps(part).encode()
        for name, content in entries.items():
            new.writestr(name, content)
    return written.getvalue()
