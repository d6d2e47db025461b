"""Jobs of a simulated provider: their state by the wall clock."""

from dataclasses import dataclass
from math import inf
from pathlib import Path

from tests.simulators.answers import HTML, SVG
from tests.simulators.bill import Entry
from tests.simulators.pictures import black, padded, picture
from tests.simulators.script import Script, fault_at


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What the payload of a job requests."""

    format: str
    ratio: float
    count: int = 1
    rejected: bool = False
    """It requests something unknown, which the job will report."""


@dataclass(slots=True)
class Job:
    """A job that was taken, as far as the wall clock has brought it."""

    entry: Entry
    script: Script
    spec: JobSpec
    starts_at: float
    ends_at: float

    def state(self, now: float) -> str:
        if self.entry.outcome is not None or self.stopped_at <= now or self.ends_at <= now:
            return "COMPLETED"
        return "IN_QUEUE" if now < self.starts_at else "IN_PROGRESS"

    @property
    def stopped_at(self) -> float:
        """When it is ended from outside, if it is: by its client, or by its time limit."""
        cancelled_at = self.entry.cancelled_at
        if cancelled_at is not None and not (
            self.script.stubborn and cancelled_at >= self.starts_at
        ):
            return cancelled_at
        if self.entry.start_within is None:
            return inf
        latest = self.entry.received_at + self.entry.start_within
        return latest if self.starts_at > latest else inf

    def outcome(self, now: float) -> str:
        """What a job that is completed came to."""
        if self.stopped_at <= now and self.stopped_at < self.ends_at:
            return "cancelled" if self.entry.cancelled else "expired"
        if self.spec.rejected:
            return "rejected"
        return self.script.fail or "delivered"

    @property
    def count(self) -> int:
        """How many pictures it makes."""
        return self.spec.count if self.script.images is None else self.script.images

    def file_name(self, index: int) -> str:
        ending = {"jpeg": "jpg"}.get(self.spec.format, self.spec.format)
        return f"{self.entry.request_id}/{index}.{ending}"

    def is_black(self, index: int) -> bool:
        return self.script.black == "all" or str(index) in self.script.black.split(",")

    def picture(self, index: int) -> bytes:
        """The bytes of the picture with this index; the same ones at every request."""
        kind, ratio = self.spec.format, self.spec.ratio
        if self.script.path:
            return Path(self.script.path).read_bytes()
        if self.is_black(index):
            return black(format=kind, ratio=ratio)
        data = picture(f"{self.entry.request_id} {index}", format=kind, ratio=ratio)
        return padded(data, self.script.bytes) if self.script.bytes else data

    def inline_picture(self, index: int) -> bytes:
        """The same for those that come inside of an answer, where the script may spoil them."""
        data = self.picture(index)
        spoilt = {"html": HTML, "svg": SVG, "short": data[: len(data) // 2], "empty": b""}
        return spoilt.get(fault_at(self.script.file, 0), data)
