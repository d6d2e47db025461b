"""Images reach the object store whole, or not at all."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.execution.image_writer import ImageWriter
from domain.images import ImageOrigin, ProcessedImage, Rendition
from domain.signing import Signer
from storage.objects.folder import FolderObjectStore
from tests.waits import eventually

THUMBNAILS = 60
"""So many that writing them takes longer than it takes to see the first one."""


def an_image() -> ProcessedImage:
    original, *thumbnails = (
        Rendition(data=b"x", content_type="image/webp", width=width, height=width)
        for width in range(THUMBNAILS + 1, 0, -1)
    )
    return ProcessedImage(original=original, thumbhash="", thumbnails=tuple(reversed(thumbnails)))


def files(folder: Path) -> list[Path]:
    return list(folder.glob("*/*/*"))


async def test_an_image_whose_storing_is_interrupted_leaves_no_files(tmp_path: Path) -> None:
    """A run is cancelled when its viewer deletes everything: no record would lead to its bytes."""
    store = FolderObjectStore(tmp_path, public_url="", signer=Signer(b"x" * 32))
    storing = asyncio.create_task(
        ImageWriter(store).store(
            an_image(), origin=ImageOrigin.UPLOAD, created_at=datetime.now(UTC)
        )
    )
    await eventually(lambda: bool(files(tmp_path)), what="a file is written", every=0)

    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing

    await store.aclose()  # What its threads are writing is finished.
    assert files(tmp_path) == []
