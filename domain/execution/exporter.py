"""Makes exports: one at a time in each process, as a stream into the object store.

A job that its process leaves, for whatever reason, is begun again by any process once its lease has
expired. It writes under a new key each time, and only the holder of the latest claim says where the
ZIP is; what others have written is deleted, or collected as orphaned.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from time import monotonic
from typing import Final

from domain.conversations import Conversation
from domain.errors import GenerationErrorCode, ObjectMissing, Overloaded, StoreUnavailable
from domain.execution.archives import STREAMED_BYTES, ArchiveWriter
from domain.execution.image_writer import ImageWriter
from domain.execution.leases import LeaseLost
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
from domain.exports import KEPT, MAX_TRIES, Export, ExportClaim
from domain.ids import ImageId, ViewerId
from domain.images import ARCHIVE, Image, new_key
from domain.outputs import GenerationError
from domain.pages import MAX_PAGE_SIZE, PageRequest, Position
from domain.ports.execution import ExportRepository
from domain.ports.objects import ArchiveStore
from domain.ports.repositories import ConversationRepository, ImageRepository, TurnRepository

log = logging.getLogger(__name__)

LEASE: Final = timedelta(seconds=60)
"""Longer than the store may take for one object."""
_RENEW_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 4.0
_TURNS: Final = 50
"""Of one part."""
_LOST: Final = GenerationError(GenerationErrorCode.STORAGE_UNAVAILABLE, retryable=True)
_BROKEN: Final = GenerationError(GenerationErrorCode.INTERNAL, retryable=True)


class Exporter:
    def __init__(
        self,
        exports: ExportRepository,
        conversations: ConversationRepository,
        turns: TurnRepository,
        images: ImageRepository,
        objects: ArchiveStore,
        *,
        lease: timedelta = LEASE,
    ) -> None:
        self._exports = exports
        self._conversations = conversations
        self._turns = turns
        self._images = images
        self._objects = objects
        self._lease = lease
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Make what is waiting, until the block ends."""
        task = asyncio.create_task(self._make_forever(), name="exporter")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    def look(self) -> None:
        """Look for exports now: one has just been created."""
        self._wanted.set()

    async def _make_forever(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self._exports.abandon(max_tries=MAX_TRIES, error=_LOST, kept=KEPT)
                claim = await self._exports.claim(lease=self._lease, max_tries=MAX_TRIES)
                if claim is not None:
                    await self._make(claim)
                    continue
            except Overloaded:
                pass  # the next look will tell
            except Exception:
                log.exception("search for exports failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS * random.uniform(0.75, 1.25)):
                    await self._wanted.wait()

    async def _make(self, claim: ExportClaim) -> None:
        key, writer = new_key("exports", ARCHIVE), ArchiveWriter()
        begun_at = monotonic()
        kept = False
        try:
            await self._objects.put_parts(key, self._write_parts(claim, writer))
            kept = await self._exports.complete(
                claim, key=key, byte_size=writer.byte_size, kept=KEPT
            )
        except LeaseLost:
            pass  # it was deleted, or another process makes it
        except (Overloaded, StoreUnavailable) as error:
            # Its lease expires, and it is begun again.
            reason = str(error) or type(error).__name__
            log.warning("export interrupted", extra={"reason": reason})
        except Exception:
            log.exception("export failed")
            await self._exports.fail(claim, _BROKEN, kept=KEPT)
        else:
            seconds = round(monotonic() - begun_at, 3)
            log.info("export made", extra={"seconds": seconds, "byte_size": writer.byte_size})
        finally:
            if not kept:
                await ImageWriter(self._objects).delete([key])

    async def _write_parts(self, claim: ExportClaim, writer: ArchiveWriter) -> AsyncIterator[bytes]:
        """The ZIP, in parts of a few megabytes. Raise LeaseLost."""
        renewed_at = monotonic()
        async for progress in self._write(claim.export, writer):
            if data := writer.take(at_least=STREAMED_BYTES):
                yield data
            if monotonic() - renewed_at > _RENEW_SECONDS:
                renewed_at = monotonic()
                if not await self._exports.renew(claim, progress=progress, lease=self._lease):
                    raise LeaseLost
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
            async for _ in contents.write(record.image for record, _ in page.items):
                yield None
            if not page.has_next:
                return
            position = page.items[-1][1]

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
            for conversation, _ in page.items:
                yield conversation
            if not page.has_next:
                return
            position = page.items[-1][1]

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
            turns = [turn for turn, _ in page.items]
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
            position = page.items[-1][1]


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
