"""Exports: create one, and read its progress."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from domain.errors import RateLimited
from domain.ids import ConversationId, new_export_id, parse_conversation_id
from domain.jobs import MAX_RUNNING_JOBS, Export
from domain.ports.conversations import ConversationRepository
from domain.ports.jobs import ExportRepository
from domain.refusals import refuse
from domain.services.accounts import AccountService
from domain.services.conversations import CONVERSATION_NOT_FOUND
from domain.viewers import Viewer

_WAIT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class ExportService:
    exports: ExportRepository
    conversations: ConversationRepository
    accounts: AccountService
    begin: Callable[[], None]
    """Called when an export has been created. Without the call, the next search finds it."""

    async def get_many(self, viewer: Viewer, ids: Iterable[str]) -> Mapping[str, Export]:
        return await self.exports.get_many(viewer.id, ids)

    async def create_of_conversation(self, viewer: Viewer, raw_conversation_id: str) -> Export:
        """Raise Refused, or RateLimited where too many are running."""
        conversation_id = parse_conversation_id(raw_conversation_id)
        ids = [conversation_id] if conversation_id else []
        if conversation_id is None or not await self.conversations.get_many(viewer.id, ids):
            refuse(*CONVERSATION_NOT_FOUND)
        return await self._create(viewer, conversation_id)

    async def create_of_viewer(self, viewer: Viewer) -> Export:
        """Raise RateLimited where too many are running."""
        return await self._create(viewer, None)

    async def _create(self, viewer: Viewer, conversation_id: ConversationId | None) -> Export:
        await self.accounts.open(viewer.id)
        export = Export(
            id=new_export_id(),
            owner_id=viewer.id,
            conversation_id=conversation_id,
            created_at=datetime.now(UTC),
        )
        if await self.exports.create(export, at_most=MAX_RUNNING_JOBS) is None:
            message = f"At most {MAX_RUNNING_JOBS} exports can run. Try again later."
            raise RateLimited(message, retry_after_seconds=_WAIT_SECONDS)
        self.begin()
        return export
