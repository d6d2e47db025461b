"""Turns: ask for the next one, and read them."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from domain.changes import Bookmark
from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.errors import UserError, UserErrorCode
from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import (
    ConversationId,
    TurnId,
    parse_turn_id,
)
from domain.images import Image
from domain.pages import Page, PageRequest, Position, cut
from domain.plurals import count
from domain.ports.conversations import ConversationRepository
from domain.ports.turns import TurnRepository
from domain.refusals import Refusals, refuse
from domain.services.accounts import AccountService
from domain.services.canceller import OutputCanceller
from domain.services.commands import AnyCommand, CommandService, Written
from domain.services.edit_planning import EditPlanner, PlannedEdit
from domain.stored import Wanted
from domain.turns import RerunTurn, SendEdit, Turn, TurnPlan, TurnStatus
from domain.viewers import Viewer

_STRIP_TURNS: Final = 50
_BEFORE_ALL_TURNS: Final = (-1, 0, 0)


class WaitingTurns(Protocol):
    """See `domain.services.waiting_turns`."""

    def search_now(self) -> None: ...

    async def cancel(self, viewer: Viewer, turn_id: TurnId) -> Turn | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnService:
    turns: TurnRepository
    conversations: ConversationRepository
    commands: CommandService
    accounts: AccountService
    edits: EditPlanner
    canceller: OutputCanceller
    waiting: WaitingTurns

    async def get_many(self, viewer: Viewer, ids: Iterable[TurnId]) -> Mapping[TurnId, Turn]:
        return await self.turns.get_many(viewer.id, ids)

    async def find_latest_of_many(
        self, viewer: Viewer, ids: Iterable[ConversationId]
    ) -> Mapping[ConversationId, Turn]:
        return await self.turns.find_latest_of_many(viewer.id, ids)

    async def page(
        self,
        viewer: Viewer,
        conversation_id: ConversationId,
        request: PageRequest,
        *,
        wanted: Wanted | None = None,
    ) -> Page[Turn]:
        """Oldest first. Attributes that are not wanted need not be there."""
        return await self.turns.page(viewer.id, conversation_id, request, wanted=wanted)

    async def list_in_progress(self, viewer: Viewer) -> Sequence[Turn]:
        """Turns with unfinished outputs, oldest first."""
        return await self.turns.list_in_progress(viewer.id)

    async def find_image_strip(
        self, viewer: Viewer, conversation: Conversation, request: PageRequest
    ) -> Page[Image]:
        """The source image, then every output's images, oldest first."""
        found: list[tuple[Image, Position]] = []
        if request.position is None and conversation.source_image is not None:
            found.append((conversation.source_image, _BEFORE_ALL_TURNS))
        after = request.position or _BEFORE_ALL_TURNS
        # The position's own turn may have more images: pages start after a turn, so the one before.
        turn_index = max(-1, int(after[0]) - 1)  # A turn of this index need not exist.
        more = True
        while more and len(found) <= request.size:
            page = await self.turns.page(
                viewer.id, conversation.id, PageRequest(_STRIP_TURNS, (turn_index,))
            )
            found.extend(
                (image, position)
                for turn in page.items
                for output in turn.outputs
                for image in output.images
                if (position := (turn.turn_index, output.slot, image.id)) > after
            )
            more = page.has_next
            if page.items:
                turn_index = page.items[-1].turn_index
        return cut(request, found, lambda pair: pair[1]).map(lambda pair: pair[0])

    async def send_edit(self, viewer: Viewer, command: SendEdit) -> tuple[Turn, Bookmark]:
        """Write the next turn and enqueue its outputs. Does not wait for the models.

        A subscription that starts from the bookmark misses nothing.
        """
        return await self._append(viewer, "sendEdit", command, plan=self._plan_edit)

    async def _plan_edit(
        self, viewer: Viewer, command: SendEdit, refusals: Refusals
    ) -> PlannedEdit:
        plan = await self.edits.plan(viewer, command, refusals)
        wanted, most = len(plan.turn.outputs), self.accounts.max_active_outputs
        if plan.turn.waiting is not None and wanted > most:
            message = f"This is {count(wanted, 'output')}; at most {most} at the same time."
            refusals.add(UserErrorCode.TOO_MANY_ACTIVE_OUTPUTS, message)
        return plan

    async def rerun(self, viewer: Viewer, command: RerunTurn) -> tuple[Turn, Bookmark]:
        """Write a turn once more, as the next one, with new seeds. As `send_edit` otherwise."""
        return await self._append(viewer, "rerunTurn", command, plan=self.edits.plan_rerun)

    async def _append(
        self,
        viewer: Viewer,
        mutation: str,
        command: AnyCommand,
        *,
        plan: Callable[[Viewer, AnyCommand, Refusals], Awaitable[PlannedEdit]],
    ) -> tuple[Turn, Bookmark]:
        async def write(
            plan: PlannedEdit, key: IdempotencyKey | None
        ) -> Written[tuple[Turn, Bookmark]] | Conflict:
            before = plan.before
            assert before is not None
            written = await self.conversations.append_turn(
                viewer.id,
                before.conversation,
                plan=plan.turn,
                max_active_outputs=self.accounts.max_active_outputs,
                key=key,
            )
            if isinstance(written, Conflict):
                return written
            conversation, turn = written
            if turn.status is TurnStatus.WAITING:
                self.waiting.search_now()
            # The plan was made from this version of the previous turn: it is not sent again.
            latest = before.latest
            known = ((latest.turn_index, latest.version),) if latest else ()
            return Written((turn, Bookmark(conversation.as_of, known)), queued=turn.outputs)

        async def answer(viewer: Viewer, record: IdempotencyRecord) -> tuple[Turn, Bookmark]:
            conversation, turn = await self.commands.load_made(viewer, record)
            return turn, Bookmark(conversation.as_of)

        return await self.commands.run(
            viewer, mutation, command, plan=plan, write=write, answer=answer
        )

    async def plan(self, viewer: Viewer, command: SendEdit) -> tuple[TurnPlan, Sequence[UserError]]:
        """What `send_edit` would do, and what it would refuse. Nothing is written."""
        plan, found = await self.commands.foresee(viewer, command, plan=self.edits.plan)
        return plan.turn, found

    async def cancel_turn(self, viewer: Viewer, raw_turn_id: str) -> Turn:
        """End its unfinished outputs, or its waiting. Those that have ended stay as they are."""
        turn_id = parse_turn_id(raw_turn_id)
        turn = (await self.get_many(viewer, [turn_id])).get(turn_id) if turn_id else None
        if turn is None:
            refuse(UserErrorCode.NOT_FOUND, "There is no such turn.", "turnId")
        if turn.status is TurnStatus.WAITING:
            ended = await self.waiting.cancel(viewer, turn.id)
            if ended is not None:
                return ended
            # It has begun in the meantime.
            turn = (await self.get_many(viewer, [turn.id])).get(turn.id, turn)
        return await self.canceller.cancel(viewer, turn, turn.outputs, noun="turn")
