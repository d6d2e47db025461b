"""Favourites: images and prompts that a viewer has marked."""

from dataclasses import dataclass

from domain.errors import UserErrorCode
from domain.ids import parse_image_id, parse_prompt_id
from domain.images import ImageRecord
from domain.ports.repositories import ImageRepository, PromptRepository
from domain.prompts import Prompt
from domain.refusals import refuse
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class FavouriteService:
    images: ImageRepository
    prompts: PromptRepository

    async def set(self, viewer: Viewer, raw_id: str, favourite: bool) -> ImageRecord | Prompt:
        """Mark an image or a prompt, or take the mark away. The id tells which of the two it is."""
        found: ImageRecord | Prompt | None = None
        if (image_id := parse_image_id(raw_id)) is not None:
            found = await self.images.set_favourite(viewer.id, image_id, favourite)
        elif (prompt_id := parse_prompt_id(raw_id)) is not None:
            found = await self.prompts.set_favourite(viewer.id, prompt_id, favourite)
        if found is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such image or prompt.", "id")
        return found
