"""`viewerUpdated`: a viewer's account as it stands now, then after each change."""

import asyncio
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from domain.credits import Account
from domain.errors import Overloaded
from domain.services.accounts import AccountService
from domain.viewers import Viewer
from subscriptions.hub import Hub

_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class ViewerUpdates:
    hub: Hub
    accounts: AccountService

    async def of(self, viewer: Viewer) -> AsyncGenerator[Account, None]:
        told: Account | None = None
        with self.hub.listen(viewer.id) as listener:
            listener.tell(lost=True)  # nothing is known yet
            while True:
                await listener.wait()
                listener.changed = listener.lost = False
                try:
                    account = await self.accounts.get(viewer.id)
                except Overloaded:
                    listener.tell(lost=True)
                    await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1.5))
                    continue
                if account != told:
                    told = account
                    yield account
