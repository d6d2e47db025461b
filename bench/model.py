"""The arithmetic of docs/scaling.md: what activity costs each process.

Every cost is a coefficient that `python -m bench.coefficients` has measured, times how often it
happens. Only one grows with the number of API processes: each of them reads every change.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.usage import Usage

COEFFICIENTS: Final = Path(__file__).parent / "coefficients.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """Processor times in seconds. `Usage.seconds` has no meaning here."""

    idle_database: Usage
    """Per second, with no process of ours."""
    idle_api: Usage
    """Of one API process, per second, with what it asks the database."""
    idle_worker: Usage
    landed: Usage
    """An output of a remote provider with a nearly empty image: asked for, run, stored, landed."""
    decoding: Usage
    """What a photograph of 1.6 megapixels, with its thumbnails, takes beyond that."""
    preview: Usage
    upload: Usage
    query: Usage
    """A conversation of three turns, read over HTTP."""
    change: Usage
    """A change with a subscriber, where one process reads the feed."""
    feed_reader: Usage
    """What each further process that reads the feed adds to a change without subscribers there."""
    delivered: Usage
    """One more subscriber of a change."""
    subscriber: Usage
    """An open subscription to which nothing happens, per second."""
    landed_changes: float
    """How many changes of a turn an output comes to."""
    landed_document_bytes: float
    photograph_bytes: float
    """A file of an object store with its thumbnails."""
    api_bytes: float
    worker_bytes: float
    subscriber_bytes: float
    measured: dict[str, str] = field(default_factory=dict)
    """When and where."""

    def write(self, path: Path = COEFFICIENTS) -> None:
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def read(path: Path = COEFFICIENTS) -> "Coefficients":
        stored: dict[str, Any] = json.loads(path.read_text())
        for name, value in stored.items():
            if isinstance(value, dict) and name != "measured":
                stored[name] = Usage(**value)
        return Coefficients(**stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What happens, per second; `subscribers` are open."""

    landed: float = 0.0
    photographs: float = 0.0
    """Those of the landed that are as large as a provider's."""
    previews: float = 0.0
    uploads: float = 0.0
    queries: float = 0.0
    committed: float = 0.0
    """Changes beside those of outputs and previews."""
    subscribers: float = 0.0
    followers: float = 1.0
    """Subscribers of the conversation that changes."""


def changes_of(activity: Activity, costs: Coefficients) -> float:
    return activity.landed * costs.landed_changes + activity.previews + activity.committed


def usage_of(activity: Activity, costs: Coefficients, *, apis: int, workers: int) -> Usage:
    """Per second. Without workers the API processes run outputs."""
    changes = changes_of(activity, costs)
    parts = [
        costs.idle_database,
        costs.idle_api * apis,
        costs.idle_worker * workers,
        costs.landed * activity.landed,
        costs.decoding * activity.photographs,
        costs.preview * activity.previews,
        costs.upload * activity.uploads,
        costs.query * activity.queries,
        costs.change * (changes if activity.followers else 0.0),
        costs.delivered * (changes * max(0.0, activity.followers - 1)),
        costs.feed_reader * (changes * max(0, apis - 1)),
        costs.subscriber * activity.subscribers,
    ]
    return sum(parts, Usage())
