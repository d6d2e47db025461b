"""Models that no process asks a provider for: withdrawn because that provider has dropped them, or
switched off by an operator, alone or with their whole provider.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from domain.errors import Overloaded
from domain.ids import ModelId
from domain.ports.model_availability import ModelAvailabilityRepository
from domain.refreshing import refreshing
from domain.registry import Registry

log = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 3.0


class ModelAvailability:
    def __init__(self, stored: ModelAvailabilityRepository, *registries: Registry[Any]) -> None:
        """`registries` of all kinds of models, whose ids are different."""
        self._stored = stored
        self._registries = registries
        self._off: frozenset[str] = frozenset()

    async def withdraw(self, model_id: ModelId, provider: str) -> None:
        """Withdraw a model from one of its providers, here at once and everywhere soon."""
        log.error("model withdrawn", extra={"model": model_id, "provider": provider})
        with suppress(Overloaded):  # The next request for the model finds out again.
            await self._stored.withdraw(model_id, provider)
            await self._refresh()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Read regularly what operators and other processes have stored, until the block ends."""
        # The first time before anything starts: a model that is switched off must not run once
        # more.
        async with refreshing(self._refresh, every_seconds=_EVERY_SECONDS, name="availability"):
            yield

    async def _refresh(self) -> None:
        unavailable = await self._stored.find_unavailable()
        since = {model.name: model.since for model in unavailable.off}
        for registry in self._registries:
            registry.withdraw(unavailable.withdrawn)
            registry.switch_off(since)
        off = frozenset(since)
        if off != self._off:
            log.warning("switched off", extra={"names": sorted(off), "before": sorted(self._off)})
            self._off = off
