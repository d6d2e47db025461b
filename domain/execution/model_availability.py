"""Models that their providers say are gone: no process offers them, until some time has passed."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from domain.errors import Overloaded
from domain.ids import ModelId
from domain.ports.execution import WithdrawnModelRepository
from domain.refreshing import refreshing
from domain.registry import Registry

log = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 10.0


class ModelAvailability:
    def __init__(self, withdrawals: WithdrawnModelRepository, *registries: Registry[Any]) -> None:
        """`registries` of all kinds of models, whose ids are different."""
        self._withdrawals = withdrawals
        self._registries = registries

    async def add(self, model_id: ModelId) -> None:
        """Withdraw a model here at once, and everywhere soon."""
        log.error("model withdrawn", extra={"model": model_id})
        with suppress(Overloaded):  # the next request for it finds out again
            await self._withdrawals.add(model_id)
            await self._refresh()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Keep up with what other processes have found out, until the block ends."""
        async with refreshing(self._refresh, every_seconds=_EVERY_SECONDS, name="withdrawals"):
            yield

    async def _refresh(self) -> None:
        ids = await self._withdrawals.ids()
        for registry in self._registries:
            registry.withdraw(ids)
