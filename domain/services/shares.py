"""Shares: give a link to a conversation, take it back, and find what it leads to."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from domain.conflicts import Conflict
from domain.errors import UserErrorCode
from domain.ids import (
    ShareId,
    ViewerId,
    new_share_id,
    parse_conversation_id,
    parse_share_id,
)
from domain.ports.conversations import ConversationRepository
from domain.ports.shares import ShareRepository
from domain.refusals import Refusals, refuse
from domain.services.conversations import CONVERSATION_NOT_FOUND
from domain.shares import (
    MAX_SHARES,
    MAX_SHARES_OF_CONVERSATION,
    CreateShare,
    Share,
    ShareTokens,
)
from domain.shown import SharedConversation, show
from domain.viewers import Viewer
from domain.waiting import JoinedCalls


@dataclass(frozen=True, slots=True)
class ShareService:
    shares: ShareRepository
    conversations: ConversationRepository
    tokens: ShareTokens
    blocked: Container[ViewerId]
    """Viewers whose shares are shown to nobody."""
    page_url: str
    """The URL of the page that shows a share, up to the token."""
    _views: JoinedCalls[ShareId, Share | None] = field(default_factory=JoinedCalls)
    """Requests that open the same link at the same time are counted by one write."""

    async def create(self, viewer: Viewer, command: CreateShare) -> Share:
        now = datetime.now(UTC)
        refusals = Refusals()
        if command.expires_at is not None and command.expires_at <= now:
            message = "The share would have ended already: choose a time in the future."
            refusals.add(UserErrorCode.EXPIRY_INVALID, message, "expiresAt")
        conversation_id = parse_conversation_id(command.conversation_id)
        ids = [conversation_id] if conversation_id else []
        if not await self.conversations.get_many(viewer.id, ids):
            refusals.add(*CONVERSATION_NOT_FOUND)
        refusals.raise_if_any()

        assert conversation_id is not None
        share = Share(
            id=new_share_id(),
            owner_id=viewer.id,
            conversation_id=conversation_id,
            includes_prompts=command.includes_prompts,
            expires_at=command.expires_at,
            views=0,
            created_at=now,
        )
        conflict = await self.shares.create(
            share, at_most=MAX_SHARES, at_most_of_conversation=MAX_SHARES_OF_CONVERSATION
        )
        if conflict is Conflict.STALE:
            refuse(*CONVERSATION_NOT_FOUND)
        if conflict is not None:
            message = (
                f"A conversation can have {MAX_SHARES_OF_CONVERSATION} shares, and a viewer "
                f"{MAX_SHARES}. Revoke some first."
            )
            refuse(UserErrorCode.TOO_MANY_SHARES, message, "conversationId")
        return share

    async def list(self, viewer: Viewer) -> Sequence[Share]:
        """The shares that have not expired, newest first."""
        return await self.shares.list(viewer.id)

    def url_of(self, share: Share) -> str:
        return self.page_url + self.tokens.make(share)

    async def revoke(self, viewer: Viewer, raw_share_id: str) -> ShareId:
        share_id = parse_share_id(raw_share_id)
        if share_id is None or not await self.shares.delete(viewer.id, share_id):
            refuse(UserErrorCode.NOT_FOUND, "There is no such share.", "shareId")
        return share_id

    async def find(self, token: str) -> Share | None:
        """The share of a token; None if it has ended, or the token is not valid."""
        found = self._read(token)
        return await self.shares.get(*found) if found else None

    async def is_valid(self, share: Share) -> bool:
        """Whether it has neither ended nor been revoked since it was read, and its owner may share
        it.
        """
        if share.owner_id in self.blocked:
            return False
        return await self.shares.get(share.owner_id, share.id) is not None

    async def view(self, token: str) -> SharedConversation | None:
        """What the link leads to, which counts as a view. None where it has ended."""
        found = self._read(token)
        if found is None:
            return None
        owner_id, share_id = found
        share = await self._views.join(share_id, partial(self._view, owner_id, share_id))
        if share is None:
            return None
        conversations = await self.conversations.get_many(owner_id, [share.conversation_id])
        conversation = conversations.get(share.conversation_id)
        return SharedConversation(share, show(conversation, share.scope)) if conversation else None

    async def _view(self, owner_id: ViewerId, share_id: ShareId, times: int) -> Share | None:
        return await self.shares.view(owner_id, share_id, times=times)

    def _read(self, token: str) -> tuple[ViewerId, ShareId] | None:
        found = self.tokens.read(token)
        return None if found is None or found[0] in self.blocked else found
