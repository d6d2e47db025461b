"""Shares: links by which anyone reads one conversation, until they end or are revoked.

A link's token is made from the share's id and its owner's, and authenticated with the server's
secret. So nothing secret is stored, the owner can be shown the link at any time, and a token that
was not made here is refused without a read.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.ids import ConversationId, ShareId, ViewerId, bytes_of_id, share_id_of, viewer_id_from
from domain.signing import Signer

MAX_SHARES_OF_CONVERSATION: Final = 20
MAX_SHARES: Final = 100
"""Of one viewer. Those that have ended or were revoked do not count."""

_PURPOSE: Final = "share"
_OWNER_PURPOSE: Final = "owner of a share"
_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ShareScope:
    """What the readers of a share may read. The same for all shares that show the same."""

    owner_id: ViewerId
    conversation_id: ConversationId
    includes_prompts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    id: ShareId
    owner_id: ViewerId
    conversation_id: ConversationId
    includes_prompts: bool
    expires_at: datetime | None
    """None: it lasts until it is revoked, or its conversation is deleted."""
    views: int
    """How often the conversation was read by it."""
    created_at: datetime

    @property
    def scope(self) -> ShareScope:
        return ShareScope(self.owner_id, self.conversation_id, self.includes_prompts)

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class CreateShare:
    conversation_id: str
    expires_at: datetime | None
    includes_prompts: bool


@dataclass(frozen=True, slots=True)
class ShareTokens:
    """Makes and reads tokens: 64 characters, of which 128 bits cannot be guessed."""

    signer: Signer

    def make(self, share: Share) -> str:
        number = bytes_of_id(share.id)
        # Masked, so that two links do not show that they are of the same viewer.
        owner = _mask(self.signer, number, bytes_of_id(share.owner_id))
        return self.signer.sign(_PURPOSE, number + owner)

    def read(self, token: str) -> tuple[ViewerId, ShareId] | None:
        """The owner and the id; None for what is no token of this deployment."""
        found = self.signer.find_signed(_PURPOSE, token)
        if found is None:
            return None
        payload, signer = found
        number, owner = payload[:_ID_BYTES], payload[_ID_BYTES:]
        return viewer_id_from(_mask(signer, number, owner)), share_id_of(number)


def _mask(signer: Signer, number: bytes, owner: bytes) -> bytes:
    """Its own inverse."""
    mask = signer.tag(_OWNER_PURPOSE, number)
    return bytes(one ^ other for one, other in zip(owner, mask, strict=True))
