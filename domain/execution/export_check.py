"""Checks an export in a thread, before anything is imported from it: all but the pixels of its
images.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from domain.execution.archives import ArchiveReader
from domain.export_format import MANIFEST
from domain.ids import ImageId
from domain.images import Image
from domain.import_format.facts import NotAnExport
from domain.import_format.reader import (
    MAX_ALBUM_ENTRIES,
    MAX_ALBUMS,
    MAX_IMAGE_BYTES,
    MAX_POSTS,
    ImportedAlbum,
    ImportedConversation,
    ImportedImage,
    ImportedManifest,
    ImportReader,
)
from domain.jobs import Import
from domain.ports.objects import ArchiveStore
from domain.posts import Post
from domain.turns import Turn

_READ_SECONDS: Final = 30.0
_CHECK_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class CheckedExport:
    """The content of an archive. All of it is valid except, possibly, the pixels of its images."""

    archive: ArchiveReader
    reader: ImportReader
    manifest: ImportedManifest
    images: Mapping[ImageId, ImportedImage]

    def read_turns(
        self, conversation: ImportedConversation, images: Mapping[ImageId, Image]
    ) -> list[Turn]:
        """Read all turns of a conversation. Blocks. Raise NotAnExport."""
        turns: list[Turn] = []
        for name in conversation.turn_parts:
            part = self.archive.read_json(name)
            begin = turns[-1].turn_index + 1 if turns else 0
            turns += self.reader.read_turns(part, conversation, images, begin=begin)
        return turns

    def read_posts(self, name: str, images: Mapping[ImageId, Image]) -> Sequence[Post]:
        """Read the posts of one part. Blocks. Raise NotAnExport."""
        return self.reader.read_posts(self.archive.read_json(name), images)

    def read_albums(self, name: str, images: Mapping[ImageId, Image]) -> Sequence[ImportedAlbum]:
        """Read the albums of one part. Blocks. Raise NotAnExport."""
        return self.reader.read_albums(self.archive.read_json(name), images)

    def read_file(self, image: ImportedImage) -> bytes:
        """Read the bytes of an image. Blocks. Raise NotAnExport where they are not those that were
        exported.
        """
        data = self.archive.read(image.file, max_bytes=MAX_IMAGE_BYTES)
        if sha256(data).hexdigest() != image.sha256:
            raise NotAnExport(f"{image.file} is not what was exported.")
        return data


class TookTooLong(Exception):
    """The file could not be checked in time."""


async def check_export(
    store: ArchiveStore,
    job: Import,
    *,
    byte_size: int,
    with_files: bool,
    max_seconds: float = _CHECK_SECONDS,
) -> CheckedExport:
    """Read everything but the images, or everything. Raise NotAnExport, or TookTooLong."""
    loop = asyncio.get_running_loop()
    checked_until = loop.time() + max_seconds
    is_checked = False

    def demand_time() -> None:
        # A thread cannot be cancelled, so it is stopped here.
        if not is_checked and loop.time() > checked_until:
            raise TookTooLong

    def read(start: int, count: int) -> bytes:
        demand_time()
        reading = store.read(job.key, start=start, count=count)
        return asyncio.run_coroutine_threadsafe(reading, loop).result(_READ_SECONDS)

    def check() -> CheckedExport:
        archive = ArchiveReader(read, byte_size, demand_time=demand_time)
        export = _read_images(archive, ImportReader(job.id, job.owner_id))
        _check_parts(export)
        if with_files:
            for image in export.images.values():
                export.read_file(image)
        return export

    checked = await asyncio.to_thread(check)
    is_checked = True
    return checked


def _read_images(archive: ArchiveReader, reader: ImportReader) -> CheckedExport:
    manifest = reader.read_manifest(archive.read_json(MANIFEST))
    images: dict[ImageId, ImportedImage] = {}
    files = set[str]()
    for name in manifest.image_parts:
        for image in reader.read_images(archive.read_json(name)):
            if image.id in images or image.file in files:
                raise NotAnExport("The export has an image twice.")
            images[image.id] = image
            files.add(image.file)
    return CheckedExport(archive, reader, manifest, images)


def _check_parts(export: CheckedExport) -> None:
    """Read all turns, posts and albums once. Raise NotAnExport."""
    placeholders = {image.id: _placeholder(image) for image in export.images.values()}
    for conversation in export.manifest.conversations:
        export.read_turns(conversation, placeholders)
    posts, albums, entries = set[str](), set[str](), 0
    for name in export.manifest.post_parts:
        for post in export.read_posts(name, placeholders):
            if post.id in posts or len(posts) >= MAX_POSTS:
                raise NotAnExport("The export has a post twice, or too many posts.")
            posts.add(post.id)
    for name in export.manifest.album_parts:
        for album in export.read_albums(name, placeholders):
            entries += len(album.image_ids)
            if album.album.id in albums or len(albums) >= MAX_ALBUMS or entries > MAX_ALBUM_ENTRIES:
                raise NotAnExport("The export has an album twice, or too many albums.")
            albums.add(album.album.id)


def _placeholder(image: ImportedImage) -> Image:
    return Image(
        id=image.id,
        key="",
        width=1,
        height=1,
        content_type="",
        byte_size=0,
        thumbhash=None,
        rendition_widths=(),
        origin=image.origin,
        model_id=None,
        seed=None,
        output_id=None,
        created_at=image.created_at,
    )
