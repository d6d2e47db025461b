"""Prompts as use cases read and write them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from domain.ids import PromptId, ViewerId
from domain.pages import Page, PageRequest
from domain.prompts import Prompt


class PromptRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[PromptId]
    ) -> Mapping[PromptId, Prompt]: ...

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        favourite: bool | None,
        words: Sequence[str],
    ) -> Page[Prompt]:
        """A page of the viewer's prompts, last used first: those that have, for each of these
        words, a word that begins with it.
        """

    async def set_favourite(
        self, viewer_id: ViewerId, ids: Collection[PromptId], favourite: bool
    ) -> Mapping[PromptId, Prompt]:
        """Mark prompts as favourites, or not. Return those that exist, as they are then."""

    async def delete(self, viewer_id: ViewerId, prompt_id: PromptId) -> bool:
        """Delete it, and return whether there was one."""
