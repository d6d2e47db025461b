"""What the use cases need from the outside: each port holds only what a service calls.

Whatever reads or writes something owned takes the viewer first; what is somebody else's is not
there. Storage raises `Overloaded` where the database cannot be reached, the object store
`StoreUnavailable`.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from domain.changes import Change, ClusterTime, HistoryLost
from domain.conversations import Conversation
from domain.credits import Account, Proof
from domain.errors import UserError
from domain.generation import Delivery, GenerationRequest
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import (
    ConversationId,
    ImageId,
    ModelId,
    OutputId,
    PromptId,
    TurnId,
    UploadId,
    ViewerId,
)
from domain.images import FOLDERS, Image, ImageOrigin, ImageRecord, ProcessedImage, Rendition
from domain.outputs import GenerationError, Output, Preview, ProviderJob, Run, Usage
from domain.pages import Page, PageRequest
from domain.prompts import Prompt
from domain.turns import Claim, PlannedOutput, Turn, TurnPlan, TurnsAsOf, Waiting
from domain.uploads import DeclaredFile, Upload, UploadMethod, UploadOffer


class ConversationRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Conversation]: ...

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
    ) -> tuple[Conversation, Turn] | None:
        """Write the conversation, its first turn, the use of its prompt, its reservations and the
        key's receipt together.

        None: a picture that they refer to has just been deleted, the key has just been used, or the
        account does not bear it any more, and nothing was written.
        """

    async def append_turn(
        self,
        viewer_id: ViewerId,
        conversation: Conversation,
        plan: TurnPlan,
        *,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | None:
        """Write the next turn, the use of its prompt, its reservations and the key's receipt.

        None: the key has just been used, the account does not bear it any more; or since
        `conversation` was read it has got another turn or was deleted, or a picture that the plan
        refers to was. Nothing was written.
        """

    async def rename(
        self, viewer_id: ViewerId, conversation_id: ConversationId, title: str
    ) -> Conversation | None: ...

    async def delete(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Sequence[str] | None:
        """Delete it with its turns, and its outputs' images that are no favourites and that no
        other conversation uses. What was reserved for outputs at work is released with it.

        Return the keys whose bytes nothing refers to any more; None if there was no such
        conversation.
        """


class TurnRepository(Protocol):
    async def get_many(
        self, viewer_id: ViewerId, ids: Iterable[TurnId]
    ) -> Mapping[TurnId, Turn]: ...

    async def latest_of_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]: ...

    async def page(
        self, viewer_id: ViewerId, conversation_id: ConversationId, request: PageRequest
    ) -> Page[Turn]:
        """Oldest first. A position is a turn's index."""

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
    ) -> TurnsAsOf:
        """The latest turn, those at work, and those written after a moment; oldest first.

        Also those written so recently that a transaction may have committed them out of order. They
        come in pages: where there are more, ask again after the last one's index.
        """

    async def load_changed(self, ids: Iterable[TurnId], *, at_least: ClusterTime) -> Sequence[Turn]:
        """These turns as they stood at a moment or later, whosever they are.

        For listeners that have been let in.
        """

    async def retry(
        self,
        viewer_id: ViewerId,
        turn_id: TurnId,
        output: Output,
        planned: PlannedOutput,
        *,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Turn, ClusterTime] | None:
        """Queue an ended output again, as its next attempt, reserve its credits, and write the
        key's receipt.

        None: the key has just been used, or the account does not bear it any more; or since
        `output` was read it has moved, or its turn is gone. Nothing was written.
        """

    async def cancel(
        self, viewer_id: ViewerId, turn_id: TurnId, slots: Iterable[int]
    ) -> Turn | None:
        """End those of these outputs that have not ended, and release what they held; None if
        there are none such.
        """


