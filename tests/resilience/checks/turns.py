"""Turns and outputs: each has ended once, in an allowed state."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from domain.ids import (
    PostId,
    TurnId,
    as_post_id,
    as_turn_id,
    conversation_of_turn,
    output_id_of,
    parent_of_output,
)
from domain.outputs import UNFINISHED, OutputStatus
from domain.rules import derive_status
from tests.clients import Data
from tests.resilience.attempts import DELETED, Attempt
from tests.resilience.evidence import History, SentMutation
from tests.resilience.orders import is_sold, may_end_with

_TO_LAND: Final = timedelta(seconds=4)
"""So long before an output's deadline its last runs are given up, and what there is is landed."""
_ENDS_OF_JOBS: Final = frozenset({None, "CONTENT_REFUSED", "TIMED_OUT"})
"""How a job that the vendor has accepted may end if it is not cancelled."""


def against_turns(history: History) -> Iterator[str]:
    stored = history.stored
    indexes: dict[str, list[int]] = defaultdict(list)
    wanted_off = _wanted_off(history.asked)
    for turn in stored.turns:
        conversation_id = conversation_of_turn(TurnId(turn["_id"]))
        indexes[conversation_id].append(int(turn["_id"].rpartition("_")[2]))
        if indexes[conversation_id][-1] != turn["turnIndex"]:
            yield f"{turn['_id']} calls itself number {turn['turnIndex']}"
        statuses = [OutputStatus(output["status"]) for output in turn["outputs"]]
        if turn["status"] != derive_status(statuses):
            yield f"{turn['_id']} is {turn['status']}, its outputs are {', '.join(statuses)}"
        if turn["completedAt"] is None:
            yield f"{turn['_id']} has no end"
        for output in turn["outputs"]:
            yield from _against_output(turn, output, wanted_off)
    for conversation in stored.conversations:
        found = sorted(indexes.pop(conversation["_id"], []))
        if found != list(range(conversation["turnCount"])):
            yield f"{conversation['_id']} counts {conversation['turnCount']}, has turns {found}"
    for left in indexes:
        yield f"turns of {left} are there, the conversation is not"
    yield from _against_doubles(history)


def against_posts(history: History) -> Iterator[str]:
    """Each has ended, with a caption before the first image and with nothing that waits for one."""
    for post in history.stored.posts:
        caption = post["outputs"][0]
        if post["completedAt"] is None:
            yield f"{post['_id']} has no end"
        for output in post["outputs"]:
            output_id = output_id_of(PostId(post["_id"]), output["slot"])
            if output["status"] in UNFINISHED:
                yield f"{output_id} is stuck in {output['status']}"
            if output["images"] and post["caption"] is None:
                yield f"{output_id} was made before there was a caption"
        if caption["status"] == "COMPLETED" and caption["text"] != post["caption"]:
            yield f"{post['_id']} has a caption that did not land"


def against_attempts(attempts: Sequence[Attempt], history: History) -> Iterator[str]:
    """Also those that a later attempt, or a deletion, has left no trace of."""
    wanted_off = _wanted_off(history.asked)
    vendor_was_away = any(kill.kind == "fal" for kill in history.kills)
    for attempt in attempts:
        if attempt.ended_as is None:
            yield f"{attempt.name} has no end"
        elif as_post_id(parent_of_output(attempt.output_id)[0]):
            yield from _against_attempt_of_post(attempt, wanted_off)
        elif attempt.ended_as == DELETED:
            turn_id = as_turn_id(parent_of_output(attempt.output_id)[0])
            if turn_id is None or conversation_of_turn(turn_id) not in wanted_off:
                yield f"{attempt.name} was deleted, which nobody has asked for"
        elif attempt.ended_as == "CANCELLED":
            if attempt.output_id not in wanted_off:
                yield f"{attempt.name} was cancelled, which nobody has asked for"
        elif attempt.code not in may_end_with(attempt.model, attempt.prompt, attempt.number):
            yield f"{attempt.name} by {attempt.model} ended {attempt.ended_as} with {attempt.code}"
        elif attempt.code == "PROVIDER_UNAVAILABLE" and is_sold(attempt.model):
            if not vendor_was_away:
                yield f"{attempt.name} ended {attempt.code}, and the vendor was always there"
        elif attempt.job_ids and attempt.code not in _ENDS_OF_JOBS:
            yield f"{attempt.name} lost its job {attempt.job_ids[-1]}: it ended {attempt.code}"


def _against_attempt_of_post(attempt: Attempt, wanted_off: set[str]) -> Iterator[str]:
    """What waits for a caption may be cancelled with it."""
    both = {parent_of_output(attempt.output_id)[0], attempt.output_id}
    if attempt.ended_as in (DELETED, "CANCELLED"):
        if not both & wanted_off and not attempt.last["waits"]:
            yield f"{attempt.name} ended {attempt.ended_as}, which nobody has asked for"
    elif attempt.code not in may_end_with(attempt.model, attempt.prompt, attempt.number):
        yield f"{attempt.name} by {attempt.model} ended {attempt.ended_as} with {attempt.code}"


def _against_output(turn: Data, output: Data, wanted_off: set[str]) -> Iterator[str]:
    output_id = output_id_of(TurnId(turn["_id"]), output["slot"])
    status, images = output["status"], output["images"]
    if status in UNFINISHED:
        yield f"{output_id} is stuck in {status}"
        return
    code = output["error"] and output["error"]["code"]
    if status == "CANCELLED":
        if output_id not in wanted_off:
            yield f"{output_id} was cancelled, which nobody has asked for"
    elif code not in may_end_with(output["model"], turn["userMessage"], output["attempt"]):
        yield f"{output_id} by {output['model']} ended {status} with {code}"
    wanted = turn["options"]["imagesPerModel"] if status == "COMPLETED" else 0
    may_have_fewer = status == "COMPLETED" and (output_id in wanted_off or _was_late(output))
    if not (1 if may_have_fewer else wanted) <= len(images) <= wanted:
        yield f"{output_id} is {status} with {len(images)} images, {wanted} were asked for"
    if output["completedAt"] is None or output["leaseUntil"] is not None:
        yield f"{output_id} is over, but has no end or a lease still"


def _was_late(output: Data) -> bool:
    """Whether its time was over when some of its images had landed, and others had not."""
    ended, deadline = output["completedAt"], output["deadlineAt"]
    return ended is not None and deadline is not None and ended >= deadline - _TO_LAND


def _against_doubles(history: History) -> Iterator[str]:
    """Each message was sent once, so it makes one turn, however that turn ended."""
    known = history.state_log.parents if history.state_log else {}
    messages = {turn_id: turn["userMessage"] for turn_id, turn in known.items()}
    messages |= {one["_id"]: one["userMessage"] for one in history.stored.parents}
    for message, count in Counter(messages.values()).items():
        if count > 1:
            yield f"one request made {count} turns: {message}"


def _wanted_off(asked: Sequence[SentMutation]) -> set[str]:
    """What a viewer has requested to cancel or delete, with or without a response."""
    found: set[str] = set()
    for one in asked:
        if one.mutation == "cancelOutput":
            found.add(one.input["outputId"])
        elif one.mutation in ("cancelPost", "deletePost"):
            found.add(one.input["postId"])
        elif one.mutation == "deleteConversation":
            found.add(one.input["conversationId"])
        elif one.mutation == "cancelTurn":
            turn_id = TurnId(one.input["turnId"])
            found |= {output_id_of(turn_id, slot) for slot in range(1, 9)}
    return found
