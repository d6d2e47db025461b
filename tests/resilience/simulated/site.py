"""Shared by all processes of a history: the model, the vendor, the bytes, and the connections to
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Protocol

from domain.captions import CaptionModel, CaptionModelRegistry
from domain.claims import Hint
from domain.errors import ObjectMissing
from domain.execution.sweeper import Sweeper
from domain.ids import ModelId
from domain.models import ImageModel, ModelRegistry, Scene
from tests.resilience.simulated.faults import FaultInjector
from tests.resilience.simulated.invariants import Invariants
from tests.resilience.simulated.model.claims import Claims
from tests.resilience.simulated.model.repositories import Conversations, Outputs, Posts, Receipts
from tests.resilience.simulated.model.tables import Tables
from tests.resilience.simulated.network import Line, database_line, store_line
from tests.resilience.simulated.vendor import AGAIN, Vendor
from tests.resilience.simulated.world import Process

LEASE: Final = timedelta(seconds=5)
"""Shorter than in production, in proportion to the heartbeat, so that a history is short."""
HEARTBEAT: Final = timedelta(seconds=LEASE.total_seconds() / 3)
SWEEP_SECONDS: Final = 2.5
"""The longest between two."""
MAX_QUEUED: Final = timedelta(seconds=60)
FAMILIES: Final = ("queue-a", "queue-b", "direct-a", "free-a")
"""Models, each with another one for retries. The first word is the provider's."""
WRITERS: Final = ("direct-writer", "free-writer")
OTHER_ROUTES: Final = {"queue": "direct", "direct": "queue"}
"""The next provider if one has certainly accepted nothing. Both send one bill."""
ONE_AT_A_TIME: Final = ("queue-b", "direct-a")
_DOUBLED: Final = 0.1
"""Hints that are carried twice."""


class Bucket:
    """The object store's bytes; reports deletions."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.when_deleted: list[Callable[[Sequence[str]], object]] = []

    def put(self, key: str, data: bytes) -> None:
        self.kept[key] = data

    def get(self, key: str) -> bytes:
        if key not in self.kept:
            raise ObjectMissing
        return self.kept[key]

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.kept.pop(key, None)
        for tell in self.when_deleted:
            tell(keys)


@dataclass(frozen=True, slots=True)
class Parts:
    """What may be replaced by a naive variant of it."""

    tables: type[Tables] = Tables
    claims: type[Claims] = Claims
    outputs: type[Outputs] = Outputs
    posts: type[Posts] = Posts
    conversations: type[Conversations] = Conversations
    receipts: type[Receipts] = Receipts
    bucket: type[Bucket] = Bucket
    sweeper: type[Sweeper] | None = Sweeper


class Resident(Protocol):
    """What the site has to know of a process that lives there."""

    process: Process
    answers: bool
    is_stopping: bool

    @property
    def runs(self) -> bool: ...

    def take(self, hint: Hint) -> None: ...

    def stop(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Site:
    injector: FaultInjector
    parts: Parts
    tables: Tables
    vendor: Vendor
    bucket: Bucket
    invariants: Invariants
    database: Line
    store: Line
    registry: ModelRegistry
    caption_models: CaptionModelRegistry
    places: int
    """How many runs of each provider a process may have."""
    starting_credits: int
    max_active_outputs: int
    residents: list[Resident] = field(default_factory=list)
    """Those that are alive."""

    def go_away(self, seconds: float) -> None:
        """No process can reach the database."""
        self.database.away_until = self.injector.world.now + seconds
        self.database.is_long_away = seconds > SWEEP_SECONDS
        for resident in self.residents:
            noticed = self.database.is_long_away
            self.injector.inject(resident.process, "without a database", noticed=noticed)

    def fall_behind(self, seconds: float, *, fails_over: bool = False) -> None:
        """The primary writes alone: a majority has what was there before, and gets the rest; or
        another primary takes over, which has nothing of it.
        """
        self.database.behind_until = self.injector.world.now + seconds
        self.database.fails_over = fails_over
        self.tables.fall_behind()
        self.injector.world.after(seconds, self.come_back)

    def come_back(self) -> None:
        """The outage or the lag of the database ends."""
        self.database.away_until = 0.0
        if self.database.behind_until > 0 and self.database.fails_over:
            self.injector.world.note("database", "fails over")
            self.database.epoch += 1
            self.tables.roll_back()
            for resident in self.residents:
                self.injector.inject(resident.process, "what it did is rolled back")
        else:
            self.tables.catch_up()
        self.database.behind_until = 0.0

    def carry(self, hint: Hint) -> None:
        """Carry a hint to one of those that run outputs, or lose it, or carry it twice."""
        injector = self.injector
        if injector.random.random() < injector.fault_rates.hints:
            return
        for _ in range(1 + (injector.random.random() < _DOUBLED)):
            injector.world.after(injector.pause(), self._deliver, hint)

    def _deliver(self, hint: Hint) -> None:
        takers = [one for one in self.residents if one.runs and not one.is_stopping]
        if takers:
            self.injector.random.choice(takers).take(hint)


def a_site(
    injector: FaultInjector,
    *,
    parts: Parts | None = None,
    deadline: timedelta = timedelta(seconds=30),
    places: int = 100,
    starting_credits: int = 1000,
    max_active_outputs: int = 50,
) -> Site:
    """An empty database and an empty bucket, watched by the invariants."""
    parts = parts or Parts()
    tables, bucket, vendor = (
        parts.tables(lambda: injector.world.now),
        parts.bucket(),
        Vendor(injector),
    )
    invariants = Invariants(injector.world, tables, vendor, bucket.kept, LEASE.total_seconds())
    tables.observer = invariants
    bucket.when_deleted.append(invariants.check_discarded)
    vendor.when_cancelled.append(invariants.check_cancelled)
    vendor.when_taken.append(invariants.check_bill)
    return Site(
        injector=injector,
        parts=parts,
        tables=tables,
        vendor=vendor,
        bucket=bucket,
        invariants=invariants,
        database=database_line(injector),
        store=store_line(injector),
        registry=_a_registry(deadline),
        caption_models=_caption_models(deadline),
        places=places,
        starting_credits=starting_credits,
        max_active_outputs=max_active_outputs,
    )


def _caption_models(deadline: timedelta) -> CaptionModelRegistry:
    return CaptionModelRegistry(
        CaptionModel(
            id=ModelId(name),
            label=name,
            description="",
            company="",
            provider=name.partition("-")[0],
            deadline=deadline,
        )
        for name in WRITERS
    )


def _a_registry(deadline: timedelta) -> ModelRegistry:
    rows = [
        ImageModel(
            id=ModelId(name),
            label=name,
            description="",
            company="",
            provider=name.partition("-")[0],
            scenes=frozenset(Scene),
            max_references=2,
            max_images=2,
            images_per_run=1 if family in ONE_AT_A_TIME else None,
            supports_previews=True,
            deadline=deadline,
        )
        for family in FAMILIES
        for name in (family, family + AGAIN)
    ]
    return ModelRegistry(
        replace(row, other_routes=(replace(row, provider=other),))
        if (other := OTHER_ROUTES.get(row.provider))
        else row
        for row in rows
    )
