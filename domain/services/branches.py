"""Branches: a conversation that begins with another one's turns, and turns that are deleted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from domain.conflicts import Conflict
from domain.conversations import Conversation, ForkConversation
from domain.credits import Priced
from domain.errors import Refused, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.idempotency import IdempotencyKey
from domain.ids import TurnId, new_conversation_id, parse_turn_id
from domain.ports.branches import BranchRepository
from domain.ports.execution import HintQueue
from domain.ports.turns import TurnRepository
from domain.refusals import Refusals, refuse
from domain.services.commands import CommandService, Written
from domain.services.titles import clean_title
from domain.text import one_line, shorten
from domain.turns import Builder, KeptTurn, Turn
from domain.viewers import Viewer

MAX_COPIED_TURNS: Final = 1_000
_MAX_NAMED: Final = 10
_SHOWN_LENGTH: Final = 40
_TURN_NOT_FOUND: Final = (UserErrorCode.NOT_FOUND, "There is no such turn.", "turnId")


@dataclass(frozen=True, slots=True)
class _PlannedFork:
    turn: Turn | None
    title: str | None
    """None: that of the other conversation."""
    outputs: Sequence[Priced] = ()


@dataclass(frozen=True, slots=True)
class BranchService:
    commands: CommandService
    branches: BranchRepository
    turns: TurnRepository
    hints: HintQueue
    image_writer: ImageWriter

    async def fork(self, viewer: Viewer, command: ForkConversation) -> Conversation:
        """A new conversation that begins with copies of a turn and of all before it. It has the
        same images: no bytes are copied, and nothing is charged.
        """

        async def write(
            plan: _PlannedFork, key: IdempotencyKey | None
        ) -> Written[Conversation] | Conflict:
            assert plan.turn is not None
            forked = await self.branches.fork(
                viewer.id,
                plan.turn.id,
                new_conversation_id(),
                title=plan.title,
                max_turns=MAX_COPIED_TURNS,
                key=key,
            )
            if forked is Conflict.LIMIT_REACHED:
                message = f"A new conversation can begin with at most {MAX_COPIED_TURNS:,} turns."
                refuse(UserErrorCode.CONVERSATION_FULL, message, "turnId")
            return forked if isinstance(forked, Conflict) else Written(forked, queued=())

        return await self.commands.run(
            viewer,
            "forkConversation",
            command,
            plan=self._plan_fork,
            write=write,
            answer=self.commands.load_conversation,
        )

    async def _plan_fork(
        self, viewer: Viewer, command: ForkConversation, refusals: Refusals
    ) -> _PlannedFork:
        title = clean_title(command.title, refusals) if command.title is not None else None
        turn = await self._find(viewer, command.turn_id)
        if turn is None:
            refusals.add(*_TURN_NOT_FOUND)
        elif turn.in_progress and not turn.images:
            message = "This turn is still running and has no image yet."
            refusals.add(UserErrorCode.TURN_IN_PROGRESS, message, "turnId")
        return _PlannedFork(turn, title)

    async def delete_turn(self, viewer: Viewer, raw_turn_id: str) -> TurnId:
        """Delete a turn that nothing builds on, with those of its images that nothing else needs.
        Unfinished outputs are cancelled. Refuse with all that builds on it.
        """
        turn = await self._find(viewer, raw_turn_id)
        deleted = await self.branches.delete_turn(viewer.id, turn.id) if turn else None
        if turn is None or deleted is None:
            refuse(*_TURN_NOT_FOUND)
        if isinstance(deleted, KeptTurn):
            _refuse_in_use(deleted)
        self.hints.recall(output.id for output in turn.outputs if output.unfinished)
        await self.image_writer.delete(deleted)
        return turn.id

    async def _find(self, viewer: Viewer, raw_turn_id: str) -> Turn | None:
        turn_id = parse_turn_id(raw_turn_id)
        return (await self.turns.get_many(viewer.id, [turn_id])).get(turn_id) if turn_id else None


def _refuse_in_use(kept: KeptTurn) -> NoReturn:
    refusals = Refusals()
    for builder in kept.builders[:_MAX_NAMED]:
        refusals.add(UserErrorCode.TURN_IN_USE, _describe(builder), "turnId")
    rest = len(kept.builders) - _MAX_NAMED
    if rest > 0:
        refusals.add(UserErrorCode.TURN_IN_USE, f"And {rest:,} more build on this turn.", "turnId")
    raise Refused(refusals.found)


def _describe(builder: Builder) -> str:
    text = shorten(one_line(builder.text), _SHOWN_LENGTH)
    if builder.turn_index is None:
        if builder.id.startswith("post_"):
            return f"The post “{text}” uses an image of this turn ({builder.id})."
        return f"The conversation “{text}” starts from an image of this turn ({builder.id})."
    why = "waits for this turn" if builder.waits else "uses an image of this turn"
    return f"Turn {builder.turn_index + 1}, “{text}”, {why} ({builder.id})."
