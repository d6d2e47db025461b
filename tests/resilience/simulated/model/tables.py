"""What the model of the storage holds, and how rows and money move in it.

This is a model of `storage/`, in memory: every method of its repositories is one transaction, done
at one instant. That MongoDB keeps these promises is shown elsewhere, against a real one; that the
model makes the same ones is shown by `test_model.py`, which asks both the same things.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeAlias

from domain import rules
from domain.captions import PlannedCaption
from domain.changes import ClusterTime
from domain.conversations import Conversation
from domain.credits import Account, Movement, MovementKind, charge_for, reserved, settled
from domain.errors import DarkroomError
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import ConversationId, ImageId, ParentId, ViewerId
from domain.images import ImageRecord
from domain.outputs import Output, OutputStatus
from domain.parents import Parent
from domain.posts import Post
from domain.turns import PlannedOutput, Turn, as_turn

_COLLECTIONS = ("conversations", "parents", "images", "accounts", "ledger", "receipts")


Planned: TypeAlias = PlannedOutput | PlannedCaption


class WrittenTwice(DarkroomError):
    """A line of the ledger or an image's record was there already: MongoDB would have raised."""


class Observer(Protocol):
    """Called at every commit before anything else can see it."""

    def committed(
        self, viewer_id: ViewerId, before: Parent | None, after: Parent | None
    ) -> None: ...

    def claimed(self, output: Output, before: "Hold | None") -> None:
        """`before` is who held it, unless it was given back."""

    def fell_behind(self) -> None:
        """From here on, what is committed may yet be rolled back."""

    def rolled_back(self) -> None:
        """It has been."""


