"""The order of tests: each process begins with some of the longest, so that none of them starts
last.

pytest-xdist's `worksteal` gives each process an equal part of all tests, in their order.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

LONGEST: Final = (
    "tests/resilience/test_storm.py::test_nothing_is_lost_or_doubled_if_workers",
    "tests/resilience/test_storm.py::test_nothing_is_lost_or_doubled_if_api",
    "tests/resilience/test_killed_in_deletion.py",
    "tests/resilience/test_frozen_database.py",
    "tests/resilience/test_replica_set.py",
    "tests/deploy/test_cluster.py",
    "tests/resilience/test_storm.py::test_a_naive_runner",
    "tests/resilience/test_killed_in_upload.py",
    "tests/resilience/test_bucket_faults.py",
    "tests/resilience/test_webhooks.py",
    "tests/resilience/test_processes.py",
    "tests/resilience/test_killed_with_jobs.py",
)
"""How the ids of the longest begin, the longest first. What shares fixtures stays together."""

Item = TypeVar("Item")


def dealt(items: Sequence[Item], ids: Sequence[str], *, processes: int) -> list[Item]:
    """All items: in each process's part some of the longest come first, then others in order."""
    piles: list[list[Item]] = [[] for _ in range(processes)]
    for number, prefix in enumerate(LONGEST):
        together = [item for item, id_ in zip(items, ids, strict=True) if id_.startswith(prefix)]
        piles[number % processes].extend(together)
    others = [item for item, id_ in zip(items, ids, strict=True) if not id_.startswith(LONGEST)]
    ordered: list[Item] = []
    for number, pile in enumerate(piles):
        size = (len(items) - len(ordered)) // (processes - number)
        count = max(size - len(pile), 0)
        ordered += [*pile, *others[:count]]
        del others[:count]
    return ordered + others
