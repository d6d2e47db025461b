"""Loaders: one per noun, made for each request, for one viewer only."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from strawberry.dataloader import DataLoader

from domain.services.accounts import AccountService
from domain.services.conversations import ConversationService
from domain.services.images import ImageService
from domain.services.prompts import PromptService
from domain.services.turns import TurnService
from domain.viewers import Viewer
from schema.context import Loaders

Key = TypeVar("Key")
Value = TypeVar("Value")
GetMany = Callable[[Viewer, Iterable[Key]], Awaitable[Mapping[Key, Value]]]


def make_loaders(
    viewer: Callable[[], Viewer],
    *,
    conversations: ConversationService,
    turns: TurnService,
    images: ImageService,
    prompts: PromptService,
    accounts: AccountService,
) -> Loaders:
    """`viewer` is asked at each load, because a WebSocket learns who it serves after it opens."""

    def loader(get_many: GetMany[Key, Value]) -> DataLoader[Key, Value | None]:
        async def load(keys: list[Key]) -> Sequence[Value | None]:
            found = await get_many(viewer(), keys)
            return [found.get(key) for key in keys]

        return DataLoader(load_fn=load, cache=False)

    return Loaders(
        conversation=loader(conversations.get_many),
        turn=loader(turns.get_many),
        latest_turn=loader(turns.latest_of_many),
        image=loader(images.get_many),
        prompt=loader(prompts.get_many),
        account=loader(accounts.get_many),
    )
