"""Models that their providers say are gone: no process offers them, until some time has passed."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from domain.errors import Overloaded
from domain.ids import ModelId
from domain.ports.execution import WithdrawnModelRepository
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
        task = asyncio.create_task(self._refresh_forever(), name="withdrawals")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _refresh_forever(self) -> None:
        while True:
            try:
                await self._refresh()
            except Overloaded:
                pass
            except Exception:
                log.exception("model availability not read")
            await asyncio.sleep(_EVERY_SECONDS * random.uniform(0.75, 1.25))

    async def _refresh(self) -> None:
        ids = await self._withdrawals.ids()
        for registry in self._registries:
            registry.withdraw(ids)
