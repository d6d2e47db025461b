"""The credits of viewers."""

from collections.abc import Collection, Sequence
from typing import Protocol

from domain.conflicts import Conflict
from domain.credits import Account, CreditsOfDay, Proof
from domain.ids import ViewerId


class AccountRepository(Protocol):
    async def open(self, viewer_id: ViewerId, *, starting_credits: int) -> Account:
        """The viewer's account; the first call makes it, with these credits.

        Raise ViewerBeingDeleted where the viewer, and with it the account, is being deleted.
        """

    async def find(self, viewer_id: ViewerId) -> Account | None:
        """The viewer's account, if there is one. Raise ViewerBeingDeleted as `open` does."""

    async def list_existing(self, viewer_ids: Collection[ViewerId]) -> Collection[ViewerId]:
        """Those of these viewers who have an account."""

    async def grant(self, viewer_id: ViewerId, credits: int, *, key: str) -> Account | Conflict:
        """Add credits. Refuse if the viewer has already been granted credits under this key, or
        would have more than `MAX_BALANCE`.
        """

    async def set_daily_limit(self, viewer_id: ViewerId, credits: int | None) -> bool:
        """Limit what the viewer can spend on one day, or remove the limit. Return False if there is
        no account.
        """

    async def list_days(self, viewer_id: ViewerId, *, limit: int) -> Sequence[CreditsOfDay]:
        """The movements of each day that has any, the latest day first."""

    async def prove(self) -> Proof:
        """Compare all accounts with the ledger and the outputs, as of one moment."""
