"""What happened, and the checker that reads all of it.

A history is what subscribers saw, what was acknowledged, and what is stored in the end. The checker
knows nothing of how it came about; it returns one sentence for everything that must not be.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from domain.images import rendition_key
from domain.outputs import OutputStatus
from domain.turns import derive_status
from tests.clients import Data
from tests.resilience.processes import Documents

RANK: Final = {"QUEUED": 0, "GENERATING": 1, "COMPLETED": 2, "FAILED": 2, "CANCELLED": 2}
FINAL_RANK: Final = 2
SAMPLES_PER_VIEWER: Final = 4
FINAL_CLOSE_CODES: Final = frozenset({4004, 4005, 4400, 4401, 4406, 4409, 4429, 4500})
"""After these, and after most below 2000, graphql-ws does not come back."""
PASSING_CLOSE_CODES: Final = frozenset({1000, 1001, 1005, 1006, 1012, 1013, 1014})
LEFTOVER: Final = ".put-"
_MAY_END: Final = {
    "rehearsal-fails": {("FAILED", "PROVIDER_UNAVAILABLE"), ("FAILED", "TIMED_OUT")},
}
_DELIVERS: Final = {("COMPLETED", None), ("FAILED", "TIMED_OUT")}


@dataclass(slots=True)
class Seen:
    """One message of a subscription."""

    at: float
    connection: int
    cursor: str
    turn: Data


@dataclass(slots=True)
class SubscriberLog:
    """What one subscriber saw, over all of its connections."""

    name: str
    conversation_id: str
    from_the_beginning: bool
    """Whether it has followed with a cursor since the conversation was started."""
    seen: list[Seen] = field(default_factory=list)
    closes: list[tuple[float, int]] = field(default_factory=list)
    errors: list[Data] = field(default_factory=list)
    completed: bool = False


@dataclass(slots=True)
class Acknowledged:
    """A mutation that was answered without an error."""

    mutation: str
    input: Data
    payload: Data


@dataclass(slots=True)
class Stored:
    """The database and the object store as they are in the end."""

    conversations: list[Data]
    turns: list[Data]
    images: list[Data]
    viewers: list[Data]
    objects: dict[str, int]
    """Bytes by key; keys of half-written objects as well."""


@dataclass(slots=True)
class History:
    subscribers: list[SubscriberLog]
    acknowledged: list[Acknowledged]
    stored: Stored


async def read_stored(documents: Documents, data_dir: Path) -> Stored:
    folder = data_dir / "objects"
    return Stored(
        conversations=await documents["conversations"].find().to_list(),
        turns=await documents["turns"].find().sort("_id", 1).to_list(),
        images=await documents["images"].find().to_list(),
        viewers=await documents["viewers"].find().to_list(),
        objects={
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file()
        },
    )


def objections(history: History) -> list[str]:
    """Everything that must not be, in sentences."""
    return [
        *_against_turns(history.stored),
        *_against_images(history.stored),
        *_against_bytes(history.stored),
        *_against_samples(history.stored),
        *_against_answers(history),
        *(
            objection
            for subscriber in history.subscribers
            for objection in _against_subscriber(subscriber, history.stored)
        ),
    ]


def orphans(stored: Stored) -> dict[str, int]:
    """Objects that nothing refers to, with their sizes."""
    wanted = set(_keys_referred_to(stored))
    return {key: size for key, size in stored.objects.items() if key not in wanted}


def _against_turns(stored: Stored) -> Iterator[str]:
    indexes: dict[str, list[int]] = defaultdict(list)
    for turn in stored.turns:
        suffix, index = turn["_id"].removeprefix("turn_").split("_")
        indexes[f"conv_{suffix}"].append(int(index))
        if int(index) != turn["turnIndex"]:
            yield f"{turn['_id']} calls itself number {turn['turnIndex']}"
        statuses = [OutputStatus(output["status"]) for output in turn["outputs"]]
        if turn["status"] != derive_status(statuses):
            yield f"{turn['_id']} is {turn['status']}, its outputs are {', '.join(statuses)}"
        if turn["completedAt"] is None:
            yield f"{turn['_id']} has no end"
        for output in turn["outputs"]:
            yield from _against_output(f"{turn['_id']}/{output['slot']}", turn, output)
    for conversation in stored.conversations:
        found = sorted(indexes.pop(conversation["_id"], []))
        if found != list(range(conversation["turnCount"])):
            yield f"{conversation['_id']} counts {conversation['turnCount']}, has turns {found}"
    for conversation_id in indexes:
        yield f"turns of {conversation_id} are there, the conversation is not"
    messages = Counter(turn["userMessage"] for turn in stored.turns)
    for message, count in messages.items():
        if count > 1:
            yield f"one request made {count} turns: {message}"


def _against_output(name: str, turn: Data, output: Data) -> Iterator[str]:
    status, images = output["status"], output["images"]
    if RANK[status] != FINAL_RANK:
        yield f"{name} is stuck in {status}"
        return
    code = output["error"] and output["error"]["code"]
    if (status, code) not in _MAY_END.get(output["model"], _DELIVERS):
        yield f"{name} by {output['model']} ended {status} with {code}"
    wanted = turn["options"]["imagesPerModel"] if status == "COMPLETED" else 0
    if len(images) != wanted:
        yield f"{name} is {status} with {len(images)} images, {wanted} were asked for"
    if output["completedAt"] is None or output["leaseUntil"] is not None:
        yield f"{name} is over, but has no end or a lease still"


def _against_images(stored: Stored) -> Iterator[str]:
    landed = {
        image["id"]: (f"{turn['_id']}/{output['slot']}", turn, output, image)
        for turn in stored.turns
        for output in turn["outputs"]
        for image in output["images"]
    }
    if len(landed) != sum(len(o["images"]) for turn in stored.turns for o in turn["outputs"]):
        yield "an image stands in two outputs"
    made = [record for record in stored.images if record["origin"] == "OUTPUT"]
    counts = Counter(record["_id"] for record in made)
    for image_id in landed.keys() - counts.keys():
        yield f"{landed[image_id][0]} landed {image_id}, which has no record"
    for record in made:
        if record["_id"] not in landed:
            yield f"{record['_id']} of {record['outputId']} has a record, but did not land"
            continue
        if counts[record["_id"]] > 1:
            yield f"{record['_id']} has {counts[record['_id']]} records"
        name, turn, _, image = landed[record["_id"]]
        same = {key: record[key] for key in image if key != "id"}
        if {"id": record["_id"], **same} != image or record["ownerId"] != turn["ownerId"]:
            yield f"{name} and the record of {record['_id']} differ"
        if record["prompt"] != turn["userMessage"]:
            yield f"{record['_id']} does not tell what it was asked with"


def _against_bytes(stored: Stored) -> Iterator[str]:
    for record in stored.images:
        for key in _keys_of(record):
            if key not in stored.objects:
                yield f"{record['_id']} has a record, but no bytes at {key}"
        size = stored.objects.get(record["key"], record["byteSize"])
        if size != record["byteSize"]:
            yield f"{record['_id']} has {size} bytes of {record['byteSize']}"


def _against_samples(stored: Stored) -> Iterator[str]:
    samples = Counter(record["ownerId"] for record in stored.images if record["origin"] == "SAMPLE")
    for viewer_id, count in samples.items():
        if count != SAMPLES_PER_VIEWER:
            yield f"{viewer_id} was given {count} samples"
    if samples.keys() != {viewer["_id"] for viewer in stored.viewers}:
        yield "samples and viewers do not agree"


def _against_answers(history: History) -> Iterator[str]:
    turns = {turn["_id"]: turn for turn in history.stored.turns}
    conversations = {one["_id"] for one in history.stored.conversations}
    for answer in history.acknowledged:
        told = answer.payload["turn"]
        turn = turns.get(told["id"])
        conversation_id = "conv_" + told["id"].split("_")[1]
        if turn is None or conversation_id not in conversations:
            yield f"{answer.mutation} was acknowledged with {told['id']}, which is not there"
            continue
        wanted = {
            "userMessage": answer.input["userMessage"],
            "turnIndex": told["turnIndex"],
            "selectedModels": answer.input.get("selectedModels")
            or [model["id"] for model in told["selectedModels"]],
        }
        for name, value in wanted.items():
            if turn[name] != value:
                yield f"{told['id']} was acknowledged with {name} {value}, has {turn[name]}"
        for name, value in answer.input["options"].items():
            if turn["options"][name] != value:
                yield f"{told['id']} was acknowledged with {name} {value}"


def _against_subscriber(subscriber: SubscriberLog, stored: Stored) -> Iterator[str]:
    name = subscriber.name
    for _, code in subscriber.closes:
        if code not in PASSING_CLOSE_CODES and (code in FINAL_CLOSE_CODES or 1000 <= code < 2000):
            yield f"{name} was closed for good, with {code}"
    for error in subscriber.errors:
        if error.get("extensions", {}).get("code") != "OVERLOADED":
            yield f"{name} was told an error: {error}"
    if subscriber.completed:
        yield f"{name} was told that the conversation is gone"
    yield from _against_order(subscriber)

    known = {seen.turn["id"]: seen.turn for seen in subscriber.seen}
    began = min((seen.at for seen in subscriber.seen), default=None)
    for turn in stored.turns:
        if "conv_" + turn["_id"].split("_")[1] != subscriber.conversation_id:
            continue
        told = known.get(turn["_id"])
        if told is None:
            if subscriber.from_the_beginning or began is None or _time(turn["createdAt"]) > began:
                yield f"{name} never saw {turn['_id']}"
        elif (differences := _differences(told, turn)) != []:
            yield f"{name} ended with another {turn['_id']}: {'; '.join(differences)}"


def _against_order(subscriber: SubscriberLog) -> Iterator[str]:
    reached: dict[str, tuple[int, int]] = {}
    landed: dict[str, list[str]] = {}
    for seen in subscriber.seen:
        for output in seen.turn["outputs"]:
            rank = output["attempt"], RANK[output["status"]]
            before = reached.get(output["id"], rank)
            if rank < before:
                yield f"{subscriber.name} saw {output['id']} go back from {before} to {rank}"
            images = [image["id"] for image in output["images"]]
            if landed.get(output["id"], images) != images:
                yield f"{subscriber.name} saw {output['id']} land twice"
            if images:
                landed[output["id"]] = images
            reached[output["id"]] = max(rank, before)


def _differences(told: Data, turn: Data) -> list[str]:
    pairs = [("status", told["status"], turn["status"])]
    pairs.append(("message", told["userMessage"], turn["userMessage"]))
    pairs.append(("outputs", len(told["outputs"]), len(turn["outputs"])))
    for seen, output in zip(told["outputs"], turn["outputs"], strict=False):
        slot = output["slot"]
        pairs += [
            (f"{slot}.status", seen["status"], output["status"]),
            (f"{slot}.text", seen["text"], output["text"]),
            (
                f"{slot}.images",
                [image["id"] for image in seen["images"]],
                [image["id"] for image in output["images"]],
            ),
            (
                f"{slot}.error",
                seen["error"] and seen["error"]["code"],
                output["error"] and output["error"]["code"],
            ),
        ]
    return [f"{what} {saw} instead of {is_}" for what, saw, is_ in pairs if saw != is_]


def _keys_referred_to(stored: Stored) -> Iterator[str]:
    for record in stored.images:
        yield from _keys_of(record)
    for turn in stored.turns:
        for output in turn["outputs"]:
            if output["preview"]:
                yield output["preview"]["key"]


def _keys_of(record: Data) -> Sequence[str]:
    widths: list[int] = record["renditionWidths"]
    return [record["key"], *(rendition_key(record["key"], width) for width in widths)]


def _time(value: Any) -> float:
    assert isinstance(value, datetime)
    return value.timestamp()
