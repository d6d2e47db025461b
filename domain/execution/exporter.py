"""Makes exports, as a stream into the object store.

A job that is started again writes under a new key, once what an earlier try has written is deleted.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from domain.albums import Album
from domain.conversations import Conversation
from domain.execution.archives import STREAMED_BYTES, ArchiveWriter
from domain.execution.export_contents import ExportContents
from domain.execution.image_writer import ImageWriter
from domain.execution.jobs import JobRunner
from domain.execution.leases import LeaseLost
from domain.export_format import (
    MANIFEST,
    Facts,
    album_part_name,
    facts_of_album,
    facts_of_conversation,
    facts_of_post,
    facts_of_turn,
    images_of,
    manifest,
    post_part_name,
    turn_part_name,
)
from domain.ids import AlbumId, ImageId, ViewerId
from domain.images import ARCHIVE, ImageRecord, new_key
from domain.jobs import KEPT, Export, JobClaim
from domain.pages import MAX_PAGE_SIZE, Page, PageRequest, Position
from domain.ports.albums import AlbumRepository
from domain.ports.conversations import ConversationRepository
from domain.ports.images import ImageRepository
from domain.ports.jobs import ExportRepository
from domain.ports.objects import ArchiveStore
from domain.ports.posts import PostRepository
from domain.ports.turns import TurnRepository
from domain.posts import Post
from domain.turns import Turn

Item = TypeVar("Item")

_PARENTS_PER_PART: Final = 50
"""Turns or posts of one part."""
_ALBUMS_PER_PART: Final = 10
"""Of one part."""


class Exporter(JobRunner[Export]):
    kind = "export"

    def __init__(
        self,
        exports: ExportRepository,
        *,
        conversations: ConversationRepository,
        turns: TurnRepository,
        posts: PostRepository,
        albums: AlbumRepository,
        images: ImageRepository,
        objects: ArchiveStore,
    ) -> None:
        super().__init__(exports)
        self._exports = exports
        self._conversations = conversations
        self._turns = turns
        self._posts = posts
        self._albums = albums
        self._images = images
        self._objects = objects

    async def delete_left(self, keys: Sequence[str]) -> None:
        for key in keys:
            await self._objects.delete_parts(key)

    async def run(self, claim: JobClaim[Export]) -> None:
        key, writer = new_key("exports", ARCHIVE), ArchiveWriter()
        # After an error, the next try or the export's expiry deletes what this one has written: the
        # answer to `complete` may be lost although the export is complete.
        if not await self._exports.expect_bytes(claim, [key]):
            raise LeaseLost
        await self._objects.put_parts(key, self._write_parts(claim, writer))
        byte_size = writer.byte_size
        if not await self._exports.complete(claim, key=key, byte_size=byte_size, kept=KEPT):
            await ImageWriter(self._objects).delete([key])

    async def _write_parts(
        self, claim: JobClaim[Export], writer: ArchiveWriter
    ) -> AsyncIterator[bytes]:
        """The ZIP, in parts of a few megabytes. Raise LeaseLost."""
        async for progress in self._write(claim.job, writer):
            if data := writer.take(at_least=STREAMED_BYTES):
                yield data
            await self.renew(claim, progress=progress)
        writer.end()
        yield writer.take()

    async def _write(self, export: Export, writer: ArchiveWriter) -> AsyncIterator[float | None]:
        """Write everything, and yield the progress after each image."""
        contents = ExportContents(
            self._images, self._objects, writer=writer, owner_id=export.owner_id
        )
        posts: list[str] = []
        albums: list[str] = []
        if export.conversation_id is None:
            async for progress in self._write_gallery(contents):
                yield progress
            async for progress in self._write_posts(contents, posts):
                yield progress
            async for progress in self._write_albums(contents, albums):
                yield progress
        conversations: list[Facts] = []
        async for conversation in self._find_conversations(export):
            parts: list[str] = []
            async for progress in self._write_conversation(conversation, contents, parts):
                yield progress if export.conversation_id else None
            conversations.append(facts_of_conversation(conversation, parts))
        facts = manifest(
            conversations,
            contents.parts,
            post_parts=posts,
            album_parts=albums,
            exported_at=datetime.now(UTC),
        )
        await writer.add_json(MANIFEST, facts)

    async def _write_gallery(self, contents: ExportContents) -> AsyncIterator[None]:
        def read(request: PageRequest) -> Awaitable[Page[ImageRecord]]:
            return self._images.page(
                contents.owner_id, request, favourite=None, origin=None, model_id=None
            )

        async for records in _read_pages(read, size=MAX_PAGE_SIZE):
            async for _ in contents.write(record.image for record in records):
                yield None

    async def _write_posts(self, contents: ExportContents, parts: list[str]) -> AsyncIterator[None]:
        def read(request: PageRequest) -> Awaitable[Page[Post]]:
            return self._posts.page(contents.owner_id, request)

        async for posts in _read_pages(read, size=_PARENTS_PER_PART):
            for post in posts:
                async for _ in contents.write(images_of(post)):
                    yield None
            parts.append(post_part_name(len(parts) + 1))
            facts = {"posts": [facts_of_post(post) for post in posts]}
            await contents.writer.add_json(parts[-1], facts)

    async def _write_albums(
        self, contents: ExportContents, parts: list[str]
    ) -> AsyncIterator[None]:
        """Write albums. Their images are in the gallery, and are written there."""

        def read(request: PageRequest) -> Awaitable[Page[Album]]:
            return self._albums.page(contents.owner_id, request)

        async for albums in _read_pages(read, size=_ALBUMS_PER_PART):
            facts = []
            for album in albums:
                images = await self._find_images_of(contents.owner_id, album.id)
                facts.append(facts_of_album(album, images))
                yield None
            parts.append(album_part_name(len(parts) + 1))
            await contents.writer.add_json(parts[-1], {"albums": facts})

    async def _find_images_of(self, owner_id: ViewerId, album_id: AlbumId) -> list[ImageId]:
        def read(request: PageRequest) -> Awaitable[Page[ImageRecord]]:
            return self._albums.page_images(owner_id, album_id, request)

        return [
            record.image.id
            async for records in _read_pages(read, size=MAX_PAGE_SIZE)
            for record in records
        ]

    async def _find_conversations(self, export: Export) -> AsyncIterator[Conversation]:
        if export.conversation_id is not None:
            ids = [export.conversation_id]
            page = await self._conversations.get_many(export.owner_id, ids)
            for conversation in page.values():
                yield conversation
            return

        def read(request: PageRequest) -> Awaitable[Page[Conversation]]:
            return self._conversations.page(
                export.owner_id, request, source_image_id=None, words=()
            )

        async for conversations in _read_pages(read, size=MAX_PAGE_SIZE):
            for conversation in conversations:
                yield conversation

    async def _write_conversation(
        self, conversation: Conversation, contents: ExportContents, parts: list[str]
    ) -> AsyncIterator[float]:
        def read(request: PageRequest) -> Awaitable[Page[Turn]]:
            return self._turns.page(conversation.owner_id, conversation.id, request)

        source = conversation.source_image
        async for _ in contents.write([source] if source else []):
            yield 0.0
        async for page in _read_pages(read, size=_PARENTS_PER_PART):
            # A turn that has never begun has no outputs to export.
            turns = [turn for turn in page if turn.outputs]
            # Turns first: they say which images are needed.
            for turn in turns:
                async for _ in contents.write(images_of(turn)):
                    yield min(1.0, turn.turn_index / max(1, conversation.turn_count))
            if turns:
                parts.append(turn_part_name(conversation, len(parts) + 1))
                facts = {"turns": [facts_of_turn(turn) for turn in turns]}
                await contents.writer.add_json(parts[-1], facts)


async def _read_pages(
    read: Callable[[PageRequest], Awaitable[Page[Item]]], *, size: int
) -> AsyncIterator[Sequence[Item]]:
    """The items of each page that has any."""
    position: Position | None = None
    while True:
        page = await read(PageRequest(size, position))
        if not page.items:
            return
        yield page.items
        if not page.has_next:
            return
        position = page.positions[-1]
