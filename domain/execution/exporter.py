"""Makes exports, as a stream into the object store.

A job that is begun again writes under a new key. What an earlier try has written is deleted, or
collected as orphaned.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from domain.conversations import Conversation
from domain.errors import ObjectMissing
from domain.execution.archives import STREAMED_BYTES, ArchiveWriter
from domain.execution.image_writer import ImageWriter
from domain.execution.jobs import JobRunner
from domain.export_format import (
    MANIFEST,
    Facts,
    facts_of_conversation,
    facts_of_image,
    facts_of_turn,
    file_name,
    image_part_name,
    images_of_turn,
    manifest,
    turn_part_name,
)
from domain.ids import ImageId, ViewerId
from domain.images import ARCHIVE, Image, new_key
from domain.jobs import KEPT, Export, JobClaim
from domain.pages import MAX_PAGE_SIZE, PageRequest, Position
from domain.ports.execution import ExportRepository
from domain.ports.objects import ArchiveStore
from domain.ports.repositories import ConversationRepository, ImageRepository, TurnRepository

_TURNS: Final = 50
"""Of one part."""


class Exporter(JobRunner[Export]):
    kind = "export"

    def __init__(
        self,
        exports: ExportRepository,
        conversations: ConversationRepository,
        turns: TurnRepository,
        images: ImageRepository,
        objects: ArchiveStore,
    ) -> None:
        super().__init__(exports)
        self._exports = exports
        self._conversations = conversations
        self._turns = turns
        self._images = images
        self._objects = objects

    async def run(self, claim: JobClaim[Export]) -> None:
        key, writer = new_key("exports", ARCHIVE), ArchiveWriter()
        is_kept = False
        try:
            await self._objects.put_parts(key, self._write_parts(claim, writer))
            is_kept = await self._exports.complete(
                claim, key=key, byte_size=writer.byte_size, kept=KEPT
            )
        finally:
            if not is_kept:
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
        """Write all of it, and yield the progress after each image."""
        contents = _Contents(self._images, self._objects, writer, export.owner_id)
        if export.conversation_id is None:
            async for progress in self._write_gallery(contents):
                yield progress
        conversations: list[Facts] = []
        async for conversation in self._find_conversations(export):
            parts: list[str] = []
            async for progress in self._write_conversation(conversation, contents, parts):
                yield progress if export.conversation_id else None
            conversations.append(facts_of_conversation(conversation, parts))
        facts = manifest(conversations, contents.parts, exported_at=datetime.now(UTC))
        await writer.add_json(MANIFEST, facts)

    async def _write_gallery(self, contents: "_Contents") -> AsyncIterator[None]:
        position: Position | None = None
        while True:
            page = await self._images.page(
                contents.owner_id,
                PageRequest(MAX_PAGE_SIZE, position),
                favourite=None,
                origin=None,
                model_id=None,
            )
            async for _ in contents.write(record.image for record in page.items):
                yield None
            if not page.has_next:
                return
            position = page.positions[-1]

    async def _find_conversations(self, export: Export) -> AsyncIterator[Conversation]:
        if export.conversation_id is not None:
            ids = [export.conversation_id]
            found = await self._conversations.get_many(export.owner_id, ids)
            for conversation in found.values():
                yield conversation
            return
        position: Position | None = None
        while True:
            page = await self._conversations.page(
                export.owner_id,
                PageRequest(MAX_PAGE_SIZE, position),
                source_image_id=None,
                words=(),
            )
            for conversation in page.items:
                yield conversation
            if not page.has_next:
                return
            position = page.positions[-1]

    async def _write_conversation(
        self, conversation: Conversation, contents: "_Contents", parts: list[str]
    ) -> AsyncIterator[float]:
        source = conversation.source_image
        async for _ in contents.write([source] if source else []):
            yield 0.0
        position: Position | None = None
        while True:
            page = await self._turns.page(
                conversation.owner_id, conversation.id, PageRequest(_TURNS, position)
            )
            # One that has never begun has nothing that could be taken back.
            turns = [turn for turn in page.items if turn.outputs]
            # The turns first: from them it is clear which images are needed.
            for turn in turns:
                async for _ in contents.write(images_of_turn(turn)):
                    yield min(1.0, turn.turn_index / max(1, conversation.turn_count))
            if turns:
                parts.append(turn_part_name(conversation, len(parts) + 1))
                facts = {"turns": [facts_of_turn(turn) for turn in turns]}
                await contents.writer.add_json(parts[-1], facts)
            if not page.has_next:
                return
            position = page.positions[-1]


class _Contents:
    """The images of one export, each once."""

    def __init__(
        self,
        images: ImageRepository,
        objects: ArchiveStore,
        writer: ArchiveWriter,
        owner_id: ViewerId,
    ) -> None:
        self.parts: list[str] = []
        self.writer = writer
        self.owner_id = owner_id
        self._images = images
        self._objects = objects
        self._written: set[ImageId] = set()

    async def write(self, images: Iterable[Image]) -> AsyncIterator[None]:
        """Write those that are not there yet, and a part with their facts."""
        new = {image.id: image for image in images if image.id not in self._written}
        if not new:
            return
        records = await self._images.get_many(self.owner_id, new)
        facts = []
        for image in new.values():
            digest = await self._write_file(image)
            facts.append(facts_of_image(image, records.get(image.id), sha256=digest))
            yield
        self._written.update(new)
        self.parts.append(image_part_name(len(self.parts) + 1))
        await self.writer.add_json(self.parts[-1], {"images": facts})

    async def _write_file(self, image: Image) -> str | None:
        """Return the digest of its bytes; None where they are not there any more."""
        try:
            data = await self._objects.get(image.key)
        except ObjectMissing:
            return None
        await self.writer.add(file_name(image), data)
        return (await asyncio.to_thread(sha256, data)).hexdigest()
