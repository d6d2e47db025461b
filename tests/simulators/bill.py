"""What a simulated provider has accepted and would charge: an append-only log that outlives its
process.

Each line of its file is an event, written before it is acknowledged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import orjson


@dataclass(slots=True, kw_only=True)
class Entry:
    """One job that was taken."""

    request_id: str
    endpoint: str
    prompt: str
    received_at: float
    """By the wall clock."""
    script: str
    payload: Mapping[str, Any]
    """Without the pictures in it."""
    start_within: float | None
    cancelled_at: float | None = None
    outcome: str | None = None
    """`delivered`, `cancelled`, `expired`, `rejected`, or the type of an error; None until then."""
    billed: bool = False

    @property
    def cancelled(self) -> bool:
        return self.cancelled_at is not None


class Bill:
    """Entries in the order in which they came."""

    def __init__(self, path: Path | None, *, billed_failures: frozenset[str] = frozenset()) -> None:
        """`billed_failures` are the ends that cost something although nothing is delivered."""
        self._billed_failures = billed_failures
        self._entries: dict[str, Entry] = {}
        self._file: TextIO | None = None
        if path is not None:
            if path.exists():
                self._read(path)
            self._file = path.open("a", encoding="utf-8")

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def take(self, entry: Entry) -> None:
        self._entries[entry.request_id] = entry
        self._write("taken", asdict(entry))

    def cancel(self, entry: Entry, at: float) -> None:
        entry.cancelled_at = at
        self._write("cancelled", {"request_id": entry.request_id, "at": at})

    def end(self, entry: Entry, outcome: str) -> None:
        entry.outcome = outcome
        entry.billed = outcome == "delivered" or outcome in self._billed_failures
        self._write(
            "ended",
            {"request_id": entry.request_id, "outcome": outcome, "billed": entry.billed},
        )

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(orjson.dumps({"event": event, **facts}).decode() + "\n")
            self._file.flush()

    def _read(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                facts = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # its process was killed while it wrote; this event was not acknowledged
            event = facts.pop("event")
            if event == "taken":
                self._entries[facts["request_id"]] = Entry(**facts)
                continue
            entry = self._entries[facts["request_id"]]
            if event == "cancelled":
                entry.cancelled_at = facts["at"]
            else:
                entry.outcome, entry.billed = facts["outcome"], facts["billed"]
