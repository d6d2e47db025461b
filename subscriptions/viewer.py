"""`viewerUpdated`: a viewer's account as it is, then after each change."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from domain.credits import Account
from domain.errors import Overloaded, ViewerBeingDeleted
from domain.ids import ViewerId
from domain.services.accounts import AccountService
from domain.viewers import Viewer
from subscriptions.hub import Hub, pause_before_reading


@dataclass(frozen=True, slots=True)
class ViewerUpdates:
    hub: Hub
    accounts: AccountService

    def call_when_deleted(
        self, viewer_id: ViewerId, callback: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """A context within which `callback` is called once the viewer is deleted, by whichever
        process.
        """
        return self.hub.call_when_deleted(viewer_id, callback)

    async def of(self, viewer: Viewer) -> AsyncGenerator[Account, None]:
        """Yield the account. Ends when the viewer is deleted."""
        sent: Account | None = None
        with self.hub.listen(viewer.id) as listener:
            while True:
                await listener.wait()
                try:
                    # Only the first read may make the account: later there is none where the viewer
                    # has been deleted.
                    read = self.accounts.open if sent is None else self.accounts.find
                    account = await read(viewer.id)
                except ViewerBeingDeleted:
                    return
                except Overloaded:
                    listener.notify()
                    await pause_before_reading()
                    continue
                if account is None:
                    return
                if account != sent:
                    sent = account
                    yield account
