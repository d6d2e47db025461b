"""Imports exports: checks the whole file, makes its images, then what refers to them.

A job that is started again finds the images that it has made before, and makes the others. Images
appear in the gallery as they are made; posts and albums after them; conversations all at once, at
the end.

A failed import takes back what it has made before it ends. It remembers the failure, so that
another process continues with that if this one dies.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from domain.batches import in_batches
from domain.changes import ClusterTime
from domain.conversations import Conversation
from domain.errors import GenerationErrorCode, PictureRefused
from domain.execution.export_check import CheckedExport, TookTooLong, check_export
from domain.execution.image_imports import ImageImports
from domain.execution.image_writer import ImageWriter
from domain.execution.jobs import JobRunner
from domain.execution.leases import LeaseLost
from domain.ids import ImageId
from domain.images import Image
from domain.import_format.facts import NotAnExport
from domain.import_format.reader import ImportedConversation
from domain.jobs import KEPT, Import, JobClaim
from domain.outputs import GenerationError
from domain.ports.jobs import ImportRepository
from domain.ports.objects import ArchiveStore

_BATCH_SIZE: Final = 100
_MAX_SEARCHED_TURNS: Final = 20
"""The number of turns whose messages a search for the conversation compares."""
_NOT_AN_EXPORT: Final = GenerationError(GenerationErrorCode.EXPORT_INVALID, retryable=False)


class Importer(JobRunner[Import]):
    kind = "import"

    def __init__(
        self,
        imports: ImportRepository,
        image_imports: ImageImports,
        objects: ArchiveStore,
    ) -> None:
        super().__init__(imports)
        self._imports = imports
        self._image_imports = image_imports
        self._objects = objects
        self._writer = ImageWriter(objects)

    async def delete_left(self, keys: Sequence[str]) -> None:
        await self._objects.delete(keys)

    async def run(self, claim: JobClaim[Import]) -> None:
        job = claim.job
        if job.failure is not None:
            await self.fail(claim, job.failure)
            return
        try:
            byte_size = await self._objects.get_size(job.key)
            # It may take longer than the lease.
            export = await self.renew_during(
                claim, check_export(self._objects, job, byte_size=byte_size, with_files=False)
            )
            images = await self._image_imports.make(
                claim, export, renew=lambda progress: self.renew(claim, progress=progress)
            )
            conversations = [
                await self._make_turns(claim, export, conversation=conversation, images=images)
                for conversation in export.manifest.conversations
            ]
            await self._make_posts(claim, export, images)
            await self._make_albums(claim, export, images)
        except (NotAnExport, PictureRefused, TookTooLong):
            await self.fail(claim, _NOT_AN_EXPORT)
            return
        if not await self._imports.complete(claim, conversations, kept=KEPT):
            raise LeaseLost
        await self._writer.delete([job.key])

    async def fail(self, claim: JobClaim[Import], error: GenerationError) -> None:
        if not await self._imports.give_up(claim, error):
            raise LeaseLost
        await self._take_back(claim, claim.job.failure or error)

    async def _take_back(self, claim: JobClaim[Import], error: GenerationError) -> None:
        """Delete what was made, except images that the viewer has used since, and end the job."""
        while True:
            taken = await self._imports.take_back(claim, limit=_BATCH_SIZE)
            if taken is None:
                raise LeaseLost
            await self._objects.delete(taken.keys)
            if taken.is_all:
                break
            await self.renew(claim, progress=None)
        await self._imports.fail(claim, error, kept=KEPT)
        await self._writer.delete([claim.job.key])

    async def _make_posts(
        self, claim: JobClaim[Import], export: CheckedExport, images: Mapping[ImageId, Image]
    ) -> None:
        for name in export.manifest.post_parts:
            posts = await asyncio.to_thread(export.read_posts, name, images)
            for batch in in_batches(posts, _BATCH_SIZE):
                if not await self._imports.add_posts(claim, batch):
                    raise LeaseLost
                await self.renew(claim, progress=None)

    async def _make_albums(
        self, claim: JobClaim[Import], export: CheckedExport, images: Mapping[ImageId, Image]
    ) -> None:
        for name in export.manifest.album_parts:
            for imported in await asyncio.to_thread(export.read_albums, name, images):
                if not await self._imports.add_album(claim, imported.album, imported.image_ids):
                    raise LeaseLost
                await self.renew(claim, progress=None)

    async def _make_turns(
        self,
        claim: JobClaim[Import],
        export: CheckedExport,
        *,
        conversation: ImportedConversation,
        images: Mapping[ImageId, Image],
    ) -> tuple[Conversation, str]:
        """Write the turns. Return the conversation, and the text by which searches find it."""
        turns = await asyncio.to_thread(export.read_turns, conversation, images)
        for batch in in_batches(turns, _BATCH_SIZE):
            if not await self._imports.add_turns(claim, batch):
                raise LeaseLost
            await self.renew(claim, progress=None)
        source_id = conversation.source_image_id
        written = Conversation(
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
        return written, " ".join(turn.user_message for turn in turns[:_MAX_SEARCHED_TURNS])
