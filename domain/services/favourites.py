"""Favourites: images and prompts that a viewer has marked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from domain.errors import UserErrorCode
from domain.ids import parse_image_id, parse_prompt_id
from domain.images import ImageRecord
from domain.ports.images import ImageRepository
from domain.ports.prompts import PromptRepository
from domain.prompts import Prompt
from domain.refusals import Refusals, refuse
from domain.services.images import check_count
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class FavouriteService:
    images: ImageRepository
    prompts: PromptRepository

    async def set(self, viewer: Viewer, raw_id: str, favourite: bool) -> ImageRecord | Prompt:
        """Mark an image or a prompt, or take the mark away. The id tells which of the two it is."""
        marked = await self._set(viewer, [raw_id], favourite, paths=[("id",)])
        if not marked:
            refuse(*_NOT_FOUND, "id")
        return marked[0]

    async def set_many(
        self, viewer: Viewer, raw_ids: Sequence[str], favourite: bool
    ) -> Sequence[ImageRecord | Prompt]:
        """Mark up to 100 images and prompts, or take their marks away: all or none.

        Return each once, in the order of the ids. Raise QueryTooComplex for more.
        """
        check_count(raw_ids, field="ids")
        paths = [("ids", str(index)) for index in range(len(raw_ids))]
        return await self._set(viewer, raw_ids, favourite, paths=paths)

    async def _set(
        self,
        viewer: Viewer,
        raw_ids: Sequence[str],
        favourite: bool,
        *,
        paths: Sequence[tuple[str, ...]],
    ) -> Sequence[ImageRecord | Prompt]:
        image_ids = {image_id for image_id in map(parse_image_id, raw_ids) if image_id}
        prompt_ids = {prompt_id for prompt_id in map(parse_prompt_id, raw_ids) if prompt_id}
        known: set[str] = set()
        if image_ids:
            known.update(await self.images.get_many(viewer.id, image_ids))
        if prompt_ids:
            known.update(await self.prompts.get_many(viewer.id, prompt_ids))
        refusals = Refusals()
        for raw_id, path in zip(raw_ids, paths, strict=True):
            if raw_id not in known:
                refusals.add(*_NOT_FOUND, *path)
        refusals.raise_if_any()

        marked: dict[str, ImageRecord | Prompt] = {}
        if image_ids:
            images = await self.images.set_favourite(viewer.id, image_ids, favourite)
            marked.update(images.items())
        if prompt_ids:
            prompts = await self.prompts.set_favourite(viewer.id, prompt_ids, favourite)
            marked.update(prompts.items())
        # What has been deleted in between is left out.
        return [marked[raw_id] for raw_id in dict.fromkeys(raw_ids) if raw_id in marked]


_NOT_FOUND: Final = (UserErrorCode.NOT_FOUND, "There is no such image or prompt.")
