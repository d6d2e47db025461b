"""What is known of a run: requests, responses, updates, records, bills, failures. Facts only, no
judgement.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.credits import Proof
from storage.mongo.collections import PARENTS, UNFINISHED_PARENT
from tests.clients import Data
from tests.resilience.processes import Documents


@dataclass(slots=True)
class Seen:
    """One message of a subscription."""

    at: float
    connection: int
    parent: Data
    """A turn or a post."""


@dataclass(slots=True)
class SubscriberLog:
    """What one subscriber saw, over all of its connections."""

    name: str
    followed_id: str
    """A conversation or a post."""
    from_the_beginning: bool
    """Whether it receives everything: it has a cursor of the start, or follows a post."""
    seen: list[Seen] = field(default_factory=list)
    closes: list[tuple[float, int]] = field(default_factory=list)
    errors: list[Data] = field(default_factory=list)
    completed: bool = False


@dataclass(slots=True, kw_only=True)
class SentMutation:
    """One mutation as it was sent once, and what came of it."""

    viewer: str
    mutation: str
    input: Data
    sent_at: float
    answered_at: float | None = None
    payload: Data | None = None
    refusals: list[str] = field(default_factory=list)
    """Codes, where it was refused."""
    failure: str = ""
    """How it was not answered: a code of the whole request, or a broken connection."""

    @property
    def key(self) -> str | None:
        key: str | None = self.input.get("idempotencyKey")
        return key

    @property
    def acknowledged(self) -> bool:
        return self.payload is not None and not self.refusals

    @property
    def result(self) -> Data:
        """The payload of an acknowledged mutation."""
        assert self.payload is not None
        return self.payload


@dataclass(slots=True)
class Grant:
    """Credits that an operator gave, under a key."""

    viewer_id: str
    key: str
    credits: int
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The accounts as of one moment of the run."""

    at: float
    proof: Proof
    most_active: int
    """The most running outputs that one account had."""


@dataclass(slots=True)
class State:
    """An output after a write: when, by the database's clock, and in which state."""

    at: float
    output: Data | None
    """None: it went with its conversation."""


@dataclass(slots=True)
class StateLog:
    """Every state that every output has had."""

    parents: dict[str, Data] = field(default_factory=dict)
    """What never changes of each turn and post that has ever been, by its id; `createdAt` by the
    feed.
    """
    outputs: dict[str, list[State]] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    """Why the state log is incomplete, if it is."""


@dataclass(slots=True)
class Kill:
    """A process or a server was killed, frozen or cut off."""

    who: str
    kind: str
    """`worker`, `api`, `mongod`, `nats` or `fal`."""
    at: float
    ran_outputs: bool
    stopped: bool = False
    """Stopped in order, and not killed."""
    quiet: bool = False
    """All else was well, and stayed so."""
    ended_after: float = 0.0
    """Seconds until it had ended. One that is killed on a busy machine runs for a moment more."""
    exit_code: int | None = None
    back_at: float | None = None


@dataclass(slots=True)
class Stored:
    """The database and the object store as they are in the end."""

    conversations: list[Data]
    turns: list[Data]
    posts: list[Data]
    images: list[Data]
    viewers: list[Data]
    accounts: list[Data]
    ledger: list[Data]
    objects: dict[str, int]
    """Bytes by key; keys of half-written objects as well."""

    @property
    def parents(self) -> list[Data]:
        """All that has outputs."""
        return [*self.turns, *self.posts]


@dataclass(frozen=True, slots=True)
class Terms:
    """What was configured before."""

    starting_credits: int = 10_000
    max_active_outputs: int = 50


@dataclass(slots=True)
class History:
    """All evidence. What was not recorded is empty, and is not checked."""

    subscribers: list[SubscriberLog]
    asked: list[SentMutation]
    stored: Stored
    state_log: StateLog | None = None
    bill: list[Data] | None = None
    """Every job that the vendor has accepted, from its bill."""
    snapshots: Sequence[Snapshot] = ()
    grants: Sequence[Grant] = ()
    kills: Sequence[Kill] = ()
    terms: Terms = Terms()


async def all_ended(documents: Documents) -> bool:
    """Whether no turn and no post has an output that has not ended."""
    for name in PARENTS.values():
        if await documents[name].find_one({"status": UNFINISHED_PARENT}, {"_id": 1}) is not None:
            return False
    return True


async def read_stored(documents: Documents, data_dir: Path) -> Stored:
    folder = data_dir / "objects"

    async def everything(name: str) -> list[dict[str, Any]]:
        return await documents[name].find().sort("_id", 1).to_list()

    return Stored(
        conversations=await everything("conversations"),
        turns=await everything("turns"),
        posts=await everything("posts"),
        images=await everything("images"),
        viewers=await everything("viewers"),
        accounts=await everything("accounts"),
        ledger=await everything("ledger"),
        objects={
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file()
        },
    )
