"""Records every state of every output from the database's own log.

What must stay true: no state is left out. The database keeps each document as it stood after each
write, so that a reader who comes late reads what was, and not what is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from bson import Timestamp
from pymongo.errors import OperationFailure, PyMongoError

from domain.ids import PostId, TurnId, output_id_of
from tests.clients import Data
from tests.resilience.evidence import State, StateLog
from tests.resilience.load import end
from tests.resilience.processes import Documents
from tests.waits import eventually

CATCH_UP_SECONDS: Final = 30.0
_HISTORY_LOST: Final = 286
_COLLECTIONS: Final = ("turns", "posts")
_OF_PARENT: Final = (
    "ownerId",
    "userMessage",
    "turnIndex",
    "selectedModels",
    "options",
    "createdAt",
)
_OF_OUTPUT: Final = (
    "slot",
    "waits",
    "model",
    "status",
    "attempt",
    "fence",
    "runs",
    "leaseUntil",
    "notBefore",
    "queuedAt",
    "startedAt",
    "deadlineAt",
    "deadlineSeconds",
    "completedAt",
    "creditsReserved",
    "creditsCharged",
    "error",
    "images.id",
    "references.image.id",
)
"""Progress and previews are left out: they tell of a run, and decide nothing."""
_PIPELINE: Final[list[dict[str, Any]]] = [
    {"$match": {"ns.coll": {"$in": _COLLECTIONS}}},
    {
        "$project": {
            "operationType": 1,
            "documentKey": 1,
            "wallTime": 1,
            "clusterTime": 1,
            "fullDocument._id": 1,
            **{f"fullDocument.{name}": 1 for name in _OF_PARENT},
            **{f"fullDocument.outputs.{name}": 1 for name in _OF_OUTPUT},
        }
    },
]


class StateRecorder:
    def __init__(self, documents: Documents) -> None:
        self.state_log = StateLog()
        self._documents = documents
        self._token: Any = None
        self._reached = Timestamp(0, 0)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write until the block ends; to be opened before the first turn is made."""
        for name in _COLLECTIONS:
            await self._documents.command(
                {"collMod": name, "changeStreamPreAndPostImages": {"enabled": True}}
            )
        begin = await self._now()
        task = asyncio.create_task(self._write(begin), name="recorder")
        try:
            yield
        finally:
            await end([task])

    async def caught_up(self) -> None:
        """Wait until everything is written down that has happened so far."""
        until = await self._now()

        async def reached() -> bool:
            return self._reached >= until or bool(self.state_log.gaps)

        await eventually(reached, within=CATCH_UP_SECONDS, what="the state log is up to date")

    async def _now(self) -> Timestamp:
        # A separate write, so that the feed has something to report at or after this moment.
        await self._documents["state_log"].update_one({"_id": 1}, {"$inc": {"looks": 1}}, True)
        answer = await self._documents.command("ping")
        now: Timestamp = answer["operationTime"]
        return now

    async def _write(self, begin: Timestamp) -> None:
        while True:
            where: dict[str, Any] = (
                {"resume_after": self._token}
                if self._token is not None
                else {"start_at_operation_time": begin}
            )
            try:
                async with await self._documents.watch(
                    _PIPELINE, full_document="required", max_await_time_ms=500, **where
                ) as stream:
                    while stream.alive:
                        change = await stream.try_next()
                        self._token = stream.resume_token
                        if change is not None:
                            self._take(change)
                            self._reached = max(self._reached, change["clusterTime"])
                        else:
                            # Nothing more for now: everything before this read has been reported.
                            self._reached = max(self._reached, _time_of(self._token))
            except OperationFailure as error:
                if error.code == _HISTORY_LOST or "NoMatchingDocument" in str(error):
                    self.state_log.gaps.append(f"the state log lost track: {error.code}")
                    return
                await asyncio.sleep(0.2)
            except PyMongoError:
                await asyncio.sleep(0.2)

    def _take(self, change: Data) -> None:
        at = change["wallTime"].timestamp()
        found = change["documentKey"]["_id"]
        parent_id = PostId(found) if found.startswith("post_") else TurnId(found)
        if change["operationType"] == "delete":
            outputs_of = output_id_of(parent_id, 0).removesuffix("0")
            for name, states in self.state_log.outputs.items():
                if name.startswith(outputs_of):
                    states.append(State(at, None))
            return
        parent = change["fullDocument"]
        outputs = parent.pop("outputs", [])
        self.state_log.parents.setdefault(parent_id, {**parent, "at": at})
        for output in outputs:
            states = self.state_log.outputs.setdefault(output_id_of(parent_id, output["slot"]), [])
            if not states or states[-1].output != output:
                states.append(State(at, output))


def _time_of(token: Any) -> Timestamp:
    """The cluster time that a resume token begins with."""
    data = bytes.fromhex(token["_data"]) if isinstance(token["_data"], str) else token["_data"]
    with suppress(ValueError):
        return Timestamp(int.from_bytes(data[1:5], "big"), int.from_bytes(data[5:9], "big"))
    return Timestamp(0, 0)
