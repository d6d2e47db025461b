"""The checker can fail: a correct history is accepted, and each tampered one is reported."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients import Data
from tests.resilience.evidence import History, SentMutation, SubscriberLog
from tests.resilience.history import violations

Tamper = Callable[[History], object]


def test_a_correct_history_passes(valid_history: History) -> None:
    assert violations(valid_history) == []


def test_a_rewrite_may_be_refused_until_the_caption_before_is_written(tampered: History) -> None:
    refused = copy.deepcopy(_asked(tampered, "regenerateCaption"))
    refused.refusals = ["NOT_RETRYABLE"]
    assert refused.answered_at is not None
    refused.sent_at, refused.answered_at = refused.sent_at - 5, refused.answered_at - 5
    tampered.asked.append(refused)

    assert violations(tampered) == []


def _forget_the_landing(history: History) -> None:
    log = _subscriber(history)
    log.seen[:] = [seen for seen in log.seen if not seen.parent["outputs"][0]["images"]]


def _see_nothing(history: History) -> None:
    _subscriber(history).seen.clear()


def _go_back(history: History) -> None:
    log = _subscriber(history)
    earlier = copy.deepcopy(log.seen[-1])
    earlier.parent["outputs"][0] |= {"status": "GENERATING", "images": []}
    log.seen.insert(-1, copy.deepcopy(log.seen[-1]))
    log.seen.insert(-1, earlier)


def _land_twice(history: History) -> None:
    log = _subscriber(history)
    other = copy.deepcopy(log.seen[-1])
    other.parent["outputs"][0]["images"] = [{"id": "img_of_another_run"}]
    log.seen.insert(-1, other)


def _close_for_good(history: History) -> None:
    _subscriber(history).closes.append((0.0, 1011))


def _report_an_error(history: History) -> None:
    _subscriber(history).errors.append({"extensions": {"code": "INTERNAL"}})


def _report_an_end(history: History) -> None:
    _subscriber(history).completed = True


def _miss_a_caption(history: History) -> None:
    _post_subscriber(history).seen[-1].parent["caption"] = "Half a"


def _never_see_a_post(history: History) -> None:
    _post_subscriber(history).seen.clear()


def _lose_a_caption(history: History) -> None:
    history.stored.posts[0]["caption"] = None


def _write_a_caption_unasked(history: History) -> None:
    history.asked.remove(_asked(history, "regenerateCaption"))


def _retry_an_output_of_a_post_unasked(history: History) -> None:
    retries = [one for one in history.asked if one.mutation == "retryOutput"]
    history.asked.remove(next(one for one in retries if one.result["post"]))


def _double_a_record(history: History) -> None:
    record = copy.deepcopy(_record(history))
    history.stored.images.append(record | {"_id": "img_of_another_run"})


def _lose_a_record(history: History) -> None:
    history.stored.images.remove(_record(history))


def _use_an_image_twice(history: History) -> None:
    outputs = history.stored.turns[0]["outputs"]
    outputs[1]["images"] = copy.deepcopy(outputs[0]["images"])


def _change_a_record(history: History) -> None:
    _record(history)["thumbhash"] = "another"


def _change_a_prompt(history: History) -> None:
    _record(history)["prompt"] = "another"


def _lose_the_bytes(history: History) -> None:
    del history.stored.objects[_record(history)["key"]]


def _cut_the_bytes(history: History) -> None:
    history.stored.objects[_record(history)["key"]] -= 1


def _give_samples_twice(history: History) -> None:
    sample = next(one for one in history.stored.images if one["origin"] == "SAMPLE")
    history.stored.images.append(sample | {"_id": "img_of_another_welcome"})


def _forget_a_viewer(history: History) -> None:
    history.stored.viewers.clear()


def _renumber(history: History) -> None:
    history.stored.turns[0]["turnIndex"] = 7


def _be_stuck(history: History) -> None:
    _output(history)["status"] = "GENERATING"


def _have_no_end(history: History) -> None:
    history.stored.turns[0]["completedAt"] = None


def _hold_on(history: History) -> None:
    _output(history)["leaseUntil"] = history.stored.turns[0]["createdAt"]


def _complete_without_an_image(history: History) -> None:
    _output(history)["images"] = []


def _derive_another_status(history: History) -> None:
    history.stored.turns[0]["status"] = "FAILED"


def _break_by_ourselves(history: History) -> None:
    _output(history).update(status="FAILED", error={"code": "INTERNAL", "retryable": True})


def _cancel_unasked(history: History) -> None:
    _output(history)["status"] = "CANCELLED"


def _leave_out_an_index(history: History) -> None:
    history.stored.conversations[0]["turnCount"] = 2


def _lose_a_conversation(history: History) -> None:
    history.stored.conversations.pop(0)


def _do_a_request_twice(history: History) -> None:
    turn = copy.deepcopy(history.stored.turns[0])
    turn["_id"] = turn["_id"][:-4] + "0001"
    history.stored.turns.append(turn | {"turnIndex": 1})
    history.stored.conversations[0]["turnCount"] = 2


def _lose_an_acknowledged_turn(history: History) -> None:
    history.stored.turns.clear()


def _keep_another_message(history: History) -> None:
    history.stored.turns[0]["userMessage"] = "A blue boat"


def _keep_another_option(history: History) -> None:
    history.stored.turns[0]["options"]["previews"] = 2


def _bring_back_what_was_deleted(history: History) -> None:
    deleted = _asked(history, "deleteConversation").input["conversationId"]
    history.stored.conversations[0]["_id"] = deleted


def _tell_of_a_later_attempt(history: History) -> None:
    asked = _asked(history, "retryOutput")
    for output in asked.result["turn"]["outputs"]:
        output["attempt"] = 9


def _undo_a_cancellation(history: History) -> None:
    assert history.state_log is not None
    output_id = _asked(history, "cancelOutput").input["outputId"]
    for state in history.state_log.outputs[output_id]:
        assert state.output is not None
        state.output["status"] = "QUEUED"


def _break_an_answer(history: History) -> None:
    history.asked[0].failure = "INTERNAL"


def _take_another_input(history: History) -> None:
    misused = next(one for one in history.asked if "IDEMPOTENCY_KEY_REUSED" in one.refusals)
    misused.refusals = ["NOT_FOUND"]


def _answer_with_another_effect(history: History) -> None:
    other = copy.deepcopy(_keyed(history))
    other.result["turn"]["id"] = history.stored.turns[1]["_id"]
    history.asked.append(other)


def _refuse_for_the_twins_effect(history: History) -> None:
    refused = copy.deepcopy(_keyed(history))
    refused.refusals = ["INSUFFICIENT_CREDITS"]
    refused.sent_at += 60
    history.asked.append(refused)


def _refuse_a_retry_for_its_twin(history: History) -> None:
    refused = copy.deepcopy(_asked(history, "retryOutput"))
    refused.refusals = ["NOT_RETRYABLE"]
    history.asked.append(refused)


def _refuse_a_rewrite_for_its_twin(history: History) -> None:
    refused = copy.deepcopy(_asked(history, "regenerateCaption"))
    refused.refusals = ["NOT_RETRYABLE"]
    refused.sent_at += 60
    history.asked.append(refused)


def _retry_without_being_asked(history: History) -> None:
    history.asked.remove(_asked(history, "retryOutput"))


@pytest.mark.parametrize(
    ("tamper", "violation"),
    [
        (_forget_the_landing, "ended with another turn_"),
        (_see_nothing, "never saw turn_"),
        (_go_back, "go back from (1, 2) to (1, 1)"),
        (_land_twice, "land twice"),
        (_close_for_good, "was closed for good, with 1011"),
        (_report_an_error, "received an error"),
        (_report_an_end, "received that what it follows does not exist"),
        (_miss_a_caption, "caption Half a instead of"),
        (_never_see_a_post, "never saw post_"),
        (_lose_a_caption, "was made before there was a caption"),
        (_write_a_caption_unasked, "_0 was tried again 1 times: 0 were asked"),
        (_retry_an_output_of_a_post_unasked, "_2 was tried again 1 times: 0 were asked"),
        (_double_a_record, "has a record, but did not land"),
        (_lose_a_record, "which has no record"),
        (_use_an_image_twice, "an image stands in two outputs"),
        (_change_a_record, "differ"),
        (_change_a_prompt, "does not tell what it was asked with"),
        (_lose_the_bytes, "has a record, but no bytes"),
        (_cut_the_bytes, "bytes of"),
        (_give_samples_twice, "was given 5 samples"),
        (_forget_a_viewer, "was given samples, and was never here"),
        (_renumber, "calls itself number 7"),
        (_be_stuck, "is stuck in GENERATING"),
        (_have_no_end, "has no end"),
        (_hold_on, "a lease still"),
        (_complete_without_an_image, "is COMPLETED with 0 images"),
        (_derive_another_status, "its outputs are"),
        (_break_by_ourselves, "ended FAILED with INTERNAL"),
        (_cancel_unasked, "was cancelled, which nobody has asked for"),
        (_leave_out_an_index, "counts 2, has turns [0]"),
        (_lose_a_conversation, "are there, the conversation is not"),
        (_do_a_request_twice, "one request made 2 turns"),
        (_lose_an_acknowledged_turn, "which is not there"),
        (_keep_another_message, "was acknowledged with userMessage"),
        (_keep_another_option, "was acknowledged with previews"),
        (_bring_back_what_was_deleted, "was acknowledged as deleted, and is there"),
        (_tell_of_a_later_attempt, "which has never been so"),
        (_undo_a_cancellation, "which has never been so"),
        (_break_an_answer, "was answered with INTERNAL"),
        (_take_another_input, "came with another input, and was answered"),
        (_answer_with_another_effect, "was answered with"),
        (_refuse_for_the_twins_effect, "and was refused for INSUFFICIENT_CREDITS"),
        (_refuse_a_retry_for_its_twin, "and was refused for NOT_RETRYABLE"),
        (_refuse_a_rewrite_for_its_twin, "and was refused for NOT_RETRYABLE"),
        (_retry_without_being_asked, "was tried again 1 times: 0 were asked"),
    ],
)
def test_a_tampered_history_fails(tampered: History, tamper: Tamper, violation: str) -> None:
    tamper(tampered)

    assert any(violation in one for one in violations(tampered)), violations(tampered)


def _subscriber(history: History) -> SubscriberLog:
    return history.subscribers[0]


def _post_subscriber(history: History) -> SubscriberLog:
    return next(one for one in history.subscribers if one.followed_id.startswith("post_"))


def _asked(history: History, mutation: str) -> SentMutation:
    return next(one for one in history.asked if one.mutation == mutation and one.acknowledged)


def _keyed(history: History) -> SentMutation:
    return next(one for one in history.asked if one.key and one.acknowledged)


def _output(history: History) -> Data:
    output: Data = history.stored.turns[0]["outputs"][0]
    return output


def _record(history: History) -> Data:
    landed: Any = history.stored.turns[0]["outputs"][0]["images"][0]["id"]
    return next(one for one in history.stored.images if one["_id"] == landed)
