"""The results of commands, by their idempotency keys."""

from typing import Protocol

from domain.idempotency import IdempotencyKey, IdempotencyRecord
from domain.ids import ViewerId


class IdempotencyRepository(Protocol):
    async def get(self, viewer_id: ViewerId, key: IdempotencyKey) -> IdempotencyRecord | None: ...