class Nobody:
    """An observer that does not look."""

    def committed(self, viewer_id: ViewerId, before: Parent | None, after: Parent | None) -> None:
        pass

    def claimed(self, output: Output, before: "Hold | None") -> None:
        pass

    def fell_behind(self) -> None:
        pass

    def rolled_back(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Hold:
    """A claim, and until when it is valid."""

    worker: object
    until: datetime


@dataclass(slots=True)
class Hidden:
    """What a parent's document stores of an output that `Output` does not show."""

    queued_at: datetime
    deadline: timedelta
    lease_until: datetime | None = None
    not_before: datetime | None = None
    deadline_at: datetime | None = None
    claimed_by: object = None

    @property
    def hold(self) -> Hold | None:
        return None if self.lease_until is None else Hold(self.claimed_by, self.lease_until)


@dataclass(slots=True)
class Row:
    parent: Parent
    hidden: dict[int, Hidden]

    def copy(self) -> "Row":
        return Row(self.parent, {slot: replace(hidden) for slot, hidden in self.hidden.items()})

    def state(self, output: Output) -> rules.OutputState:
        hidden = self.hidden[output.slot]
        return rules.OutputState(
            status=output.status,
            queued_at=hidden.queued_at,
            lease_until=hidden.lease_until,
            not_before=hidden.not_before,
            deadline_at=hidden.deadline_at,
            waits=output.waits,
        )


@dataclass(slots=True)
class Tables:
    """All collections, and the database's clock."""

    clock: Callable[[], float]
    observer: Observer = field(default_factory=Nobody)
    conversations: dict[ConversationId, Conversation] = field(default_factory=dict)
    parents: dict[ParentId, Row] = field(default_factory=dict)
    images: dict[ImageId, tuple[ViewerId, ImageRecord]] = field(default_factory=dict)
    accounts: dict[ViewerId, Account] = field(default_factory=dict)
    ledger: dict[tuple[str, MovementKind], tuple[ViewerId, Movement]] = field(default_factory=dict)
    receipts: dict[tuple[ViewerId, str], IdempotencyRecord] = field(default_factory=dict)
    receipts_at: dict[tuple[ViewerId, str], float] = field(default_factory=dict)
    """When each could first be seen."""
    contact_at: float = float("-inf")
    contact_since: float = 0.0

    _seen: "Tables | None" = None

    @property
    def committed(self) -> "Tables":
        """What a majority has, and reads see. A transaction sees what is not so far yet."""
        return self._seen or self

    def fall_behind(self) -> None:
        """Let no majority have what is written from here on, until it catches up."""
        if self._seen is None:
            self._seen = replace(
                self,
                conversations=dict(self.conversations),
                parents={parent_id: row.copy() for parent_id, row in self.parents.items()},
                images=dict(self.images),
                accounts=dict(self.accounts),
                ledger=dict(self.ledger),
                receipts=dict(self.receipts),
            )
            self.observer.fell_behind()

    def catch_up(self) -> None:
        if self._seen is not None:
            for place in self.receipts.keys() - self._seen.receipts.keys():
                self.receipts_at[place] = self.clock()
            self._seen = None

    def roll_back(self) -> None:
        """Another primary takes over, which has what a majority had."""
        if self._seen is not None:
            for name in _COLLECTIONS:
                setattr(self, name, getattr(self._seen, name))
            self._seen = None
            self.observer.rolled_back()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def cluster_time(self) -> ClusterTime:
        return ClusterTime(int(self.clock()), 0)

    def turns_of(self, conversation_id: ConversationId) -> list[Turn]:
        turns = (as_turn(row.parent) for row in self.parents.values())
        return [turn for turn in turns if turn and turn.conversation_id == conversation_id]

    def insert(self, parent: Parent, planned: Sequence[Planned]) -> None:
        slots = (entry.slot for entry in parent.entries)
        hidden = dict(zip(slots, map(self.queued, planned), strict=True))
        self.parents[parent.id] = Row(parent, hidden)

    def queued(self, planned: Planned) -> Hidden:
        return Hidden(self.now(), planned.model.deadline)

    def put(self, row: Row, outputs: Iterable[Output]) -> Parent:
        """Write changed outputs, with all that follows from it. Return the previous ones."""
        moved = {output.slot: output for output in outputs}
        before = row.parent
        after = [
            replace(moved[one.slot], version=one.version + 1) if one.slot in moved else one
            for one in before.entries
        ]
        now = self.now()
        moved_on = replace(
            with_entries(before, after),
            version=before.version + 1,
            updated_at=now,
            completed_at=None if any(output.unfinished for output in after) else now,
        )
        if isinstance(moved_on, Turn):
            status = rules.derive_status(output.status for output in after)
            moved_on = replace(moved_on, status=status)
        row.parent = moved_on
        return before

    def end(self, row: Row, output: Output, **changes: Any) -> Output:
        """An output in its final state."""
        row.hidden[output.slot].lease_until = None
        ended = replace(
            output, progress=None, queue_position=None, credits_reserved=0, completed_at=self.now()
        )
        return replace(ended, **changes)

    def end_with_caption(self, row: Row, ended: Iterable[Output]) -> list[Output]:
        """What has to be cancelled with these, because one of them was the caption of a post."""
        caption = next((one.status for one in ended if one.is_caption), OutputStatus.COMPLETED)
        others = {one.slot for one in ended}
        return [
            output
            for output in row.parent.outputs
            if output.slot not in others
            and rules.is_cancelled_with_caption(row.state(output), caption)
        ]

    def end_early(self, row: Row, output: Output, **changes: Any) -> Output:
        """One that has not delivered all: what has images is completed with those."""
        if not output.images:
            return self.end(row, output, **changes)
        asked = row.parent.options.images_per_model
        return self.end(
            row,
            output,
            status=rules.end_of(changes["status"], has_images=True),
            preview=None,
            credits_charged=charge_for(
                output.credits_reserved, delivered=len(output.images), asked=asked
            ),
        )

    def cancel(self, row: Row, outputs: Iterable[Output]) -> list[Output]:
        return [self.end_early(row, one, status=OutputStatus.CANCELLED) for one in outputs]

    def move(self, viewer_id: ViewerId, movements: Iterable[Movement]) -> None:
        for movement in movements:
            line = movement.cause, movement.kind
            if line in self.ledger:
                raise WrittenTwice(line)
            self.ledger[line] = viewer_id, movement
            account = self.accounts.get(viewer_id) or Account(viewer_id, 0, 0, 0)
            self.accounts[viewer_id] = Account(
                viewer_id,
                account.balance + movement.balance,
                account.reserved + movement.reserved,
                account.active_outputs + movement.active_outputs,
            )

    def bears(self, viewer_id: ViewerId, outputs: Sequence[Output], most_active: int) -> bool:
        account = self.accounts.get(viewer_id)
        needed = sum(output.credits_reserved for output in outputs)
        return (
            account is not None
            and account.available >= needed
            and account.active_outputs <= most_active - len(outputs)
        )

    def reserve(self, viewer_id: ViewerId, outputs: Iterable[Output]) -> None:
        self.move(
            viewer_id, [reserved(one.id, one.attempt, one.credits_reserved) for one in outputs]
        )

    def settle(self, parent: Parent, outputs: Iterable[Output]) -> None:
        """What these outputs of a parent had reserved."""
        asked = parent.options.images_per_model
        self.move(
            parent.owner_id,
            [
                settled(
                    one.id,
                    one.attempt,
                    one.credits_reserved,
                    delivered=len(one.images),
                    asked=asked,
                )
                for one in outputs
            ],
        )

    def is_used(self, viewer_id: ViewerId, key: IdempotencyKey | None) -> bool:
        return key is not None and (viewer_id, key.value) in self.receipts

    def use(
        self,
        viewer_id: ViewerId,
        key: IdempotencyKey | None,
        parent_id: ParentId,
        slot: int | None = None,
    ) -> None:
        if key is not None:
            receipt = IdempotencyRecord(key.mutation, key.fingerprint, parent_id, slot)
            self.receipts[viewer_id, key.value] = receipt
            self.receipts_at[viewer_id, key.value] = self.clock()


def with_entries(parent: Parent, entries: Sequence[Output]) -> Parent:
    """The parent with all that is run for it replaced."""
    if isinstance(parent, Post):
        caption, *outputs = entries
        return replace(parent, caption_output=caption, outputs=tuple(outputs))
    return replace(parent, outputs=tuple(entries))


def an_output(
    parent_id: ParentId,
    slot: int,
    planned: Planned,
    queued_at: datetime,
    *,
    waits: bool = False,
) -> Output:
    """One that waits for its first worker, in its first attempt, or for a caption."""
    return Output(
        parent_id=parent_id,
        slot=slot,
        model_id=planned.model.id,
        requested_model_id=planned.model.id
        if isinstance(planned, PlannedCaption)
        else planned.requested_model_id,
        status=OutputStatus.QUEUED,
        attempt=1,
        fence=0,
        version=1,
        progress=None,
        queue_position=None,
        preview=None,
        images=(),
        references=() if isinstance(planned, PlannedCaption) else planned.references,
        waits=waits,
        text=None,
        usage=None,
        error=None,
        runs=(),
        credits_reserved=planned.credits,
        credits_charged=0,
        queued_at=queued_at,
        started_at=None,
        completed_at=None,
    )
