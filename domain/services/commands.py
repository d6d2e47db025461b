"""Commands that are done once: under an idempotency key, and although others write as well.

One way for all of them: find what is stored under the key, plan, refuse, write, and enqueue the new
outputs. A write that meets a conflict is repeated, repeating only the steps that can change the
result.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NoReturn, Protocol, TypeVar

from domain.conflicts import Conflict
from domain.conversations import Conversation
from domain.credits import Priced
from domain.errors import Overloaded, UserError, UserErrorCode
from domain.idempotency import IdempotencyKey, IdempotencyRecord, key_of
from domain.ids import as_turn_id, conversation_of_turn
from domain.outputs import Output
from domain.ports.conversations import ConversationRepository
from domain.ports.execution import HintQueue
from domain.ports.idempotency import IdempotencyRepository
from domain.ports.turns import TurnRepository
from domain.refusals import Refusals, refuse
from domain.retries import RetryPolicy
from domain.services.accounts import AccountService
from domain.turns import Turn
from domain.viewers import Viewer

_AFTER_CONFLICTS: Final = RetryPolicy(
    first_pause_seconds=0.01, longest_pause_seconds=0.3, max_tries=20
)


class Plan(Protocol):
    """What a command would do. It may be incomplete where refusals were found with it."""

    @property
    def outputs(self) -> Sequence[Priced]:
        """What has to be paid for."""


class Command(Protocol):
    """A command that may spend credits, once."""

    @property
    def max_credits(self) -> int | None: ...

    @property
    def idempotency_key(self) -> str | None: ...


AnyPlan = TypeVar("AnyPlan", bound=Plan)
AnyCommand = TypeVar("AnyCommand", bound=Command)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Written(Generic[Result]):
    result: Result
    queued: Sequence[Output]
    """Outputs that wait for a worker from now on."""


_PLAN_AGAIN: Final = frozenset({Conflict.STALE, Conflict.IMAGE_GONE})
"""What the plan was made from has changed. After LIMIT_REACHED, only the account is checked again;
after KEY_USED, the record is found, or the same plan is written if the record was rolled back.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandService:
    records: IdempotencyRepository
    conversations: ConversationRepository
    turns: TurnRepository
    accounts: AccountService
    hints: HintQueue

    async def run(
        self,
        viewer: Viewer,
        mutation: str,
        command: AnyCommand,
        *,
        plan: Callable[[Viewer, AnyCommand, Refusals], Awaitable[AnyPlan]],
        write: Callable[[AnyPlan, IdempotencyKey | None], Awaitable[Written[Result] | Conflict]],
        answer: Callable[[Viewer, IdempotencyRecord], Awaitable[Result]],
    ) -> Result:
        """Do a command, or answer with what was stored under its key.

        Raise Refused with all that is wrong with it, Overloaded where conflicts do not end.
        """
        key = key_of(mutation, command.idempotency_key, command)
        retries = _AFTER_CONFLICTS.begin()
        planned: AnyPlan | None = None
        conflict: Conflict | None = None
        while True:
            record = await self._find(viewer, key)
            if record is not None:
                return await answer(viewer, record)
            refusals = Refusals()
            if planned is None or conflict in _PLAN_AGAIN:
                planned = await plan(viewer, command, refusals)
            # The write checks the account too. It is read where something is to be said about it.
            limited = conflict is Conflict.LIMIT_REACHED
            checks = limited or bool(refusals.found) or command.max_credits is not None
            if checks and conflict is not Conflict.KEY_USED:
                await self._check(viewer, command, planned, refusals=refusals)
            if refusals.found:
                record = await self._find_after_refusal(viewer, key)
                if record is not None:
                    return await answer(viewer, record)
                refusals.raise_if_any()
            written = await write(planned, key)
            if not isinstance(written, Conflict):
                self.hints.enqueue_written(viewer.id, written.queued)
                return written.result
            conflict = written
            if conflict is Conflict.LIMIT_REACHED and not checks:
                continue  # The next round checks the account, and says why.
            if not await retries.pause():
                raise Overloaded

    async def foresee(
        self,
        viewer: Viewer,
        command: AnyCommand,
        *,
        plan: Callable[[Viewer, AnyCommand, Refusals], Awaitable[AnyPlan]],
    ) -> tuple[AnyPlan, Sequence[UserError]]:
        """What `run` would do, and what it would refuse. Nothing is written."""
        refusals = Refusals()
        planned = await plan(viewer, command, refusals)
        await self._check(viewer, command, planned, refusals=refusals)
        return planned, refusals.found

    async def load_made(
        self, viewer: Viewer, record: IdempotencyRecord
    ) -> tuple[Conversation, Turn]:
        """What was stored under a key, as it is now. Raise Refused where that has been deleted."""
        turn_id = as_turn_id(record.parent_id)
        assert turn_id is not None
        conversation_id = conversation_of_turn(turn_id)
        conversations = await self.conversations.get_many(viewer.id, [conversation_id])
        turns = await self.turns.get_many(viewer.id, [turn_id])
        if not conversations or not turns:
            refuse_deleted_result()
        return conversations[conversation_id], turns[turn_id]

    async def load_conversation(self, viewer: Viewer, record: IdempotencyRecord) -> Conversation:
        """As `load_made`, where the conversation alone was asked for."""
        turn_id = as_turn_id(record.parent_id)
        assert turn_id is not None
        conversation_id = conversation_of_turn(turn_id)
        found = await self.conversations.get_many(viewer.id, [conversation_id])
        return found.get(conversation_id) or refuse_deleted_result()

    async def _check(
        self, viewer: Viewer, command: Command, plan: Plan, *, refusals: Refusals
    ) -> None:
        await self.accounts.check(
            viewer, plan.outputs, max_credits=command.max_credits, refusals=refusals
        )

    async def _find(self, viewer: Viewer, key: IdempotencyKey | None) -> IdempotencyRecord | None:
        """What the same command has stored before, or None. Raise Refused for another input."""
        record = await self.records.get(viewer.id, key) if key is not None else None
        if key is not None and record is not None and not record.is_for(key):
            message = "This key was used with a different input. Use a new key for a new request."
            refuse(UserErrorCode.IDEMPOTENCY_KEY_REUSED, message, "idempotencyKey")
        return record

    async def _find_after_refusal(
        self, viewer: Viewer, key: IdempotencyKey | None
    ) -> IdempotencyRecord | None:
        """What the same command has stored since the first look.

        Its own effect may be the reason for the refusal: it has spent the credits, or its turn is
        in progress.
        """
        return await self._find(viewer, key)


def refuse_deleted_result() -> NoReturn:
    """Refuse a command whose result is not there any more: a used key never makes a second one."""
    message = "The result stored under this key has been deleted."
    refuse(UserErrorCode.NOT_FOUND, message, "idempotencyKey")
