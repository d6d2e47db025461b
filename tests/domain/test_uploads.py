"""The order in which uploads are processed: uploads of one viewer do not delay those of another."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from domain.errors import NotBegun, PictureRefused, Refused, UserErrorCode
from domain.ids import UploadId, ViewerId, new_upload_id
from domain.services import uploads
from domain.services.uploads import UploadService
from domain.uploads import DeclaredFile, Upload
from domain.viewers import Viewer

ANA, BOB = Viewer(cast(ViewerId, "ana")), Viewer(cast(ViewerId, "bob"))


class Parts:
    """All that the service asks, with pictures that take until they are let go, and are refused."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.running = 0

    async def get(self, *asked: Any, **_: Any) -> Any:
        if len(asked) == 1:
            return b"x"  # the store
        file = DeclaredFile(content_type="image/png", byte_size=1)
        upload_id = cast(UploadId, asked[1])
        return Upload(id=upload_id, key="", file=file, filename=None, created_at=datetime.now(UTC))

    async def refuse(self, *_: Any) -> None: ...

    async def delete(self, *_: Any) -> None: ...

    async def process_upload(self, *_: Any, **__: Any) -> Any:
        self.running += 1
        await self.let_go.wait()
        raise PictureRefused(UserErrorCode.UPLOAD_INVALID, "no picture")


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def service(parts: Parts) -> UploadService:
    every = cast(Any, parts)
    return UploadService(
        every,
        every,
        store=every,
        image_processor=every,
        image_writer=every,
        max_bytes=1,
        max_import_bytes=1,
    )


async def test_uploads_of_one_viewer_do_not_delay_those_of_another(
    service: UploadService, parts: Parts
) -> None:
    anas = [asyncio.create_task(service.complete(ANA, new_upload_id())) for _ in range(20)]
    await asyncio.sleep(0.02)
    of_one = parts.running
    bobs = asyncio.create_task(service.complete(BOB, new_upload_id()))
    await asyncio.sleep(0.02)
    of_both = parts.running
    parts.let_go.set()
    ends = await asyncio.gather(*anas, bobs, return_exceptions=True)

    assert (of_one, of_both) == (2, 3)
    assert all(isinstance(end, Refused) for end in ends)


async def test_an_upload_that_waits_too_long_is_refused(
    service: UploadService, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "_MAX_WAIT_SECONDS", 0.05)

    anas = [asyncio.create_task(service.complete(ANA, new_upload_id())) for _ in range(5)]
    await asyncio.sleep(0.2)
    parts.let_go.set()
    ends = await asyncio.gather(*anas, return_exceptions=True)

    assert [type(end) for end in ends] == [Refused] * 2 + [NotBegun] * 3
    with pytest.raises(Refused):
        await service.complete(ANA, new_upload_id())
