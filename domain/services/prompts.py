"""Prompts that a viewer has used."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from domain.ids import PromptId
from domain.pages import Page, PageRequest
from domain.ports.repositories import PromptRepository
from domain.prompts import Prompt
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
