"""Requests that come again under an idempotency key."""

from dataclasses import dataclass
from typing import NoReturn

from domain.errors import Refused, UserErrorCode
from domain.idempotency import IdempotencyKey, Receipt
from domain.planning import Refusals
from domain.ports import ReceiptRepository
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class ReceiptService:
    receipts: ReceiptRepository

    async def find(self, viewer: Viewer, key: IdempotencyKey | None) -> Receipt | None:
        """What came of the same request before, or None. Raise Refused for other input."""
        receipt = await self.receipts.get(viewer.id, key) if key is not None else None
        if key is not None and receipt is not None and not receipt.is_for(key):
            refusals = Refusals()
            message = "This key came with another input before. A new request needs a new key."
            refusals.add(UserErrorCode.IDEMPOTENCY_KEY_REUSED, message, "idempotencyKey")
            refusals.raise_if_any()
        return receipt


def refuse_deleted() -> NoReturn:
    """What a key once made is gone: it is never made again."""
    refusals = Refusals()
    message = "What this key made has been deleted."
    refusals.add(UserErrorCode.NOT_FOUND, message, "idempotencyKey")
    raise Refused(refusals.found)
