"""What use cases read and write in the database: one repository for each noun.

A method that reads or writes something owned takes the viewer first, and does not find what
another viewer owns. A write that depends on what was read before returns a `Conflict` where that
has changed. All raise `Overloaded` where the database cannot be reached.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Protocol

from domain.albums import Album
from domain.captions import PlannedCaption
from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.conversations import Conversation, DeletedConversation
from domain.credits import Account, CreditsOfDay, Proof
from domain.errors import UserError
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import (
    AlbumId,
    ConversationId,
    ImageId,
    ModelId,
    OutputId,
    ParentId,
    PostId,
    PromptId,
    ShareId,
    TurnId,
    UploadId,
    ViewerId,
)
from domain.images import Image, ImageOrigin, ImageRecord, KeptImages
from domain.model_stats import ModelStats
from domain.outputs import GenerationError, Output
from domain.pages import Page, PageRequest
from domain.parents import Parent
from domain.posts import Post, PostPlan
from domain.prompts import Prompt
from domain.shares import Share
from domain.stored import Wanted
from domain.turns import KeptTurn, PlannedOutput, Turn, TurnPlan, TurnsAsOf
from domain.uploads import Upload, UploadAbilities


class ConversationRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Conversation]: ...

    async def get_with_latest_turn(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> tuple[Conversation, Turn | None] | None:
        """A conversation and its last turn, by the conversation's own count. The turn is None where
        all have been deleted.
        """

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        source_image_id: ImageId | None,
        words: Sequence[str],
    ) -> Page[Conversation]:
        """Newest activity first. Only those with words that begin with each of these."""

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
        """Undo a deletion that can be restored, but for shares and exports.

        The conflict is STALE where there is none, or its time is over, and IMAGE_GONE where an
        image that it refers to has been deleted meanwhile.
        """


class TurnRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[TurnId]
    ) -> Mapping[TurnId, Turn]: ...

    async def latest_of_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]: ...

    async def page(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        request: PageRequest,
        *,
        wanted: Wanted | None = None,
    ) -> Page[Turn]:
        """Oldest first. A position is a turn's index. Attributes that are not wanted need not be
        there.
        """

    async def latest_with_images(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Turn | None: ...

    async def in_progress(self, viewer_id: ViewerId) -> Sequence[Turn]: ...

    async def current(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        changed_since: ClusterTime | None,
        recent: timedelta,
        after_index: int = -1,
        at_least: ClusterTime | None = None,
    ) -> TurnsAsOf:
        """The latest turn, the unfinished ones, and those written after a cluster time; oldest
        first.

        Also those written so recently that a transaction may have committed them out of order. They
        come in pages: where there are more, call again with the last one's index. Nothing that was
        committed by `at_least` is missing, even if a new primary answers.
        """


class PostRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[PostId]
    ) -> Mapping[PostId, Post]: ...

    async def page(self, viewer_id: ViewerId, request: PageRequest) -> Page[Post]:
        """Newest first."""

    async def start(
        self,
        viewer_id: ViewerId,
        post_id: PostId,
        *,
        plan: PostPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> Post | Conflict:
        """Write the post, the use of its prompt, the credits of its caption and its outputs, and
        the idempotency record together, or nothing.

        The conflict is KEY_USED, IMAGE_GONE or LIMIT_REACHED.
        """

    async def rewrite_caption(
        self,
        viewer_id: ViewerId,
        post: Post,
        *,
        caption: PlannedCaption,
        outputs: Mapping[int, PlannedOutput],
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> Post | Conflict:
        """Queue the caption of a post again, as its next attempt, and those of `Post.uncaptioned`
        that are planned, by their slots; reserve their credits and write the idempotency record
        together, or nothing.

        The conflict is KEY_USED, LIMIT_REACHED, or STALE: since `post` was read, one of them has
        changed, or it was deleted.
        """

    async def delete(
        self, viewer_id: ViewerId, post_id: PostId, *, keep_images: bool = False
    ) -> Sequence[str] | None:
        """Delete it with its outputs' images except favourites and those that are used elsewhere,
        or no image at all. Release what it had reserved.

        Return the keys of objects that are orphans from then on; None if there was no such post.
        """


class OutputRepository(Protocol):
    """Outputs, whatever the kind of their parent."""

    async def find_parent(
        self, viewer_id: ViewerId, output_id: OutputId
    ) -> tuple[Parent, ClusterTime] | None:
        """What the output belongs to, and since when it may have changed."""

    async def list_unfinished(self, viewer_id: ViewerId) -> Sequence[Parent]:
        """Some of the viewer's parents with unfinished outputs; none if there are none."""

    async def retry(
        self,
        viewer_id: ViewerId,
        output: Output,
        *,
        planned: PlannedOutput,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Parent, ClusterTime] | Conflict:
        """Queue an ended output again, as its next attempt, reserve its credits and write the
        idempotency record together, or nothing.

        The conflict is KEY_USED, LIMIT_REACHED, or STALE: since `output` was read, it has changed
        or was deleted.
        """

    async def cancel(
        self, viewer_id: ViewerId, parent_id: ParentId, slots: Iterable[int]
    ) -> Parent | None:
        """End those of these outputs that have not ended, and release what they had reserved; None
        if all have ended.
        """


