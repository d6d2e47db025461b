"""Prompts that a viewer has used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from domain.errors import UserErrorCode
from domain.ids import PromptId, parse_prompt_id
from domain.pages import Page, PageRequest
from domain.ports.prompts import PromptRepository
from domain.prompts import Prompt
from domain.refusals import refuse
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class PromptService:
    prompts: PromptRepository

    async def get_many(self, viewer: Viewer, ids: Iterable[PromptId]) -> Mapping[PromptId, Prompt]:
        return await self.prompts.get_many(viewer.id, ids)

    async def page(
        self,
        viewer: Viewer,
        request: PageRequest,
        *,
        favourite: bool | None = None,
        words: Sequence[str] = (),
    ) -> Page[Prompt]:
        """Last used first. Only those with words that begin with each of these."""
        return await self.prompts.page(viewer.id, request, favourite=favourite, words=words)

    async def delete(self, viewer: Viewer, raw_prompt_id: str) -> PromptId:
        """Delete it from the list. Turns that were started with it keep their message."""
        prompt_id = parse_prompt_id(raw_prompt_id)
        if prompt_id is None or not await self.prompts.delete(viewer.id, prompt_id):
            refuse(UserErrorCode.NOT_FOUND, "There is no such prompt.", "promptId")
        return prompt_id
