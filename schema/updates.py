"""What subscriptions follow. `subscriptions/` implements it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from domain.conversations import Conversation
from domain.credits import Account
from domain.ids import ViewerId
from domain.ports.changes import Receiver
from domain.posts import Post
from domain.turns import TurnUpdate
from domain.viewers import Viewer


class TurnUpdates(Protocol):
    def of(
        self, viewer: Viewer, name: str, *, after: str | None = None
    ) -> AsyncGenerator[TurnUpdate, None]: ...

    async def deliver(
        self, viewer: Viewer, name: str, *, after: str | None = None, to: Receiver[TurnUpdate]
    ) -> None: ...


class SharedTurnUpdates(Protocol):
    def of(self, token: str, *, after: str | None = None) -> AsyncGenerator[TurnUpdate, None]: ...

    async def deliver(
        self, token: str, *, after: str | None = None, to: Receiver[TurnUpdate]
    ) -> None: ...


class ConversationUpdates(Protocol):
    def of(self, viewer: Viewer, name: str) -> AsyncGenerator[Conversation, None]: ...


class PostUpdates(Protocol):
    def of(self, viewer: Viewer, name: str) -> AsyncGenerator[Post, None]: ...


class ViewerUpdates(Protocol):
    def of(self, viewer: Viewer) -> AsyncGenerator[Account, None]: ...

    def call_when_deleted(
        self, viewer_id: ViewerId, callback: Callable[[], None]
    ) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """The updates of everything that can be subscribed to."""

    turns: TurnUpdates
    shared_turns: SharedTurnUpdates
    conversations: ConversationUpdates
    posts: PostUpdates
    viewers: ViewerUpdates
