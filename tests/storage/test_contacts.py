"""How long the database has been reachable without a gap, whichever process noted it."""

import asyncio
from datetime import timedelta
from typing import Any, cast

import pytest

from domain.errors import Overloaded
from domain.execution import sweeper
from domain.execution.dispatcher import Dispatcher
from domain.execution.sweeper import Sweeper
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.contacts import MongoContactRepository
from storage.mongo.database import Database

GAP = timedelta(seconds=7.5)
LEASE = timedelta(seconds=2)


async def move_back(database: Database, **by: timedelta) -> None:
    """Set the notes back in time."""
    changes = {
        name: {"$subtract": [f"${name}", round(delta.total_seconds() * 1000)]}
        for name, delta in by.items()
    }
    await database.periodic_jobs.update_one({"_id": "contact"}, [{"$set": changes}])


async def test_a_contact_begins_with_the_first_note(database: Database) -> None:
    assert await MongoContactRepository(database).note(longest_gap=GAP) == timedelta(0)


async def test_notes_of_any_process_continue_a_contact(database: Database) -> None:
    await MongoContactRepository(database).note(longest_gap=GAP)
    await move_back(database, since=timedelta(seconds=20), at=timedelta(seconds=7))

    noted = await MongoContactRepository(database).note(longest_gap=GAP)

    assert timedelta(seconds=20) <= noted < timedelta(seconds=25)


@pytest.mark.parametrize("seconds", [8, 60, 300])
async def test_a_gap_ends_a_contact(database: Database, seconds: int) -> None:
    """Also one that is a step of the database's clock: all leases have expired after it."""
    contacts = MongoContactRepository(database)
    await contacts.note(longest_gap=GAP)
    both = timedelta(seconds=seconds)
    await move_back(database, since=both + timedelta(minutes=5), at=both)

    assert await contacts.note(longest_gap=GAP) == timedelta(0)
    assert await contacts.note(longest_gap=GAP) < timedelta(seconds=5)


async def test_a_clock_that_was_set_back_counts_as_no_time(database: Database) -> None:
    contacts = MongoContactRepository(database)
    await contacts.note(longest_gap=GAP)
    await move_back(database, since=timedelta(minutes=-5), at=timedelta(minutes=-5))

    assert await contacts.note(longest_gap=GAP) == timedelta(0)


class Sweeps:
    """Stands in for a dispatcher, and waits for a sweep that may take expired leases."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.happened = asyncio.Event()
        self.ran_at = 0.0

    async def fill(self) -> None:
        await asyncio.Event().wait()

    async def start_waiting(self, *, expired: bool, **_: object) -> None:
        self.happened.set()
        if expired:
            self.taken.set()


async def test_expired_leases_are_taken_even_if_processes_live_shorter_than_a_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "_EVERY_SECONDS", 0.1)
    sweeps = Sweeps()
    loop = asyncio.get_running_loop()
    began = loop.time()

    starts = 0
    while not sweeps.taken.is_set():
        starts += 1
        one = Sweeper(
            MongoClaimRepository(database),
            cast(Dispatcher, sweeps),
            MongoContactRepository(database),
            lease=LEASE,
        )
        async with one.serve(), asyncio.timeout(20):
            for _ in range(3):
                sweeps.happened.clear()
                await sweeps.happened.wait()

    assert starts > 1
    assert loop.time() - began >= LEASE.total_seconds()


async def test_a_process_that_lost_the_database_waits_for_a_lease(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if others have reached it: this process may have its own claims to renew first."""
    monkeypatch.setattr(sweeper, "_EVERY_SECONDS", 0.1)
    contacts, sweeps, loop = MongoContactRepository(database), Sweeps(), asyncio.get_running_loop()
    await contacts.note(longest_gap=GAP)
    await move_back(database, since=timedelta(minutes=5))
    failures = iter([Overloaded()])

    class Interrupted:
        failed_at = 0.0

        async def note(self, **given: Any) -> timedelta:
            for failure in failures:
                self.failed_at = loop.time()
                raise failure
            return await contacts.note(**given)

    interrupted = Interrupted()
    one = Sweeper(
        MongoClaimRepository(database), cast(Dispatcher, sweeps), interrupted, lease=LEASE
    )
    async with one.serve(), asyncio.timeout(20):
        await sweeps.taken.wait()

    assert loop.time() - interrupted.failed_at >= LEASE.total_seconds()
