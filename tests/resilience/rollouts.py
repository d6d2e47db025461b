"""A rolling upgrade under load: one process after the other is stopped, and comes back as the other
release. It takes the steps of docs/operations.md, workers first, and so from both releases at once.
"""

import asyncio
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from time import time
from typing import Final

from tests.resilience.evidence import Kill
from tests.resilience.processes import ROOT
from tests.resilience.sites import Site
from tests.resilience.storm import stop_and_restart

GAP_SECONDS: Final = 2.0
"""Between two steps, so that a restarted process is used."""


@dataclass(slots=True)
class Rollout:
    site: Site
    other_release: Path
    kills: list[Kill] = field(default_factory=list)
    """Stops, as the checker knows them."""

    async def inject(self, count: int) -> None:
        """How many processes are swapped: each then runs the other release."""
        in_order = [*self.site.workers, *self.site.apis]
        for process in islice(cycle(in_order), count):
            await asyncio.sleep(GAP_SECONDS)
            kind = "worker" if process in self.site.workers else "api"
            ran_outputs = process in self.site.runners
            stop = Kill(process.name, kind, time(), ran_outputs=ran_outputs, stopped=True)
            self.kills.append(stop)
            process.root = self.other_release if process.root == ROOT else ROOT
            await stop_and_restart(stop, process)
        await asyncio.sleep(GAP_SECONDS)
