"""Branches: a conversation that begins with another one's turns, and turns that are deleted."""

from dataclasses import dataclass
from typing import Final, NoReturn

from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.errors import Overloaded, Refused, UserErrorCode
from domain.execution.image_writer import ImageWriter
from domain.ids import TurnId, new_conversation_id, parse_turn_id
from domain.ports.branches import BranchRepository
from domain.ports.execution import HintQueue
from domain.ports.turns import TurnRepository
from domain.refusals import Refusals, refuse
from domain.services.titles import clean_title
from domain.text import one_line, shorten
from domain.turns import Builder, KeptTurn, Turn
from domain.viewers import Viewer

MAX_COPIED_TURNS: Final = 1_000
_MAX_NAMED: Final = 10
_SHOWN_LENGTH: Final = 40
_TURN_NOT_FOUND: Final = (UserErrorCode.NOT_FOUND, "There is no such turn.", "turnId")


@dataclass(frozen=True, slots=True)
class BranchService:
    branches: BranchRepository
    turns: TurnRepository
    hints: HintQueue
    image_writer: ImageWriter

    async def fork(self, viewer: Viewer, raw_turn_id: str, title: str | None) -> Conversation:
        """A new conversation that begins with copies of a turn and of all before it. It has the
        same images: no bytes are copied, and nothing is charged.
        """
        refusals = Refusals()
        name = clean_title(title, refusals) if title is not None else None
        turn = await self._find(viewer, raw_turn_id)
        if turn is None:
            refusals.add(*_TURN_NOT_FOUND)
        elif turn.in_progress and not turn.images:
            message = "This turn is still running and has no image yet."
            refusals.add(UserErrorCode.TURN_IN_PROGRESS, message, "turnId")
        refusals.raise_if_any()

        assert turn is not None
        forked = await self.branches.fork(
            viewer.id, turn.id, new_conversation_id(), title=name, max_turns=MAX_COPIED_TURNS
        )
        if forked is Conflict.LIMIT_REACHED:
            message = f"A new conversation can begin with at most {MAX_COPIED_TURNS:,} turns."
            refuse(UserErrorCode.CONVERSATION_FULL, message, "turnId")
        if forked is Conflict.STALE:
            refuse(*_TURN_NOT_FOUND)
        if isinstance(forked, Conflict):
            raise Overloaded  # an image of it was deleted meanwhile
        return forked

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
