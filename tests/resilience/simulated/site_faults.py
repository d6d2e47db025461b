"""Failures of a whole site: processes start, die, stop and freeze, the database becomes
unavailable, and finally all failures end.
"""

from collections.abc import Callable
from itertools import count
from typing import Final

from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.site import Site

_FAULTY_SECONDS: Final = (3.0, 12.0)
"""How long faults are injected, at least and at most."""
_MOST: Final = 3
_AWAY_SECONDS: Final = (2.0, 6.0, 12.0)
_RESTART_SECONDS: Final = (0.1, 1.0, 8.0)


class SiteFaults:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.deaths = 0
        self.faults_ended_at: float | None = None
        """Since when nothing fails, and every process is running."""
        self._world = site.injector.world
        self._random = site.injector.random
        self._numbers = count(1)
        self._deploy_all()
        until = self._random.uniform(*_FAULTY_SECONDS)
        self._plan(until)
        self._world.at(until, self.end)

    def end(self) -> None:
        """End all failures: from here on nothing fails."""
        if self.faults_ended_at is not None:
            return
        self._world.note("faults", "end")
        self.faults_ended_at = self._world.now
        self.site.injector.stop_all()
        self.site.come_back()
        for resident in self.site.residents:
            resident.process.thaw()

    def _deploy_all(self) -> None:
        random = self._random
        if random.random() < 0.4:
            for _ in range(random.choice((1, 2, 2))):
                self._deploy(answers=True, runs=True)
        else:
            for _ in range(random.choice((1, 1, 2))):
                self._deploy(answers=True, runs=False)
            for _ in range(random.choice((1, 2, 2, 3))):
                self._deploy(answers=False, runs=True)

    def _deploy(self, *, answers: bool, runs: bool) -> None:
        kind = "both" if answers and runs else "api" if answers else "worker"
        node = Node(self.site, f"{kind} {next(self._numbers)}", answers=answers, runs=runs)

        def follow() -> None:
            self.deaths += 1
            pause = self._random.choice(_RESTART_SECONDS) * self._random.random()
            self._world.after(pause, lambda: self._deploy(answers=answers, runs=runs))

        self._world.note(node.process.name, "begins")
        if self.faults_ended_at is not None:
            self.faults_ended_at = self._world.now  # the last process that had to be restarted
        node.process.when_it_dies(follow)

    def _plan(self, until: float) -> None:
        random, fault_rates = self._random, self.site.injector.fault_rates
        faults: list[Callable[[], None]] = []
        if fault_rates.dies:
            faults += [self._kill_one, self._stop_one]
        if fault_rates.freezes:
            faults.append(self._freeze_one)
        planned = random.choices(faults, k=random.randrange(_MOST + 1)) if faults else []
        if fault_rates.outages:
            # Once: sweeps, which are as rare here as in production, would miss one of several.
            outages = (self._make_database_unavailable, self._make_database_lag)
            planned.append(random.choice(outages))
        for fault in planned:
            self._world.at(random.uniform(0.0, until), self._make, fault)

    def _make(self, fault: Callable[[], None]) -> None:
        if self.faults_ended_at is None and self.site.residents:
            fault()

    def _kill_one(self) -> None:
        self.site.injector.kill(self._random.choice(self.site.residents).process)

    def _stop_one(self) -> None:
        self._random.choice(self.site.residents).stop()

    def _freeze_one(self) -> None:
        self.site.injector.freeze(self._random.choice(self.site.residents).process)

    def _make_database_unavailable(self) -> None:
        seconds = self._random.choice(_AWAY_SECONDS) * self._random.random()
        self._world.note("database", f"! away for {seconds:.1f} s")
        self.site.go_away(seconds)

    def _make_database_lag(self) -> None:
        seconds = self._random.choice(_AWAY_SECONDS) * self._random.random()
        self._world.note("database", f"! behind for {seconds:.1f} s")
        self.site.fall_behind(seconds, fails_over=self._random.random() < 0.5)