class WaitingTurnRepository(Protocol):
    async def list(self, *, after: TurnId | None, limit: int) -> Sequence[Turn]:
        """Turns of all viewers that wait, by their ids, after this one."""

    async def begin(
        self, viewer_id: ViewerId, turn_id: TurnId, *, plan: TurnPlan, max_active_outputs: int
    ) -> Turn | Conflict:
        """Queue the planned outputs of a turn that waits, and reserve their credits.

        The conflict is STALE if it does not wait any more, IMAGE_GONE or LIMIT_REACHED.
        """

    async def end(
        self, viewer_id: ViewerId, turn_id: TurnId, failure: GenerationError | None
    ) -> Turn | None:
        """End a turn that waits as failed, or as cancelled without a failure; None if it does not
        wait any more.
        """


class BranchRepository(Protocol):
    async def fork(
        self,
        viewer_id: ViewerId,
        turn_id: TurnId,
        new_id: ConversationId,
        *,
        title: str | None,
        max_turns: int,
    ) -> Conversation | Conflict:
        """Write a conversation that begins with copies of another one's turns up to this one, and
        has the same images. What has not ended is cancelled in the copies. None for the title: that
        of the other one.

        The conflict is STALE, if the turn is gone, IMAGE_GONE, or LIMIT_REACHED: there are more
        turns than `max_turns`.
        """

    async def delete_turn(
        self, viewer_id: ViewerId, turn_id: TurnId
    ) -> Sequence[str] | KeptTurn | None:
        """Delete a turn that nothing builds on, with its outputs' images except favourites and
        those that a copy of the turn has too. Release what unfinished outputs had reserved.

        Return the keys of objects that are orphans from then on, or what builds on it, in which
        case nothing was written. None if there is no such turn.
        """


class ChoiceRepository(Protocol):
    async def choose(
        self, viewer_id: ViewerId, turn_id: TurnId, slot: int, *, chosen: bool
    ) -> None:
        """Mark an output that has an image, and no other one of its turn; or take its mark back.

        Nothing is written where that is so already, where there is no such output, or where it has
        no image.
        """


class AlbumRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[AlbumId]
    ) -> Mapping[AlbumId, Album]: ...

    async def page(self, viewer_id: ViewerId, request: PageRequest) -> Page[Album]:
        """Newest first."""

    async def images(
        self, viewer_id: ViewerId, album_id: AlbumId, request: PageRequest
    ) -> Page[ImageRecord]:
        """In the album's order."""

    async def create(
        self, viewer_id: ViewerId, album_id: AlbumId, *, title: str, image_ids: Sequence[ImageId]
    ) -> Album | Conflict:
        """Write an album with these images, in this order. The conflict is IMAGE_GONE."""

    async def update(
        self,
        viewer_id: ViewerId,
        album_id: AlbumId,
        *,
        title: str | None,
        add: Sequence[ImageId],
        remove: Sequence[ImageId],
        max_images: int,
    ) -> Album | Conflict:
        """Change the title, unless it is None, take images out, then put others at the end, except
        those that are in it already.

        The conflict is STALE if there is no such album, IMAGE_GONE, or LIMIT_REACHED: it would have
        more than `max_images`.
        """

    async def delete(self, viewer_id: ViewerId, album_id: AlbumId) -> bool:
        """Delete it, not its images, and return whether there was one."""


class ModelStatsRepository(Protocol):
    async def since(self, viewer_id: ViewerId, day: date) -> Sequence[ModelStats]:
        """The counts of each day from this one on, in UTC, one for each model and day."""


class ImageRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ImageId]
    ) -> Mapping[ImageId, ImageRecord]: ...

    async def page(
        self,
        viewer_id: ViewerId,
        request: PageRequest,
        *,
        favourite: bool | None,
        origin: ImageOrigin | None,
        model_id: ModelId | None,
        words: Sequence[str] = (),
    ) -> Page[ImageRecord]:
        """Newest first. Only those whose prompt has words that begin with each of these."""

    async def set_favourite(
        self, viewer_id: ViewerId, ids: Collection[ImageId], favourite: bool
    ) -> Mapping[ImageId, ImageRecord]:
        """The records after the change, of those that there are."""

    async def delete_unless_used(
        self, viewer_id: ViewerId, ids: Collection[ImageId]
    ) -> KeptImages | None:
        """Delete the records, and take the images out of the outputs that delivered them.

        All or none: where some are kept, they are returned, and nothing was written.
        """

    async def any_refers_to(self, viewer_id: ViewerId, ids: Iterable[ImageId]) -> bool:
        """Whether the viewer has a record of any of these."""


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
        """Last used first. Only those with words that begin with each of these."""

    async def set_favourite(
        self, viewer_id: ViewerId, ids: Collection[PromptId], favourite: bool
    ) -> Mapping[PromptId, Prompt]:
        """The prompts after the change, of those that there are."""

    async def delete(self, viewer_id: ViewerId, prompt_id: PromptId) -> bool:
        """Delete it, and return whether there was one."""


class ShareRepository(Protocol):
    async def create(
        self, share: Share, *, at_most: int, at_most_of_conversation: int
    ) -> Conflict | None:
        """Write it. The conflict is STALE, where there is no such conversation, or LIMIT_REACHED.

        Raise ViewerBeingDeleted.
        """

    async def list(self, viewer_id: ViewerId) -> Sequence[Share]:
        """Those that have not expired, newest first."""

    async def get(self, viewer_id: ViewerId, share_id: ShareId) -> Share | None:
        """None where it has expired."""

    async def view(self, viewer_id: ViewerId, share_id: ShareId, *, times: int) -> Share | None:
        """Count these views. None where it has expired."""

    async def delete(self, viewer_id: ViewerId, share_id: ShareId) -> bool: ...


class UploadRepository(Protocol):
    async def open(self, viewer_id: ViewerId, uploads: Sequence[Upload], *, at_most: int) -> bool:
        """Store new uploads; False if the viewer would have more than `at_most` that are open and
        undecided.
        """

    async def get(self, viewer_id: ViewerId, upload_id: UploadId) -> Upload | None: ...

    async def complete(self, viewer_id: ViewerId, upload_id: UploadId, record: ImageRecord) -> bool:
        """Write the image and that the upload has become it; False if the upload has become one
        before, was refused, or is gone.
        """

    async def refuse(self, viewer_id: ViewerId, upload_id: UploadId, refusal: UserError) -> None:
        """Mark it as refused, unless it has become an image."""

    async def get_abilities(self, store: str) -> UploadAbilities | None:
        """What is remembered of the object store of this name."""

    async def remember_abilities(self, store: str, abilities: UploadAbilities) -> None:
        """For a month: then they are found out again."""


class IdempotencyRepository(Protocol):
    async def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None: ...


class AccountRepository(Protocol):
    async def open(self, viewer_id: ViewerId, *, starting_credits: int) -> Account:
        """The viewer's account; the first call makes it, with these credits.

        Raise ViewerBeingDeleted where it is about to be deleted with the viewer.
        """

    async def find(self, viewer_id: ViewerId) -> Account | None:
        """The viewer's account, if there is one. Raise ViewerBeingDeleted as `open` does."""

    async def list_existing(self, viewer_ids: Collection[ViewerId]) -> Collection[ViewerId]:
        """Those of the viewers who have an account."""

    async def grant(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | None:
        """Add credits; None if the viewer has been granted credits under this key before."""

    async def limit_days(self, viewer_id: ViewerId, credits: int | None) -> bool:
        """Let the viewer spend so much on a day, or all there is. False if there is no account."""

    async def list_days(self, viewer_id: ViewerId, *, limit: int) -> Sequence[CreditsOfDay]:
        """What was moved on each day with movements, the latest day first."""

    async def prove(self) -> Proof:
        """Compare all accounts with the ledger and the outputs, as of one moment."""


class ViewerRepository(Protocol):
    async def is_known(self, viewer_id: ViewerId) -> bool: ...

    async def welcome(self, viewer_id: ViewerId, samples: Sequence[ImageRecord]) -> bool:
        """Store a new viewer with some images; False if the viewer is known."""

    async def block(self, viewer_id: ViewerId, *, reason: str | None) -> None: ...

    async def unblock(self, viewer_id: ViewerId) -> bool:
        """Return whether the viewer was blocked."""

    async def list_blocked(self) -> Collection[ViewerId]: ...
