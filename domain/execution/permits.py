"""Permits: the right to one of the runs that a provider takes from all processes together.

Only providers with such a limit have permits. What must stay true: a permit is held from before its
output is claimed until the provider has stopped working on it. The permits of a dead process are
kept for the process that continues its outputs; a little later any process may take them.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

from domain.background import cancel_all
from domain.claims import Permit, Waiting
from domain.errors import Overloaded
from domain.execution.leases import HEARTBEAT, LEASE
from domain.ids import OutputId
from domain.ports.permits import PermitRepository

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.5
"""Between two checks whether another process has given a permit back."""
_SHUTDOWN_SECONDS: Final = 2.0
"""How long the end waits for permits that are being given back."""


class Permits:
    """Those that this process holds, by the attempts that it runs."""

    def __init__(
        self,
        repository: PermitRepository,
        limits: Mapping[str, int],
        *,
        lease: timedelta = LEASE,
        heartbeat: timedelta = HEARTBEAT,
    ) -> None:
        """`limits`: how many permits there are, by provider. Others need none."""
        self._repository = repository
        self.limits = limits
        self.on_free: Callable[[], None] = lambda: None
        """Called when a provider that was full may have a permit again."""
        self._lease = lease
        self._heartbeat_seconds = heartbeat.total_seconds()
        self._held: dict[tuple[OutputId, int], list[Permit]] = {}
        self._full_providers: set[str] = set()
        self._has_full_providers = asyncio.Event()
        self._returning: set[asyncio.Task[None]] = set()

    @property
    def held(self) -> Mapping[str, int]:
        """How many this process holds, by provider."""
        return Counter(permit.provider for permit in self._all_held())

    def is_full(self, provider: str) -> bool:
        """Whether there was none left at the last check."""
        return provider in self._full_providers

    def forget_full_providers(self) -> None:
        """Ask the database again at the next `take`: permits of dead processes may be free."""
        self._full_providers.clear()

    async def take(self, provider: str, waiting: Waiting, *, expired: bool) -> bool:
        """Whether the attempt may run at the provider. It keeps the permits of others: of its runs,
        some may still work there, and they may be asked again. `expired`: an expired lease means a
        dead process. Raise Overloaded.
        """
        limit = self.limits.get(provider)
        if limit is None:
            return True
        attempt = waiting.output_id, waiting.attempt
        if any(permit.provider == provider for permit in self._held.get(attempt, ())):
            return True
        if self.is_full(provider):
            return False
        taking = asyncio.create_task(
            self._repository.take(
                provider,
                *attempt,
                at_most=limit,
                lease=self._lease,
                expired=expired,
            ),
            name=f"permit for {waiting.output_id}",
        )
        try:
            permit = await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._return_in_background(
                self._give_back_taken(taking), name=f"return {taking.get_name()}"
            )
            raise
        if permit is None:
            self._full_providers.add(provider)
            self._has_full_providers.set()
            return False
        self._held.setdefault(attempt, []).append(permit)
        return True

    async def take_back(self, waiting: Waiting) -> bool:
        """Take the permits of the process that has begun the output, of all providers. Return
        whether there were any. Raise Overloaded.
        """
        if not self.limits or waiting.fence == 0:
            return False
        attempt = waiting.output_id, waiting.attempt
        found = await self._repository.take_back(*attempt, limits=self.limits, lease=self._lease)
        if found:
            self._held.setdefault(attempt, []).extend(found)
        return bool(found)

    def give_back(self, output_id: OutputId, attempt: int, *, continues: bool = False) -> None:
        """Give back all permits of the attempt. `continues`: the provider works on, and another
        process will continue the output: it alone can take them for a while.
        """
        for permit in self._held.pop((output_id, attempt), ()):
            self._return(permit, continues=continues)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Keep what is held until the block ends."""
        if not self.limits:
            yield
            return
        tasks = [
            asyncio.create_task(self._renew_forever(), name="permits"),
            asyncio.create_task(self._poll_forever(), name="free permits"),
        ]
        try:
            yield
        finally:
            if self._returning:
                await asyncio.wait(self._returning, timeout=_SHUTDOWN_SECONDS)
            await cancel_all(tasks)

    def _all_held(self) -> list[Permit]:
        return [permit for permits in self._held.values() for permit in permits]

    def _return(self, permit: Permit, *, continues: bool) -> None:
        returning = self._give_back(permit, continues=continues)
        self._return_in_background(returning, name=f"return {permit.id}")

    def _return_in_background(self, returning: Coroutine[None, None, None], *, name: str) -> None:
        task = asyncio.create_task(returning, name=name)
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _give_back_taken(self, taking: asyncio.Task[Permit | None]) -> None:
        """Give back what is taken for a run that has been cancelled meanwhile."""
        with suppress(Overloaded):
            if (permit := await taking) is not None:
                await self._give_back(permit, continues=False)

    async def _give_back(self, permit: Permit, *, continues: bool) -> None:
        try:
            await self._repository.give_back(permit, continues=continues)
        except Overloaded:
            log.warning("permit left to expire", extra={"permit": permit.id})
        else:
            if not continues:
                self._notice_free(permit.provider)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            permits = self._all_held()
            try:
                if permits:
                    await self._repository.renew(permits, lease=self._lease)
            except Overloaded:
                continue  # While the database is away, no other process can take them.
            except Exception:
                log.exception("permits not renewed")

    async def _poll_forever(self) -> None:
        while True:
            await self._has_full_providers.wait()
            await asyncio.sleep(_POLL_SECONDS)
            try:
                for provider in tuple(self._full_providers):
                    if await self._repository.is_free(provider, at_most=self.limits[provider]):
                        self._notice_free(provider)
            except Overloaded:
                continue
            except Exception:
                log.exception("search for free permits failed")
            if not self._full_providers:
                self._has_full_providers.clear()

    def _notice_free(self, provider: str) -> None:
        if provider in self._full_providers:
            self._full_providers.discard(provider)
            self.on_free()
