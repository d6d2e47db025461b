"""Turns that wait for the one before them: they begin, or fail, once that one has ended.

Every process may search at any time: whether a turn still waits is decided by the write that begins
or ends it. So nothing is lost if a process dies between any two writes.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from domain.background import run_in_background
from domain.conflicts import Conflict
from domain.errors import GenerationErrorCode, Overloaded, UserError, UserErrorCode
from domain.ids import TurnId
from domain.outputs import GenerationError
from domain.pages import PageRequest
from domain.ports.conversations import ConversationRepository
from domain.ports.execution import HintQueue
from domain.ports.turns import TurnRepository
from domain.ports.waiting_turns import WaitingTurnRepository
from domain.refusals import Refusals
from domain.rules import MAX_QUEUED, TIMED_OUT
from domain.services.accounts import AccountService
from domain.services.edit_planning import EditPlanner
from domain.turns import Turn, TurnStatus
from domain.viewers import Viewer

log = logging.getLogger(__name__)

_SECONDS: Final = 10.0
"""Between two searches for turns that another process has left."""
_SECONDS_WHILE_SOME_WAIT: Final = 0.25
_BATCH: Final = 100
_REASONS: Final = {
    UserErrorCode.NO_MODELS: GenerationErrorCode.MODEL_RETIRED,
    UserErrorCode.UNKNOWN_MODEL: GenerationErrorCode.MODEL_RETIRED,
    UserErrorCode.MODEL_UNAVAILABLE: GenerationErrorCode.MODEL_RETIRED,
    UserErrorCode.MODEL_RETIRED: GenerationErrorCode.MODEL_RETIRED,
    UserErrorCode.NOT_FOUND: GenerationErrorCode.PREVIOUS_TURN_FAILED,
    UserErrorCode.REFERENCE_NOT_READY: GenerationErrorCode.PREVIOUS_TURN_FAILED,
    UserErrorCode.MODEL_NEEDS_REFERENCE: GenerationErrorCode.PREVIOUS_TURN_FAILED,
    UserErrorCode.UNSUPPORTED_MASK: GenerationErrorCode.PREVIOUS_TURN_FAILED,
    UserErrorCode.UNKNOWN_MENTION: GenerationErrorCode.UNKNOWN_MENTION,
    UserErrorCode.MASK_INVALID: GenerationErrorCode.MASK_INVALID,
}
"""Why a turn cannot begin, the first one that applies. What was checked when it was sent can only
have changed with the model that edits what the turn before has made.
"""
_SPENDING: Final = {
    UserErrorCode.MAX_CREDITS_EXCEEDED: GenerationErrorCode.MAX_CREDITS_EXCEEDED,
    UserErrorCode.INSUFFICIENT_CREDITS: GenerationErrorCode.INSUFFICIENT_CREDITS,
    UserErrorCode.DAILY_LIMIT_REACHED: GenerationErrorCode.INSUFFICIENT_CREDITS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTurns:
    waiting: WaitingTurnRepository
    turns: TurnRepository
    conversations: ConversationRepository
    edits: EditPlanner
    accounts: AccountService
    hints: HintQueue
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def search_now(self) -> None:
        """Search now instead of later: a turn has just begun to wait."""
        self._wake.set()

    async def cancel(self, viewer: Viewer, turn_id: TurnId) -> Turn | None:
        """End a turn that waits; None if it does not wait any more."""
        return await self.waiting.end(viewer.id, turn_id, None)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Begin what is ready, several times a second while there is any, until the block ends."""
        async with run_in_background(self._search_forever(), name="waiting turns"):
            yield

    async def begin_ready(self) -> bool:
        """Begin or end each turn whose previous one has ended. Return whether there were any that
        wait.
        """
        last: TurnId | None = None
        while found := await self.waiting.list(after=last, limit=_BATCH):
            for turn in found:
                try:
                    await self._begin_or_end(turn)
                except Overloaded:
                    pass  # The next search finds it again.
                except Exception:
                    log.exception("waiting turn could not begin", extra={"turn_id": turn.id})
            last = found[-1].id
        return last is not None

    async def _search_forever(self) -> None:
        while True:
            some_wait = False
            self._wake.clear()
            try:
                some_wait = await self.begin_ready()
            except Overloaded:
                pass  # The next search finds it again.
            except Exception:
                log.exception("search for waiting turns failed")
            seconds = _SECONDS_WHILE_SOME_WAIT if some_wait else _SECONDS
            try:
                async with asyncio.timeout(seconds * random.uniform(0.75, 1.25)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _begin_or_end(self, turn: Turn) -> None:
        viewer, waiting = Viewer(turn.owner_id), turn.waiting
        assert waiting is not None
        conversations = await self.conversations.get_many(viewer.id, [turn.conversation_id])
        before = PageRequest(1, (turn.turn_index,), backwards=True)
        page = await self.turns.page(viewer.id, turn.conversation_id, before)
        conversation = conversations.get(turn.conversation_id)
        previous = page.items[0] if page.items else None
        if conversation is None or (previous is not None and previous.in_progress):
            return
        if previous is not None and previous.status is not TurnStatus.COMPLETED:
            await self._fail(turn, GenerationErrorCode.PREVIOUS_TURN_FAILED)
            return
        refusals = Refusals()
        plan = await self.edits.plan_waiting(
            viewer,
            conversation,
            turn,
            waiting=waiting,
            previous=previous,
            refusals=refusals,
        )
        await self.accounts.check(
            viewer, plan.outputs, max_credits=waiting.max_credits, refusals=refusals
        )
        if refusals.found:
            reason = _reason_of(refusals.found)
            if reason is None and previous is not None and _has_waited_too_long(previous):
                reason = TIMED_OUT.code
            if reason is not None:
                await self._fail(turn, reason)
            return
        outcome = await self.waiting.begin(
            viewer.id, turn.id, plan=plan, max_active_outputs=self.accounts.max_active_outputs
        )
        # After a conflict, the next search finds out what has changed.
        if not isinstance(outcome, Conflict):
            self.hints.enqueue_written(viewer.id, outcome.outputs)

    async def _fail(self, turn: Turn, code: GenerationErrorCode) -> None:
        await self.waiting.end(turn.owner_id, turn.id, GenerationError(code, retryable=False))


def _has_waited_too_long(previous: Turn) -> bool:
    """Whether a turn that could have begun with the end of this one should not wait any more."""
    ended_at = previous.completed_at
    return ended_at is not None and ended_at + MAX_QUEUED <= datetime.now(UTC)


def _reason_of(errors: Sequence[UserError]) -> GenerationErrorCode | None:
    """Why a turn cannot begin; None if it can as soon as other outputs have ended."""
    codes = {error.code for error in errors} - {UserErrorCode.TOO_MANY_ACTIVE_OUTPUTS}
    if not codes:
        return None
    known = next((reason for code, reason in _REASONS.items() if code in codes), None)
    if known is None and codes - _SPENDING.keys():
        return GenerationErrorCode.MODEL_CANNOT_EDIT
    return known or next(reason for code, reason in _SPENDING.items() if code in codes)
