"""Subscribers: none misses a delivered state or receives an older state after a newer one."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from domain.outputs import CAPTION_SLOT, OutputStatus
from domain.posts import derive_post_status
from domain.rules import stage_of
from tests.clients import Data
from tests.resilience.evidence import Stored, SubscriberLog
from tests.resilience.followers import is_followed

FINAL_CLOSE_CODES: Final = frozenset({4004, 4005, 4400, 4401, 4406, 4409, 4429, 4500})
"""After these, and after most below 2000, graphql-ws does not reconnect."""
PASSING_CLOSE_CODES: Final = frozenset({1000, 1001, 1005, 1006, 1012, 1013, 1014})


def against_subscriber(subscriber: SubscriberLog, stored: Stored) -> Iterator[str]:
    name = subscriber.name
    for _, code in subscriber.closes:
        if code not in PASSING_CLOSE_CODES and (code in FINAL_CLOSE_CODES or 1000 <= code < 2000):
            yield f"{name} was closed for good, with {code}"
    followed = [*stored.conversations, *stored.posts]
    is_there = any(one["_id"] == subscriber.followed_id for one in followed)
    passing = {"OVERLOADED"} if is_there else {"OVERLOADED", "NOT_FOUND"}
    for error in subscriber.errors:
        if error.get("extensions", {}).get("code") not in passing:
            yield f"{name} received an error: {error}"
    if subscriber.completed and is_there:
        yield f"{name} received that what it follows does not exist"
    yield from _against_order(subscriber)

    known = {seen.parent["id"]: seen.parent for seen in subscriber.seen}
    began = min((seen.at for seen in subscriber.seen), default=None)
    for parent in stored.parents:
        if not is_followed(parent["_id"], by=subscriber):
            continue
        received = known.get(parent["_id"])
        if received is None:
            if subscriber.from_the_beginning or began is None or _time(parent["createdAt"]) > began:
                yield f"{name} never saw {parent['_id']}"
        elif (differences := _differences(received, parent)) != []:
            yield f"{name} ended with another {parent['_id']}: {'; '.join(differences)}"


def _against_order(subscriber: SubscriberLog) -> Iterator[str]:
    reached: dict[str, tuple[int, int]] = {}
    landed: dict[str, list[str]] = {}
    complete: set[str] = set()
    for seen in subscriber.seen:
        for output in seen.parent["outputs"]:
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


def _differences(received: Data, parent: Data) -> list[str]:
    """Between what a subscriber received last and what is stored in the end."""
    outputs = [output for output in parent["outputs"] if output["slot"] != CAPTION_SLOT]
    pairs = [("message", received["userMessage"], parent["userMessage"])]
    pairs.append(("outputs", len(received["outputs"]), len(outputs)))
    if len(outputs) == len(parent["outputs"]):
        pairs.append(("status", received["status"], parent["status"]))
    else:
        pairs += _pairs_of_post(received, parent["outputs"][0], outputs, parent["caption"])
    for seen, output in zip(received["outputs"], outputs, strict=False):
        slot = output["slot"]
        pairs += [
            (f"{slot}.status", seen["status"], output["status"]),
            (f"{slot}.text", seen["text"], output["text"]),
            (
                f"{slot}.images",
                [image["id"] for image in seen["images"]],
                [image["id"] for image in output["images"]],
            ),
            (f"{slot}.error", _code(seen["error"]), _code(output["error"])),
        ]
    return [f"{what} {saw} instead of {is_}" for what, saw, is_ in pairs if saw != is_]


def _pairs_of_post(
    received: Data, caption: Data, outputs: Sequence[Data], landed: str | None
) -> list[tuple[str, Any, Any]]:
    statuses = [OutputStatus(output["status"]) for output in outputs]
    wanted = caption["text"] if caption["status"] == "COMPLETED" else landed or caption["text"]
    return [
        (
            "status",
            received["status"],
            derive_post_status(OutputStatus(caption["status"]), statuses),
        ),
        ("caption", received["caption"], wanted or ""),
        ("captionError", _code(received["captionError"]), _code(caption["error"])),
    ]


def _code(error: Data | None) -> str | None:
    return str(error["code"]) if error else None


def _time(value: Any) -> float:
    assert isinstance(value, datetime)
    return value.timestamp()