class ClaimRepository(Protocol):
    """What a worker does to outputs. A write that returns False came too late: the claim is
    over.
    """

    async def find_waiting(self, output_id: OutputId) -> Waiting | None:
        """The output, if it may run now, and no worker has it.

        One whose worker has let its lease run out is left to `waiting`: whether that worker is dead
        is for those to say who have watched it for a while.
        """

    async def waiting(
        self, model_ids: Iterable[ModelId], *, queued_for: timedelta, expired: bool, limit: int
    ) -> Sequence[Waiting]:
        """Outputs of these models that no worker holds: given back, or queued so long.

        With `expired`, also those whose worker has let its lease run out. In fair order: those
        first whose viewer has the fewest at work, then the longest queued.
        """

    async def claim(self, output_id: OutputId, *, lease: timedelta) -> Claim | None:
        """Take an unfinished output whose lease is over, or return None.

        The claim raises `fence`, and every later write names that fence: a worker that lost its
        lease can write nothing more, even if it does not know yet that it lost it. All times are
        the database's.
        """

    async def renew(self, claim: Claim, *, lease: timedelta) -> bool:
        """Hold the output for longer, unless it has been given back."""

    async def give_back(self, claim: Claim) -> bool:
        """End the lease at once, so that another worker can claim the output."""

    async def postpone(self, claim: Claim, runs: Sequence[Run], *, delay: timedelta) -> bool:
        """Give it back with what became of its runs, and let nobody claim it before this has
        passed.
        """

    async def save_runs(self, claim: Claim, runs: Sequence[Run]) -> bool:
        """Write how far they have come. What is stored and has come further stays."""

    async def is_abandoned(self, claim: Claim) -> bool:
        """Whether nobody wants what this claim's provider is doing: the attempt ended without it,
        or was deleted.
        """

    async def show_progress(
        self,
        claim: Claim,
        *,
        progress: float | None = None,
        queue_position: int | None = None,
        preview: Preview | None = None,
    ) -> bool:
        """Write what is not None."""

    async def land(
        self,
        claim: Claim,
        records: Sequence[ImageRecord],
        *,
        text: str | None,
        usage: Usage | None,
    ) -> bool:
        """End the output with its images, write their records and charge for them, together."""

    async def fail(self, claim: Claim, error: GenerationError) -> bool:
        """End the output without images, and release what it held."""

    async def end_overdue(self, *, queued_for: timedelta, limit: int) -> Sequence[OutputId]:
        """End, as timed out, what no worker holds and is past its deadline or queued so long.

        What it held is released. Return what was ended.
        """


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
    ) -> Page[ImageRecord]:
        """Newest first."""

    async def set_favourite(
        self, viewer_id: ViewerId, image_id: ImageId, favourite: bool
    ) -> ImageRecord | None:
        """The record as it then stands; None if there is none."""

    async def delete_unless_used(self, viewer_id: ViewerId, image_id: ImageId) -> bool:
        """Delete the record, and take the image out of the output that delivered it.

        False: there is none, or a conversation has it as source or reference. Nothing was written.
        """

    async def any_refers_to(self, ids: Iterable[ImageId]) -> bool:
        """Whether a record of any of these exists, whoever owns it."""


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
        self, viewer_id: ViewerId, prompt_id: PromptId, favourite: bool
    ) -> Prompt | None:
        """The prompt as it then stands; None if there is none."""


class UploadRepository(Protocol):
    async def open(self, viewer_id: ViewerId, uploads: Sequence[Upload], *, at_most: int) -> bool:
        """Remember places that have been offered; False if the viewer would have more than
        `at_most` that are open and undecided.
        """

    async def get(self, viewer_id: ViewerId, upload_id: UploadId) -> Upload | None: ...

    async def complete(self, viewer_id: ViewerId, upload_id: UploadId, record: ImageRecord) -> bool:
        """Write the image and that the upload has become it; False if it has become one already,
        was refused, or is gone.
        """

    async def refuse(self, viewer_id: ViewerId, upload_id: UploadId, refusal: UserError) -> None:
        """Remember that nothing will be made of it, unless it has become an image."""

    async def over(self, *, limit: int) -> Mapping[UploadId, str]:
        """Uploads, whosever they are, that nothing more can become of, and their keys, whose bytes
        may still be there.
        """

    async def forget_bytes(self, ids: Iterable[UploadId]) -> None:
        """Their bytes are gone."""


class IdempotencyRepository(Protocol):
    async def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None: ...


