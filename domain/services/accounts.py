"""Accounts: what a viewer may still spend, and how many outputs may run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from domain.credits import Account, Priced
from domain.ids import ViewerId
from domain.planning import check_spending
from domain.ports.accounts import AccountRepository
from domain.refusals import Refusals
from domain.viewers import Viewer


@dataclass(frozen=True, slots=True)
class AccountService:
    accounts: AccountRepository
    starting_credits: int
    max_active_outputs: int

    async def open(self, viewer_id: ViewerId) -> Account:
        """Return the viewer's account. The first call makes it."""
        return await self.accounts.open(viewer_id, starting_credits=self.starting_credits)

    async def find(self, viewer_id: ViewerId) -> Account | None:
        """The viewer's account; None if there is none."""
        return await self.accounts.find(viewer_id)

    async def get_many(self, viewer: Viewer, ids: Iterable[ViewerId]) -> Mapping[ViewerId, Account]:
        """The viewer's own account, if it is among these."""
        return {viewer.id: await self.open(viewer.id)} if viewer.id in ids else {}

    async def check(
        self,
        viewer: Viewer,
        outputs: Sequence[Priced],
        *,
        max_credits: int | None,
        refusals: Refusals,
    ) -> None:
        """Add to `refusals` what forbids running these outputs.

        The write checks the account as well. This check says why, together with all other refusals.
        """
        check_spending(
            outputs,
            account=await self.open(viewer.id),
            max_active_outputs=self.max_active_outputs,
            max_credits=max_credits,
            refusals=refusals,
        )
