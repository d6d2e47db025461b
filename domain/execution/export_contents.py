"""Writes the images of one export: each once, and before what refers to it."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from hashlib import sha256

from domain.errors import ObjectMissing
from domain.execution.archives import ArchiveWriter
from domain.export_format import facts_of_image, file_name, image_part_name
from domain.ids import ImageId, ViewerId
from domain.images import Image
from domain.ports.images import ImageRepository
from domain.ports.objects import ArchiveStore


class ExportContents:
    """What has been written of one export so far."""

    def __init__(
        self,
        images: ImageRepository,
        objects: ArchiveStore,
        *,
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
        """Write those images that are not written yet, and a part with their facts."""
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
        """Write an image, and return the digest of its bytes; None where they have been deleted."""
        try:
            data = await self._objects.get(image.key)
        except ObjectMissing:
            return None
        await self.writer.add(file_name(image), data)
        return (await asyncio.to_thread(sha256, data)).hexdigest()
