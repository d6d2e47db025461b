"""Responses: what was acknowledged exists, and one key has one effect."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from domain.ids import (
    PostId,
    TurnId,
    as_turn_id,
    conversation_of_turn,
    output_id_of,
)
from domain.outputs import CAPTION_SLOT
from tests.clients import Data
from tests.resilience.evidence import History, SentMutation, StateLog

NO_ANSWERS: Final = frozenset({"INTERNAL", "BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"})
AFTER_THE_EFFECT_SECONDS: Final = 2.0
"""Longer than an answer takes that was made up before its twin had its effect."""
_MAKE_TURNS: Final = frozenset({"startConversation", "sendEdit"})
_OF_POSTS: Final = frozenset({"generatePost", "regenerateCaption", "cancelPost", "deletePost"})


def against_answers(history: History) -> Iterator[str]:
    deleted = _deleted(history.asked)
    turns = {turn["_id"]: turn for turn in history.stored.turns}
    conversations = {one["_id"] for one in history.stored.conversations}
    there = {
        turn_id: turn
        for turn_id, turn in turns.items()
        if conversation_of_turn(turn_id) in conversations
    }
    for asked in history.asked:
        if asked.failure in NO_ANSWERS:
            yield f"{asked.mutation} was answered with {asked.failure}"
        if not asked.acknowledged:
            continue
        if asked.mutation in _MAKE_TURNS:
            yield from _against_turn(asked, there, history.state_log, deleted)
        elif asked.mutation == "deleteConversation":
            yield from _against_deletion(asked, history)
        elif asked.mutation in _OF_POSTS:
            yield from _against_post(asked, history, deleted)
        else:
            yield from _against_moves(asked, history.state_log)


def against_keys(history: History) -> Iterator[str]:
    """One key, one effect; and the same response to every request with it."""
    groups: dict[tuple[str, str], list[SentMutation]] = defaultdict(list)
    for asked in history.asked:
        if asked.key is not None:
            groups[asked.viewer, asked.key].append(asked)
    deleted = _deleted(history.asked)
    for (viewer, key), group in groups.items():
        yield from _against_group(f"{key} of {viewer}", group, history, deleted)
    yield from _against_retries(history)


def _against_turn(
    asked: SentMutation, there: Mapping[str, Data], state_log: StateLog | None, deleted: set[str]
) -> Iterator[str]:
    result = asked.result["turn"]
    turn_id = TurnId(result["id"])
    turn = there.get(turn_id)
    if turn is None and conversation_of_turn(turn_id) in deleted:
        if state_log is None:
            return
        turn = state_log.parents.get(turn_id)
    if turn is None:
        yield f"{asked.mutation} was acknowledged with {turn_id}, which is not there"
        return
    wanted = {
        "userMessage": asked.input["userMessage"],
        "turnIndex": result["turnIndex"],
        "selectedModels": asked.input.get("selectedModels")
        or [model["id"] for model in result["selectedModels"]],
    }
    for name, value in wanted.items():
        if turn[name] != value:
            yield f"{turn_id} was acknowledged with {name} {value}, has {turn[name]}"
    for name, value in asked.input["options"].items():
        if turn["options"][name] != value:
            yield f"{turn_id} was acknowledged with {name} {value}"


def _against_deletion(asked: SentMutation, history: History) -> Iterator[str]:
    conversation_id = asked.input["conversationId"]
    if any(one["_id"] == conversation_id for one in history.stored.conversations):
        yield f"{conversation_id} was acknowledged as deleted, and is there"


def _against_post(asked: SentMutation, history: History, deleted: set[str]) -> Iterator[str]:
    there = {post["_id"]: post for post in history.stored.posts}
    if asked.mutation == "deletePost":
        if asked.input["postId"] in there:
            yield f"{asked.input['postId']} was acknowledged as deleted, and is there"
        return
    post_id = asked.result["post"]["id"]
    post = there.get(post_id)
    if post is None and post_id not in deleted:
        yield f"{asked.mutation} was acknowledged with {post_id}, which is not there"
    words = asked.input.get("userMessage")
    if post is not None and words not in (None, post["userMessage"]):
        yield f"{post_id} was acknowledged with other words"


def _against_moves(asked: SentMutation, state_log: StateLog | None) -> Iterator[str]:
    """What the response to a retry or cancellation says has really been so."""
    if state_log is None:
        return
    cancelled = asked.mutation != "retryOutput"
    for output in _moved(asked):
        if cancelled and output["status"] != "CANCELLED":
            continue
        if not _has_been(state_log, output, "CANCELLED" if cancelled else None):
            yield (
                f"{asked.mutation} was acknowledged with attempt {output['attempt']} of "
                f"{output['id']}, which has never been so"
            )


def _moved(asked: SentMutation) -> Sequence[Data]:
    outputs: Sequence[Data] = _parent_of(asked)["outputs"]
    if asked.mutation == "cancelTurn":
        return outputs
    return [output for output in outputs if output["id"] == asked.input["outputId"]]


def _has_been(state_log: StateLog, output: Data, status: str | None) -> bool:
    return any(
        state.output is not None
        and state.output["attempt"] == output["attempt"]
        and status in (None, state.output["status"])
        for state in state_log.outputs.get(output["id"], [])
    )


def _against_group(
    name: str, group: Sequence[SentMutation], history: History, deleted: set[str]
) -> Iterator[str]:
    accepted = [asked for asked in group if asked.acknowledged]
    if not accepted:
        return
    first = accepted[0]
    for asked in group:
        if asked.failure:
            continue
        if asked.input != first.input or asked.mutation != first.mutation:
            if asked.refusals != ["IDEMPOTENCY_KEY_REUSED"]:
                yield f"{name} came with another input, and was answered {asked.refusals}"
        elif asked.acknowledged:
            if _effect(asked) != _effect(first):
                yield f"{name} was answered with {_effect(first)}, and with {_effect(asked)}"
        elif _is_too_late(asked, first, history) and not _is_gone(first, deleted):
            yield f"{name} had its effect, and was refused for {', '.join(asked.refusals)}"


def _effect(asked: SentMutation) -> tuple[str, str]:
    """What a key has done: a turn or post that was made, or an output that was tried again."""
    tried = asked.result["output"]["id"] if asked.mutation == "retryOutput" else ""
    return _parent_of(asked)["id"], tried


def _parent_of(asked: SentMutation) -> Data:
    parent: Data = asked.result.get("turn") or asked.result["post"]
    return parent


def _is_too_late(asked: SentMutation, first: SentMutation, history: History) -> bool:
    """Whether the effect was there when it was refused."""
    if "NOT_RETRYABLE" in asked.refusals and asked.mutation == "retryOutput":
        # The viewer has seen it fail, so it can only be running for a duplicate request.
        return True
    effect_at = _effect_at(first, history)
    if effect_at is None or asked.answered_at is None:
        return False
    return asked.sent_at > effect_at or asked.answered_at > effect_at + AFTER_THE_EFFECT_SECONDS


def _effect_at(asked: SentMutation, history: History) -> float | None:
    if history.state_log is None:
        return None
    if asked.mutation not in ("retryOutput", "regenerateCaption"):
        parent = history.state_log.parents.get(_effect(asked)[0])
        return parent["at"] if parent else None
    return asked.answered_at


def _is_gone(asked: SentMutation, deleted: set[str]) -> bool:
    parent_id = _parent_of(asked)["id"]
    turn_id = as_turn_id(parent_id)
    return (conversation_of_turn(turn_id) if turn_id else parent_id) in deleted


def _against_retries(history: History) -> Iterator[str]:
    """As many attempts as requests for them: one for a key, one for each without."""
    if history.state_log is None:
        return
    sent: dict[str, set[object]] = defaultdict(set)
    accepted: dict[str, set[object]] = defaultdict(set)
    for number, asked in enumerate(history.asked):
        output_id = _tried_again(asked)
        if output_id is not None:
            sent[output_id].add(asked.key or number)
            if asked.acknowledged:
                accepted[output_id].add(asked.key or number)
    for output_id, states in history.state_log.outputs.items():
        outputs = [state.output for state in states if state.output]
        tries = max(output["attempt"] for output in outputs) - 1
        # What waits for a caption is queued again with it.
        with_caption = sum(
            after["attempt"] > before["attempt"] and before["waits"]
            for before, after in pairwise(outputs)
        )
        if not len(accepted[output_id]) <= tries <= len(sent[output_id]) + with_caption:
            yield (
                f"{output_id} was tried again {tries} times: {len(sent[output_id])} were asked "
                f"for, {len(accepted[output_id])} acknowledged"
            )


def _tried_again(asked: SentMutation) -> str | None:
    """The output that a request wants to be tried again, a caption included."""
    if asked.mutation == "retryOutput":
        output_id: str = asked.input["outputId"]
        return output_id
    if asked.mutation == "regenerateCaption":
        return output_id_of(PostId(asked.input["postId"]), CAPTION_SLOT)
    return None


def _deleted(asked: Sequence[SentMutation]) -> set[str]:
    return {
        one.input["conversationId"] for one in asked if one.mutation == "deleteConversation"
    } | {one.input["postId"] for one in asked if one.mutation == "deletePost"}