class AccountRepository(Protocol):
    async def open(self, viewer_id: ViewerId, *, starting_credits: int) -> Account:
        """The viewer's account; one that is not there yet is made, with this to begin with."""

    async def grant(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | None:
        """Add credits; None if this key has been used for the viewer before."""

    async def prove(self) -> Proof:
        """Hold all accounts against ledger and outputs, as of one moment."""


class ViewerRepository(Protocol):
    async def is_known(self, viewer_id: ViewerId) -> bool: ...

    async def welcome(self, viewer_id: ViewerId, samples: Sequence[ImageRecord]) -> bool:
        """Remember a viewer with some pictures to begin with; False if already known."""


@dataclass(frozen=True, slots=True)
class Link:
    """A signed, absolute link to bytes, and when it ends."""

    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ReferencedKeys:
    """Keys that something in the database refers to."""

    kept: frozenset[str]
    """Their bytes came before what refers to them: they are there."""
    awaited: frozenset[str]
    """Of uploads, whose bytes may be there, come, or never come."""


class ReferencedObjectRepository(Protocol):
    async def of_shard(self, shard: str) -> ReferencedKeys:
        """All of one shard. What is written or deleted meanwhile may be told or not."""

    async def owner(self) -> str:
        """What tells this database from every other one, a copy of it included."""


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """Something that one process is to do now, and no other."""

    times: int
    """How often it has been begun before."""
    now: datetime
    """By the database's clock."""


class PeriodicJobRepository(Protocol):
    async def begin(self, name: str, *, every: timedelta) -> PeriodicJob | None:
        """Take a chore that is due, and let nobody take it again before so long has passed.

        None: it is not due, or another process came first.
        """


MAX_OBJECT_BYTES: Final = 64_000_000


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What a listing of the object store tells of one object."""

    key: str
    byte_size: int
    modified_at: datetime
    """By the store's clock: when it was put."""


class ObjectStore(Protocol):
    """Bytes by key. Keys end like file names, which tells their content type.

    An object is whole or not there. What is not a key is answered with ValueError.
    """

    async def put(self, key: str, data: bytes) -> None:
        """Return once the whole object is kept."""

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        """The whole object. Raise `ObjectMissing`, or `ObjectTooLarge` without reading it all."""

    async def delete(self, keys: Sequence[str]) -> None:
        """Keys that are not there are passed over."""

    def keys(self, shard: str, *, folders: Sequence[str] = FOLDERS) -> AsyncIterator[StoredObject]:
        """All that is there of one shard of `domain.images.SHARDS`, in no particular order. What is
        put or deleted meanwhile may be told or not.
        """

    def link(self, key: str) -> Link:
        """The same link for a good while, so that clients can cache what it gives.

        There is none to an upload, whose bytes nobody has looked at: ValueError.
        """


class UploadStore(Protocol):
    """Takes bytes from clients, under keys whose folder is `uploads`, and reads them back."""

    def offer(
        self, key: str, file: DeclaredFile, *, method: UploadMethod, owner: str = ""
    ) -> UploadOffer:
        """An offer to take this file under a new key, which the store itself keeps to.

        A store that has few places lets none of its owners have all of them.

        It refuses another length or type, and what comes after 15 minutes. Another digest, and
        by PUT a second file, are refused by stores that can. A POST may replace the first file:
        what has been read and checked has to be kept elsewhere.
        """

    async def get(self, key: str, *, max_bytes: int) -> bytes:
        """As of an `ObjectStore`."""

    async def delete(self, keys: Sequence[str]) -> None: ...


class ImageProcessor(Protocol):
    """Decodes pictures, off the event loop. Raises `GenerationFailed` where they are none."""

    async def process(self, data: bytes) -> ProcessedImage: ...

    async def preview(self, data: bytes) -> Rendition:
        """A small WebP of a partial image."""

    async def shrink(self, data: bytes, *, max_bytes: int) -> Rendition:
        """The same picture as a PNG or JPEG, scaled down until it has at most so many bytes."""


class UploadProcessor(Protocol):
    async def process_upload(self, data: bytes, *, content_type: str) -> ProcessedImage:
        """What a client has sent, turned upright, without metadata, encoded anew in its format.

        Raise `PictureRefused` where it is not one picture of this type within the limits.
        """


class RunObserver(Protocol):
    """What a provider tells while it works. What comes too fast is left out.

    A provider that costs something calls `submitting`, asks, and calls `submitted` with the job, in
    this order and before anything else. One that has no jobs to come back to leaves `submitted`
    out. Where repeating a run costs nothing, neither is called.
    """

    async def submitting(self) -> None:
        """From here on the provider may do the work although its answer is lost."""

    async def submitted(self, job: ProviderJob) -> None:
        """The provider has taken the job: whatever happens, another process can go on with it."""

    async def queued(self, position: int) -> None:
        """How many are before it at the provider's; 0 once it is its turn."""

    async def progress(self, fraction: float) -> None:
        """0 to 1."""

    async def preview(self, data: bytes) -> None:
        """A partial image, encoded. Not called where the request wants no previews."""


class Provider(Protocol):
    """Somebody who runs models. One `generate` is one run; cancelling the task ends it."""

    @property
    def name(self) -> str: ...

    @property
    def places(self) -> int:
        """How many runs one process may have here at the same time."""

    async def generate(self, request: GenerationRequest, observer: RunObserver) -> Delivery:
        """Make the pictures, or raise `GenerationFailed`.

        With `request.job`, go on with that job and submit nothing. Raise `NotSubmitted` only where
        it is certain that no job was taken, and `OUTCOME_UNKNOWN` where nobody can tell.
        """

    async def cancel(self, job: ProviderJob) -> None:
        """Tell the provider that nobody wants this job any more, where it can be told."""


class WithdrawnModelRepository(Protocol):
    """Models that their providers say are gone. Each is forgotten after an hour."""

    async def add(self, model_id: ModelId) -> None: ...

    async def ids(self) -> Collection[ModelId]: ...


class JobQueue(Protocol):
    """Carries ids of outputs to workers: a hint, not a promise. The sweeper brings what gets
    lost.
    """

    def enqueue(self, output_ids: Iterable[OutputId]) -> None: ...

    def recall(self, output_ids: Iterable[OutputId]) -> None:
        """Stop those that run here. Other workers find out when they renew their leases."""


class ChangeFeed(Protocol):
    def follow(self) -> AsyncIterator[Change | HistoryLost | None]:
        """Every change from now on, in the database's order, across whatever breaks in between.

        The first item is None and says that the feed is open: what is read after it is not older
        than the changes that follow.
        """
