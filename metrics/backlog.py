"""The signal for scaling workers: number and age of queued outputs by provider, read when it is
requested.

Every process shows the same numbers, so that they are available while no worker is running. A hint
that finds no room is acknowledged and dropped, so the backlog of NATS says nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from domain.errors import Overloaded
from domain.outputs import OutputStatus
from domain.ports.operators import Backlog, BacklogRepository
from domain.registry import Registry
from metrics.outputs import provider_of

_FRESH_SECONDS: Final = 1.0
_READ_SECONDS: Final = 2.0


class BacklogCollector(Collector):
    """Shows the numbers that were read last. While the database cannot be reached it
    shows nothing.
    """

    def __init__(self, backlogs: BacklogRepository, *registries: Registry[Any]) -> None:
        self._backlogs = backlogs
        self._registries = registries
        self._found: Sequence[Backlog] | None = None
        self._fresh_until = 0.0
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Read the numbers, unless they were read a moment ago."""
        clock = asyncio.get_running_loop().time
        async with self._reading:
            if clock() < self._fresh_until:
                return
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    self._found = await self._backlogs.list_backlogs()
            except (Overloaded, TimeoutError):
                self._found = None
            self._fresh_until = clock() + _FRESH_SECONDS

    def collect(self) -> Iterator[Metric]:
        if self._found is None:
            return
        counts: Counter[tuple[str, str]] = Counter()
        ages: Counter[str] = Counter()
        in_use = (registry.providers_in_use() for registry in self._registries)
        for provider in frozenset[str]().union(*in_use):
            ages[provider] = 0
            for status in (OutputStatus.QUEUED, OutputStatus.GENERATING):
                counts[provider, status] = 0
        stuck = 0
        for found in self._found:
            provider = provider_of(found.model_id, *self._registries)
            counts[provider, found.status] += found.count
            stuck += found.stuck
            if found.status is OutputStatus.QUEUED:
                ages[provider] = max(ages[provider], round(found.oldest.total_seconds()))
        outputs = GaugeMetricFamily(
            "darkroom_outputs",
            "Unfinished outputs in the database, by provider and status.",
            labels=["provider", "status"],
        )
        for (provider, state), count in counts.items():
            outputs.add_metric([provider, state], count)
        yield outputs
        oldest = GaugeMetricFamily(
            "darkroom_outputs_oldest_queued_seconds",
            "For how long the oldest queued output has been waiting; 0 where none is.",
            labels=["provider"],
        )
        for provider, seconds in ages.items():
            oldest.add_metric([provider], seconds)
        yield oldest
        yield GaugeMetricFamily(
            "darkroom_outputs_stuck",
            "Unfinished outputs that should have ended by now.",
            value=stuck,
        )
