"""Conversations as use cases read and write them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from domain.conflicts import Conflict
from domain.conversations import Conversation, DeletedConversation
from domain.idempotency import IdempotencyKey
from domain.ids import ConversationId, ImageId, ViewerId
from domain.images import Image
from domain.pages import Page, PageRequest
from domain.turns import Turn, TurnPlan


class ConversationRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Conversation]: ...

    async def get_with_latest_turn(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> tuple[Conversation, Turn | None] | None:
        """A conversation and its last turn, or None where all have been deleted. A turn that is
        added meanwhile may be found, and not be counted in the conversation.
        """

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        source_image_id: ImageId | None,
        words: Sequence[str],
    ) -> Page[Conversation]:
        """Newest activity first. Only conversations that have, for each of these words, a word that
        begins with it.
        """

    async def start(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        title: str,
        source_image: Image | None,
        plan: TurnPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | Conflict:
        """Write the conversation, its first turn, the use of its prompt, its reserved credits and
        the idempotency record together, or nothing.

        The conflict is KEY_USED, IMAGE_GONE or LIMIT_REACHED.
        """

    async def append_turn(
        self,
        viewer_id: ViewerId,
        conversation: Conversation,
        *,
        plan: TurnPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | Conflict:
        """Write the next turn, the use of its prompt, its reserved credits and the idempotency
        record together, or nothing.

        The conflict is KEY_USED, IMAGE_GONE, LIMIT_REACHED, or STALE: since `conversation` was
        read, it has got another turn or was deleted.
        """

    async def rename(
        self, viewer_id: ViewerId, conversation_id: ConversationId, title: str
    ) -> Conversation | None: ...

    async def delete(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        keep_images: bool = False,
        restorable_for: timedelta | None = None,
    ) -> Sequence[str] | None:
        """Delete it with its turns and shares, and with its outputs' images except favourites and
        those that another conversation uses, or no image at all. Release what unfinished outputs
        had reserved.

        Return the keys of objects that are orphans from then on; None if there was no such
        conversation.
        """

    async def list_restorable(
        self, viewer_id: ViewerId, *, limit: int
    ) -> Sequence[DeletedConversation]:
        """The conversations that `restore` could bring back, the latest deletion first."""

    async def restore(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Conversation | Conflict:
        """Undo a deletion that can be restored; shares and exports are not restored.

        The conflict is STALE where there is none, or its time has passed, and IMAGE_GONE where an
        image that it refers to has been deleted in the meantime.
        """
