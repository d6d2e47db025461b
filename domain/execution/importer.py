"""Takes exports back: checks the whole file, then makes its images, then its conversations.

A job that is begun again finds the images that it has made before, and makes the others. Images
appear in the gallery as they are made; conversations all at once, at the end.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from domain.changes import ClusterTime
from domain.conversations import Conversation
from domain.errors import GenerationErrorCode, Overloaded, PictureRefused
from domain.execution.archives import ArchiveReader
from domain.execution.image_writer import ImageWriter
from domain.execution.jobs import JobRunner
from domain.execution.leases import LeaseLost
from domain.export_format import MANIFEST
from domain.ids import ImageId
from domain.images import Image, ImageRecord
from domain.import_format.facts import NotAnExport
from domain.import_format.reader import (
    MAX_IMAGE_BYTES,
    ImportedConversation,
    ImportedImage,
    ImportReader,
)
from domain.jobs import KEPT, Import, JobClaim
from domain.outputs import GenerationError
from domain.ports.execution import ImportRepository
from domain.ports.imaging import ImageProcessor, UploadProcessor
from domain.ports.objects import ArchiveStore
from domain.ports.repositories import ImageRepository
from domain.retries import RetryPolicy, retry
from domain.turns import Turn

_KNOWN_AT_ONCE: Final = 100
_READ_SECONDS: Final = 30.0
_CHECK_SECONDS: Final = 300.0
_FOUND_BY: Final = 20
"""A conversation is found by the messages of so many turns."""
_SANDBOX_BUSY: Final = RetryPolicy(first_pause_seconds=0.5, longest_pause_seconds=4.0, max_tries=8)
_NOT_AN_EXPORT: Final = GenerationError(GenerationErrorCode.EXPORT_INVALID, retryable=False)


@dataclass(frozen=True, slots=True)
class CheckedExport:
    """What was found in an archive, all of it valid but the pixels of its images."""

    archive: ArchiveReader
    reader: ImportReader
    conversations: Sequence[ImportedConversation]
    images: Mapping[ImageId, ImportedImage]

    def read_turns(
        self, conversation: ImportedConversation, images: Mapping[ImageId, Image]
    ) -> list[Turn]:
        """Blocks. Raise NotAnExport."""
        turns: list[Turn] = []
        for name in conversation.turn_parts:
            part = self.archive.read_json(name)
            begin = turns[-1].turn_index + 1 if turns else 0
            turns += self.reader.read_turns(part, conversation, images, begin=begin)
        return turns

    def read_file(self, image: ImportedImage) -> bytes:
        """Blocks. Raise NotAnExport where its bytes are not those that were exported."""
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
    """Read all but the images, or all. Raise NotAnExport, or TookTooLong."""
    loop = asyncio.get_running_loop()
    checked_until = loop.time() + max_seconds
    is_checked = False

    def read(start: int, count: int) -> bytes:
        # The thread cannot be cancelled: it ends here.
        if not is_checked and loop.time() > checked_until:
            raise TookTooLong
        reading = store.read(job.key, start=start, count=count)
        return asyncio.run_coroutine_threadsafe(reading, loop).result(_READ_SECONDS)

    def check() -> CheckedExport:
        archive = ArchiveReader(read, byte_size)
        reader = ImportReader(job.id, job.owner_id)
        conversations, parts = reader.read_manifest(archive.read_json(MANIFEST))
        images: dict[ImageId, ImportedImage] = {}
        for name in parts:
            for image in reader.read_images(archive.read_json(name)):
                if image.id in images:
                    raise NotAnExport("The export has an image twice.")
                images[image.id] = image
        export = CheckedExport(archive, reader, conversations, images)
        placeholders = {image.id: _placeholder(image) for image in images.values()}
        for conversation in conversations:
            export.read_turns(conversation, placeholders)
        if with_files:
            for image in images.values():
                export.read_file(image)
        return export

    checked = await asyncio.to_thread(check)
    is_checked = True
    return checked


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


class Importer(JobRunner[Import]):
    kind = "import"

    def __init__(
        self,
        imports: ImportRepository,
        images: ImageRepository,
        objects: ArchiveStore,
        *,
        upload_processor: UploadProcessor,
        image_processor: ImageProcessor,
    ) -> None:
        super().__init__(imports)
        self._imports = imports
        self._images = images
        self._objects = objects
        self._upload_processor = upload_processor
        self._image_processor = image_processor
        self._writer = ImageWriter(objects)

    async def run(self, claim: JobClaim[Import]) -> None:
        job = claim.job
        try:
            byte_size = await self._objects.size(job.key)
            export = await check_export(self._objects, job, byte_size=byte_size, with_files=False)
            images = await self._make_images(claim, export)
            conversations = [
                await self._make_turns(claim, export, one, images) for one in export.conversations
            ]
        except (NotAnExport, PictureRefused, TookTooLong):
            await self._imports.fail(claim, _NOT_AN_EXPORT, kept=KEPT)
            return
        if not await self._imports.complete(claim, conversations, kept=KEPT):
            raise LeaseLost
        await self._writer.delete([job.key])

    async def _make_images(
        self, claim: JobClaim[Import], export: CheckedExport
    ) -> Mapping[ImageId, Image]:
        made: dict[ImageId, Image] = {}
        wanted = list(export.images.values())
        for begin in range(0, len(wanted), _KNOWN_AT_ONCE):
            some = wanted[begin : begin + _KNOWN_AT_ONCE]
            known = await self._images.get_many(claim.job.owner_id, [one.id for one in some])
            made.update((image_id, record.image) for image_id, record in known.items())
            for image in some:
                if image.id not in made:
                    made[image.id] = await self._make_image(claim, export, image)
                await self.renew(claim, progress=len(made) / len(wanted))
        return made

    async def _make_image(
        self, claim: JobClaim[Import], export: CheckedExport, image: ImportedImage
    ) -> Image:
        data = await asyncio.to_thread(export.read_file, image)

        async def process() -> bytes:
            return (await self._upload_processor.process_upload(data)).original.data

        # From here on it is a picture, and may be marked again as what it is.
        safe = await retry(process, on=Overloaded, policy=_SANDBOX_BUSY)
        processed = await self._image_processor.process(safe, source=image.source)
        stored = await self._writer.store(
            processed,
            origin=image.origin,
            created_at=image.created_at,
            model_id=image.model_id,
            seed=image.seed,
            output_id=image.output_id,
        )
        stored = replace(stored, id=image.id)
        record = ImageRecord(
            stored,
            prompt=image.prompt,
            made_from=tuple(one for one in image.made_from if one in export.images),
            favourite=image.favourite,
        )
        if not await self._imports.add_images(claim, [record]):
            await self._writer.delete(stored.keys)
            raise LeaseLost
        return stored

    async def _make_turns(
        self,
        claim: JobClaim[Import],
        export: CheckedExport,
        conversation: ImportedConversation,
        images: Mapping[ImageId, Image],
    ) -> tuple[Conversation, str]:
        """Write the turns, and return the conversation with the texts that it is found by."""
        turns = await asyncio.to_thread(export.read_turns, conversation, images)
        for begin in range(0, len(turns), _KNOWN_AT_ONCE):
            if not await self._imports.add_turns(claim, turns[begin : begin + _KNOWN_AT_ONCE]):
                raise LeaseLost
            await self.renew(claim, progress=None)
        source_id = conversation.source_image_id
        made = Conversation(
            id=conversation.id,
            owner_id=claim.job.owner_id,
            title=conversation.title,
            title_was_given=conversation.title_was_given,
            source_image=images.get(source_id) if source_id else None,
            aspect_ratio=conversation.aspect_ratio,
            resolution=conversation.resolution,
            turn_count=len(turns),
            deleted_turns=turns[-1].turn_index + 1 - len(turns) if turns else 0,
            created_at=conversation.created_at,
            updated_at=datetime.now(UTC),
            as_of=ClusterTime(0, 0),
        )
        return made, " ".join(turn.user_message for turn in turns[:_FOUND_BY])
