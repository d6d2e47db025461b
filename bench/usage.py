"""What the processes of a site use: processor time, memory, and operations of the database."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.resilience.sites import Site

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_COUNTED: Final = ("insert", "query", "update", "delete", "getmore", "command")


@dataclass(frozen=True, slots=True)
class Usage:
    """Since the start, between two readings, or per second."""

    seconds: float = 0.0
    api: float = 0.0
    """Seconds of processor time of all API processes, with what they start."""
    worker: float = 0.0
    mongod: float = 0.0
    operations: float = 0.0

    def __sub__(self, other: "Usage") -> "Usage":
        return self + other * -1

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    def __mul__(self, factor: float) -> "Usage":
        return Usage(*(value * factor for value in _values(self)))

    def beyond(self, idle: "Usage") -> "Usage":
        """Without what is used when nothing happens, given per second."""
        return self - idle * self.seconds

    @property
    def processor(self) -> float:
        return self.api + self.worker + self.mongod


def _values(usage: Usage) -> list[float]:
    return list(asdict(usage).values())


async def read_usage(site: Site) -> Usage:
    at = time.monotonic()
    assert site.mongod.pid is not None
    counters = (await site.documents.command("serverStatus"))["opcounters"]
    return Usage(
        seconds=at,
        api=sum(processor_seconds(one.pid) for one in site.apis if one.pid),
        worker=sum(processor_seconds(one.pid) for one in site.workers if one.pid),
        mongod=processor_seconds(site.mongod.pid),
        operations=sum(counters[name] for name in _COUNTED),
    )


def processor_seconds(pid: int) -> float:
    """Of all threads, and of all processes that it has started, also of those that have ended."""
    # The fields after the name, which is in brackets: of itself, and of children that have ended.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / _TICKS
    return own + sum(map(processor_seconds, _children(pid)))


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line) * 1024


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found
