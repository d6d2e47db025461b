"""What a field may reach: the viewer, the services, and loaders that make a list cost one query."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import strawberry
from strawberry.dataloader import DataLoader

from domain.conversations import Conversation
from domain.credits import Account
from domain.cursors import PageCursors, TurnCursors
from domain.errors import Unauthenticated
from domain.ids import ConversationId, ImageId, PromptId, TurnId, ViewerId
from domain.images import ImageRecord
from domain.models import ModelRegistry
from domain.ports.objects import Link
from domain.prompts import Prompt
from domain.services.accounts import AccountService
from domain.services.conversations import ConversationService
from domain.services.favourites import FavouriteService
from domain.services.images import ImageService
from domain.services.plans import PlanService
from domain.services.prompts import PromptService
from domain.services.turns import TurnService
from domain.services.uploads import UploadService
from domain.turns import Turn, TurnUpdate
from domain.viewers import Viewer


class TurnUpdates(Protocol):
    def of(
        self, viewer: Viewer, name: str, *, after: str | None = None
    ) -> AsyncGenerator[TurnUpdate, None]: ...


class ConversationUpdates(Protocol):
    def of(self, viewer: Viewer, name: str) -> AsyncGenerator[Conversation, None]: ...


class ViewerUpdates(Protocol):
    def of(self, viewer: Viewer) -> AsyncGenerator[Account, None]: ...


class Links(Protocol):
    def link(self, key: str) -> Link: ...


@dataclass(frozen=True, slots=True)
class Loaders:
    """One per noun. They batch and never remember: a subscription outlives what it has read."""

    conversation: DataLoader[ConversationId, Conversation | None]
    turn: DataLoader[TurnId, Turn | None]
    latest_turn: DataLoader[ConversationId, Turn | None]
    image: DataLoader[ImageId, ImageRecord | None]
    prompt: DataLoader[PromptId, Prompt | None]
    account: DataLoader[ViewerId, Account | None]


@dataclass(frozen=True, slots=True)
class Scope:
    """For whom an operation runs: a viewer or nobody."""

    viewer: Viewer | None = None


NOBODY: Final = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Made for each operation."""

    request_id: str
    scope: Scope
    registry: ModelRegistry
    conversations: ConversationService
    turns: TurnService
    images: ImageService
    uploads: UploadService
    prompts: PromptService
    favourites: FavouriteService
    accounts: AccountService
    plans: PlanService
    turn_updates: TurnUpdates
    conversation_updates: ConversationUpdates
    viewer_updates: ViewerUpdates
    links: Links
    turn_cursors: TurnCursors
    page_cursors: PageCursors
    load: Loaders

    @property
    def viewer(self) -> Viewer:
        """Raise Unauthenticated where the operation runs for nobody."""
        if self.scope.viewer is None:
            raise Unauthenticated
        return self.scope.viewer


Info: TypeAlias = strawberry.Info[Context, None]
