"""What viewers' requests read and write: conversations, turns, images, accounts, idempotency.

Each class is the model of the repository of that name in `storage/`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from domain.captions import PlannedCaption
from domain.changes import ClusterTime
from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.credits import Account, granted
from domain.errors import Overloaded
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import (
    ConversationId,
    ImageId,
    OutputId,
    ParentId,
    PostId,
    TurnId,
    ViewerId,
    parent_of_output,
    turn_id_of,
)
from domain.images import Image, ImageRecord
from domain.outputs import CAPTION_SLOT, Output
from domain.parents import Parent
from domain.posts import Post, PostPlan, as_post
from domain.turns import PlannedOutput, Turn, TurnPlan, TurnStatus, as_turn
from tests.resilience.simulated.model.tables import Planned, Tables, an_output


class Conversations:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Conversation]:
        found = (self._tables.committed.conversations.get(one) for one in ids)
        cluster_time = self._tables.cluster_time()
        return {
            one.id: replace(one, as_of=cluster_time)
            for one in found
            if one is not None and one.owner_id == viewer_id
        }

    def get_with_latest_turn(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> tuple[Conversation, Turn] | None:
        found = self.get_many(viewer_id, [conversation_id]).get(conversation_id)
        if found is None:
            return None
        turn_id = turn_id_of(conversation_id, found.turn_count - 1)
        turn = self._tables.committed.parents[turn_id].parent
        assert isinstance(turn, Turn)
        return found, turn

    def start(
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
        if self._tables.is_used(viewer_id, key):
            return Conflict.KEY_USED
        now = self._tables.now()
        conversation = Conversation(
            id=conversation_id,
            owner_id=viewer_id,
            title=title,
            source_image=source_image,
            aspect_ratio=plan.aspect_ratio,
            resolution=plan.resolution,
            turn_count=0,
            created_at=now,
            updated_at=now,
            as_of=self._tables.cluster_time(),
        )
        sources = [source_image] if source_image else []
        return self._write(conversation, plan, sources, max_active_outputs, key)

    def append_turn(
        self,
        viewer_id: ViewerId,
        conversation: Conversation,
        *,
        plan: TurnPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | Conflict:
        if self._tables.is_used(viewer_id, key):
            return Conflict.KEY_USED
        found = self._tables.conversations.get(conversation.id)
        if found is None or (found.owner_id, found.turn_count) != (
            viewer_id,
            conversation.turn_count,
        ):
            return Conflict.STALE
        return self._write(found, plan, [], max_active_outputs, key)

    def _write(
        self,
        conversation: Conversation,
        plan: TurnPlan,
        sources: Sequence[Image],
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Conversation, Turn] | Conflict:
        tables, viewer_id = self._tables, conversation.owner_id
        turn = self._new_turn(conversation, plan)
        images = [*sources, *(reference.image for reference in plan.references)]
        owners = [tables.images[one.id][0] for one in images if one.id in tables.images]
        if owners != [viewer_id] * len(images):
            return Conflict.IMAGE_GONE
        if not tables.bears(viewer_id, turn.outputs, max_active_outputs):
            return Conflict.LIMIT_REACHED
        written = replace(
            conversation,
            turn_count=conversation.turn_count + 1,
            updated_at=tables.now(),
            as_of=tables.cluster_time(),
        )
        tables.conversations[conversation.id] = written
        tables.insert(turn, plan.outputs)
        tables.use(viewer_id, key, turn.id)
        tables.reserve(viewer_id, turn.outputs)
        tables.observer.committed(viewer_id, None, turn)
        return written, turn

    def _new_turn(self, conversation: Conversation, plan: TurnPlan) -> Turn:
        turn_id = turn_id_of(conversation.id, conversation.turn_count)
        now = self._tables.now()
        return Turn(
            id=turn_id,
            owner_id=conversation.owner_id,
            turn_index=conversation.turn_count,
            user_message=plan.user_message,
            selected_model_ids=tuple(planned.requested_model_id for planned in plan.outputs),
            references=plan.references,
            previous_were_named=plan.previous_were_named,
            aspect_ratio=plan.aspect_ratio,
            resolution=plan.resolution,
            options=plan.options,
            status=TurnStatus.PENDING,
            outputs=tuple(
                an_output(turn_id, slot, planned, now)
                for slot, planned in enumerate(plan.outputs, start=1)
            ),
            version=1,
            created_at=now,
            updated_at=now,
            completed_at=None,
        )

    def delete(
        self,
        viewer_id: ViewerId,
        conversation_id: ConversationId,
        *,
        restorable_for: timedelta | None = None,
    ) -> Sequence[str] | None:
        assert restorable_for is None, "The model has no trash."
        tables = self._tables
        found = tables.conversations.get(conversation_id)
        if found is None or found.owner_id != viewer_id:
            return None
        del tables.conversations[conversation_id]
        return delete_parents(tables, viewer_id, tables.turns_of(conversation_id), self._used)

    def _used(self, viewer_id: ViewerId) -> set[ImageId]:
        return used_images(self._tables, viewer_id)


class Turns:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get_many(self, viewer_id: ViewerId, ids: Iterable[TurnId]) -> Mapping[TurnId, Turn]:
        rows = (self._tables.committed.parents.get(one) for one in ids)
        turns = (as_turn(row.parent) for row in rows if row)
        return {turn.id: turn for turn in turns if turn and turn.owner_id == viewer_id}

    def find_latest_of_many(
        self, viewer_id: ViewerId, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]:
        return {
            conversation_id: found[-1]
            for conversation_id in ids
            if (found := self._own(viewer_id, conversation_id))
        }

    def find_latest_with_images(
        self, viewer_id: ViewerId, conversation_id: ConversationId
    ) -> Turn | None:
        turns = self._own(viewer_id, conversation_id)
        return next((turn for turn in reversed(turns) if turn.images), None)

    def _own(self, viewer_id: ViewerId, conversation_id: ConversationId) -> list[Turn]:
        turns = self._tables.committed.turns_of(conversation_id)
        return [turn for turn in turns if turn.owner_id == viewer_id]


class Outputs:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def find_parent(
        self, viewer_id: ViewerId, output_id: OutputId
    ) -> tuple[Parent, ClusterTime] | None:
        parent_id, _ = parent_of_output(output_id)
        row = self._tables.committed.parents.get(parent_id)
        if row is None or row.parent.owner_id != viewer_id:
            return None
        return row.parent, self._tables.cluster_time()

    def retry(
        self,
        viewer_id: ViewerId,
        output: Output,
        *,
        planned: PlannedOutput,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> tuple[Parent, ClusterTime] | Conflict:
        tables, parent_id = self._tables, output.parent_id
        if tables.is_used(viewer_id, key):
            return Conflict.KEY_USED
        row = tables.parents.get(parent_id)
        found = row.parent.output(output.slot) if row else None
        if (
            row is None
            or row.parent.owner_id != viewer_id
            or found is None
            or (found.attempt, found.status) != (output.attempt, output.status)
        ):
            return Conflict.STALE
        again = _again(found, planned, row.parent, tables.now())
        post = as_post(row.parent)
        if post is not None and post.lacks_caption:
            return Conflict.STALE
        if not tables.bears(viewer_id, [again], max_active_outputs):
            return Conflict.LIMIT_REACHED
        row.hidden[output.slot] = tables.queued(planned)
        before = tables.put(row, [again])
        tables.use(viewer_id, key, parent_id, output.slot)
        tables.reserve(viewer_id, [again])
        tables.observer.committed(viewer_id, before, row.parent)
        return row.parent, tables.cluster_time()

    def list_unfinished(self, viewer_id: ViewerId) -> Sequence[Parent]:
        parents = (row.parent for row in self._tables.committed.parents.values())
        return [one for one in parents if one.owner_id == viewer_id and one.in_progress]

    def cancel(
        self, viewer_id: ViewerId, parent_id: ParentId, slots: Iterable[int]
    ) -> Parent | None:
        tables = self._tables
        row = tables.parents.get(parent_id)
        if row is None or row.parent.owner_id != viewer_id:
            return None
        wanted = set(slots)
        ended = [one for one in row.parent.entries if one.slot in wanted and one.unfinished]
        if not ended:
            return None
        cancelled = [
            one if CAPTION_SLOT in wanted else replace(one, waits=False)
            for one in tables.cancel(row, ended)
        ]
        others = tables.end_with_caption(row, cancelled)
        before = tables.put(row, [*cancelled, *tables.cancel(row, others)])
        tables.settle(row.parent, [*ended, *others])
        tables.observer.committed(viewer_id, before, row.parent)
        return row.parent


class Posts:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get_many(self, viewer_id: ViewerId, ids: Iterable[PostId]) -> Mapping[PostId, Post]:
        rows = (self._tables.committed.parents.get(one) for one in ids)
        posts = (as_post(row.parent) for row in rows if row)
        return {post.id: post for post in posts if post and post.owner_id == viewer_id}

    def start(
        self,
        viewer_id: ViewerId,
        post_id: PostId,
        *,
        plan: PostPlan,
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> Post | Conflict:
        tables, images, now = self._tables, plan.images, self._tables.now()
        if tables.is_used(viewer_id, key):
            return Conflict.KEY_USED
        held = [reference.image.id for reference in images.references]
        if any(tables.images.get(one, (None,))[0] != viewer_id for one in held):
            return Conflict.IMAGE_GONE
        post = Post(
            id=post_id,
            owner_id=viewer_id,
            user_message=images.user_message,
            selected_model_ids=tuple(planned.requested_model_id for planned in images.outputs),
            references=images.references,
            previous_were_named=images.previous_were_named,
            aspect_ratio=images.aspect_ratio,
            resolution=images.resolution,
            options=images.options,
            caption_output=an_output(post_id, CAPTION_SLOT, plan.caption, now),
            caption_options=plan.caption.options,
            reference_prompts=plan.caption.reference_prompts,
            landed_caption=None,
            outputs=tuple(
                an_output(post_id, slot, planned, now, waits=True)
                for slot, planned in enumerate(images.outputs, start=1)
            ),
            version=1,
            created_at=now,
            updated_at=now,
            completed_at=None,
        )
        if not tables.bears(viewer_id, post.entries, max_active_outputs):
            return Conflict.LIMIT_REACHED
        tables.insert(post, (plan.caption, *plan.images.outputs))
        tables.use(viewer_id, key, post_id)
        tables.reserve(viewer_id, post.entries)
        tables.observer.committed(viewer_id, None, post)
        return post

    def rewrite_caption(
        self,
        viewer_id: ViewerId,
        post: Post,
        *,
        caption: PlannedCaption,
        outputs: Mapping[int, PlannedOutput],
        max_active_outputs: int,
        key: IdempotencyKey | None,
    ) -> Post | Conflict:
        tables = self._tables
        if tables.is_used(viewer_id, key):
            return Conflict.KEY_USED
        row = tables.parents.get(post.id)
        planned: dict[int, Planned] = {CAPTION_SLOT: caption, **outputs}
        if row is None or row.parent.owner_id != viewer_id:
            return Conflict.STALE
        stored = {one.slot: one for one in row.parent.entries}
        read = {one.slot: one for one in post.entries}
        if any(
            (stored[slot].attempt, stored[slot].status) != (read[slot].attempt, read[slot].status)
            for slot in planned
        ):
            return Conflict.STALE
        parent, now = row.parent, tables.now()
        again = [_again(stored[slot], one, parent, now) for slot, one in planned.items()]
        if not tables.bears(viewer_id, again, max_active_outputs):
            return Conflict.LIMIT_REACHED
        for slot, one in planned.items():
            row.hidden[slot] = tables.queued(one)
        before = tables.put(row, again)
        assert isinstance(row.parent, Post)
        row.parent = replace(
            row.parent,
            caption_options=caption.options,
            reference_prompts=caption.reference_prompts,
        )
        tables.use(viewer_id, key, post.id, CAPTION_SLOT)
        tables.reserve(viewer_id, again)
        tables.observer.committed(viewer_id, before, row.parent)
        return row.parent

    def delete(self, viewer_id: ViewerId, post_id: PostId) -> Sequence[str] | None:
        row = self._tables.parents.get(post_id)
        if row is None or row.parent.owner_id != viewer_id:
            return None
        return delete_parents(self._tables, viewer_id, [row.parent], self._used)

    def _used(self, viewer_id: ViewerId) -> set[ImageId]:
        return used_images(self._tables, viewer_id)


def _again(found: Output, planned: Planned, parent: Parent, now: datetime) -> Output:
    """An ended output as its next attempt. Its previous cost stays."""
    post = as_post(parent)
    waits = post is not None and post.landed_caption is None and not found.is_caption
    return replace(
        an_output(parent.id, found.slot, planned, now, waits=waits),
        attempt=found.attempt + 1,
        fence=found.fence + 1,
        credits_charged=found.credits_charged,
    )


def delete_parents(
    tables: Tables,
    viewer_id: ViewerId,
    parents: Sequence[Parent],
    find_used: Callable[[ViewerId], set[ImageId]],
) -> Sequence[str]:
    """Delete parents with their images, except those that are used. Return orphaned keys."""
    for parent in parents:
        del tables.parents[parent.id]
    kept = find_used(viewer_id)
    outputs = [output for parent in parents for output in parent.outputs]
    gone = [one for output in outputs for one in output.images if one.id not in kept]
    for image in gone:
        del tables.images[image.id]
    for parent in parents:
        tables.settle(parent, [entry for entry in parent.entries if entry.unfinished])
    for parent in parents:
        tables.observer.committed(viewer_id, parent, None)
    previews = [output.preview.key for output in outputs if output.preview]
    return [key for image in gone for key in image.keys] + previews


def used_images(tables: Tables, viewer_id: ViewerId) -> set[ImageId]:
    """Images that conversations of the viewer begin from, or turns and posts refer to."""
    return {
        one.source_image.id
        for one in tables.conversations.values()
        if one.owner_id == viewer_id and one.source_image
    } | {
        reference.image.id
        for row in tables.parents.values()
        if row.parent.owner_id == viewer_id
        for reference in row.parent.references
    }


class Images:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get_many(
        self, viewer_id: ViewerId, ids: Iterable[ImageId]
    ) -> Mapping[ImageId, ImageRecord]:
        found = {one: self._tables.committed.images.get(one) for one in ids}
        return {one: held[1] for one, held in found.items() if held and held[0] == viewer_id}

    def any_refers_to(self, viewer_id: ViewerId, ids: Iterable[ImageId]) -> bool:
        return bool(self.get_many(viewer_id, ids))


class Accounts:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def open(self, viewer_id: ViewerId, *, starting_credits: int) -> Account:
        found = self._tables.committed.accounts.get(viewer_id)
        if found is not None:
            return found
        opened = self._grant(viewer_id, starting_credits, f"{viewer_id} start")
        if isinstance(opened, Conflict):
            raise Overloaded
        return opened

    def grant(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | Conflict:
        return self._grant(viewer_id, credits, f"{viewer_id} by {key}")

    def _grant(self, viewer_id: ViewerId, credits: int, key: str) -> Account | Conflict:
        movement = granted(credits, key=key)
        if (movement.cause, movement.kind) in self._tables.ledger:
            return Conflict.KEY_USED
        self._tables.move(viewer_id, [movement])
        self._tables.observer.committed(viewer_id, None, None)
        return self._tables.accounts[viewer_id]


class Receipts:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None:
        return self._tables.committed.receipts.get((viewer_id, key.value))


class Contacts:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def note(self, *, longest_gap: timedelta) -> timedelta:
        tables, now = self._tables, self._tables.clock()
        if now - tables.contact_at > longest_gap.total_seconds():
            tables.contact_since = now
        tables.contact_at = now
        return timedelta(seconds=now - tables.contact_since)
