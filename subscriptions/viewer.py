"""`viewerUpdated`: a viewer's account as it is, then after each change."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from domain.credits import Account
from domain.errors import Overloaded
from domain.services.accounts import AccountService
from domain.viewers import Viewer
from subscriptions.hub import Hub, pause_before_reading


@dataclass(frozen=True, slots=True)
class ViewerUpdates:
    hub: Hub
    accounts: AccountService

    async def of(self, viewer: Viewer) -> AsyncGenerator[Account, None]:
        sent: Account | None = None
        with self.hub.listen(viewer.id) as listener:
            while True:
                await listener.wait()
                try:
                    account = await self.accounts.get(viewer.id)
                except Overloaded:
                    listener.notify()
                    await pause_before_reading()
                    continue
                if account != sent:
                    sent = account
                    yield account
