"""Subscribers: none misses a delivered state or receives an older state after a newer one."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from domain.outputs import OutputStatus
from domain.rules import stage_of
from tests.clients import Data
from tests.resilience.evidence import Stored, SubscriberLog

FINAL_CLOSE_CODES: Final = frozenset({4004, 4005, 4400, 4401, 4406, 4409, 4429, 4500})
"""After these, and after most below 2000, graphql-ws does not reconnect."""
PASSING_CLOSE_CODES: Final = frozenset({1000, 1001, 1005, 1006, 1012, 1013, 1014})


def against_subscriber(subscriber: SubscriberLog, stored: Stored) -> Iterator[str]:
    name = subscriber.name
    for _, code in subscriber.closes:
        if code not in PASSING_CLOSE_CODES and (code in FINAL_CLOSE_CODES or 1000 <= code < 2000):
            yield f"{name} was closed for good, with {code}"
    is_there = any(one["_id"] == subscriber.conversation_id for one in stored.conversations)
    passing = {"OVERLOADED"} if is_there else {"OVERLOADED", "NOT_FOUND"}
    for error in subscriber.errors:
        if error.get("extensions", {}).get("code") not in passing:
            yield f"{name} received an error: {error}"
    if subscriber.completed and is_there:
        yield f"{name} received that the conversation does not exist"
    yield from _against_order(subscriber)

    known = {seen.turn["id"]: seen.turn for seen in subscriber.seen}
    began = min((seen.at for seen in subscriber.seen), default=None)
    for turn in stored.turns:
        if "conv_" + turn["_id"].split("_")[1] != subscriber.conversation_id:
            continue
        received = known.get(turn["_id"])
        if received is None:
            if subscriber.from_the_beginning or began is None or _time(turn["createdAt"]) > began:
                yield f"{name} never saw {turn['_id']}"
        elif (differences := _differences(received, turn)) != []:
            yield f"{name} ended with another {turn['_id']}: {'; '.join(differences)}"


def _against_order(subscriber: SubscriberLog) -> Iterator[str]:
    reached: dict[str, tuple[int, int]] = {}
    landed: dict[str, list[str]] = {}
    complete: set[str] = set()
    for seen in subscriber.seen:
        for output in seen.turn["outputs"]:
            rank = output["attempt"], stage_of(OutputStatus(output["status"]))
            before = reached.get(output["id"], rank)
            if rank < before:
                yield f"{subscriber.name} saw {output['id']} go back from {before} to {rank}"
            images = [image["id"] for image in output["images"]]
            known = landed.get(output["id"], [])
            if images[: len(known)] != known or (output["id"] in complete and images != known):
                yield f"{subscriber.name} saw {output['id']} land twice"
            if output["status"] == "COMPLETED":
                complete.add(output["id"])
            if images:
                landed[output["id"]] = images
            reached[output["id"]] = max(rank, before)


def _differences(received: Data, turn: Data) -> list[str]:
    pairs = [("status", received["status"], turn["status"])]
    pairs.append(("message", received["userMessage"], turn["userMessage"]))
    pairs.append(("outputs", len(received["outputs"]), len(turn["outputs"])))
    for seen, output in zip(received["outputs"], turn["outputs"], strict=False):
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


def _time(value: Any) -> float:
    assert isinstance(value, datetime)
    return value.timestamp()
