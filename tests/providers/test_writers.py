"""Remote caption models, each on its simulator: one request gives the same caption everywhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from domain.errors import GenerationErrorCode, NotSubmitted
from tests.official import ask_sdk
from tests.providers.pictures import a_colourful_picture, a_reference
from tests.providers.runs import Stage
from tests.providers.vendors import VENDORS
from tests.providers.writers import MESSAGE, WRITERS, Writing, WritingWitness, rows_of
from tests.simulators.chats import INPUT_TOKENS, OUTPUT_TOKENS

Code = GenerationErrorCode
WRITTEN = f"About {MESSAGE}. It was written by a model, piece by piece. Read on!"


@pytest_asyncio.fixture(params=WRITERS)
async def writing(request: pytest.FixtureRequest, stage: Stage) -> AsyncIterator[Writing]:
    """Each remote writer in turn, on its simulator."""
    async with stage.playing(VENDORS[request.param]) as played:
        yield Writing(WRITERS[request.param], played)


async def test_a_caption_grows_while_it_is_written(writing: Writing) -> None:
    witness = WritingWitness()

    delivery = await writing.writer().write(writing.request("seconds=0.5"), witness)

    assert delivery.text == WRITTEN
    assert delivery.usage is not None
    assert (delivery.usage.input_tokens, delivery.usage.output_tokens) == (
        INPUT_TOKENS,
        OUTPUT_TOKENS,
    )
    assert witness.events[0] == "submitting"
    assert witness.events.count("submitting") == 1
    assert len(witness.texts) > 1
    assert all(WRITTEN.startswith(text) for text in witness.texts)
    assert witness.texts == sorted(set(witness.texts), key=len)
    assert len(writing.played.bill) == 1


async def test_a_response_that_is_not_streamed_is_read(writing: Writing) -> None:
    if writing.played.vendor.name == "gemini":
        pytest.skip("its address says that the answer comes in pieces")

    delivery = await writing.writer().write(writing.request("plain"), WritingWitness())

    assert delivery.text == WRITTEN
    assert delivery.usage is not None


async def test_an_untidy_answer_is_cleaned_up(writing: Writing) -> None:
    delivery = await writing.writer().write(
        writing.request("garbled", hashtags=2), WritingWitness()
    )

    assert delivery.text == f"{WRITTEN}\n#one #two"


async def test_a_truncated_answer_ends_with_a_sentence(writing: Writing) -> None:
    delivery = await writing.writer().write(writing.request("fail=chat-length"), WritingWitness())

    assert delivery.text == WRITTEN.removesuffix(" Read on!")


async def test_a_model_receives_the_requested_options(writing: Writing) -> None:
    reference = await a_reference(writing.played.shelf, a_colourful_picture())
    request = writing.request(
        "", reference, language="pt-BR", tone="warm", hashtags=3, prompts=("lavender",)
    )

    await writing.writer().write(request, WritingWitness())

    sent = writing.played.bill[0].payload["sent"]
    texts = json.dumps(sent)
    assert MESSAGE in texts
    assert "social media" in texts
    assert "data:image/" in texts or '"mimeType": "image/' in texts


@pytest.mark.parametrize("name", WRITERS)
async def test_every_caption_model_can_be_requested(name: str, stage: Stage) -> None:
    rows = rows_of(name)
    assert rows
    async with stage.playing(VENDORS[name]) as played:
        writing = Writing(WRITERS[name], played)
        for row in rows:
            request = replace(writing.request(max_length=2_200), model=row)
            delivery = await writing.writer().write(request, WritingWitness())
            assert delivery.text == WRITTEN


async def test_a_refusal_is_reported_as_such(writing: Writing) -> None:
    for script in writing.vendor.refusals:
        witness = WritingWitness()
        failure = await writing.failed(writing.request(script), witness)
        assert (failure.code, failure.retryable) == (Code.CONTENT_REFUSED, False), script
        assert MESSAGE not in failure.detail
        assert not any("sorry" in text for text in witness.texts), script


async def test_failures_have_their_codes(writing: Writing) -> None:
    for script, code in writing.vendor.failures.items():
        failure = await writing.failed(writing.request(script))
        assert failure.code == code, (script, failure.detail)
        assert MESSAGE not in failure.detail


async def test_an_empty_answer_is_no_caption(writing: Writing) -> None:
    failure = await writing.failed(writing.request("fail=chat-nothing"))

    assert (failure.code, failure.retryable) == (Code.PROVIDER_BAD_RESPONSE, True)


@pytest.mark.parametrize("script", ["submit=429", "submit=503"])
async def test_a_rejected_request_may_be_retried(writing: Writing, script: str) -> None:
    failure = await writing.failed(writing.request(script))

    assert isinstance(failure, NotSubmitted)
    assert not writing.played.bill


@pytest.mark.parametrize("script", ["cut=0", "cut=700", "early", "submit=504", "submit=502"])
async def test_a_request_that_may_have_been_accepted_has_an_unknown_outcome(
    writing: Writing, script: str
) -> None:
    failure = await writing.failed(writing.request(script))

    assert not isinstance(failure, NotSubmitted)
    assert (failure.code, failure.nothing_taken) == (Code.OUTCOME_UNKNOWN, False)


async def test_a_failed_connection_means_that_nothing_was_requested(writing: Writing) -> None:
    witness = WritingWitness()

    failure = await writing.failed(writing.request(), witness, url="http://127.0.0.1:9")

    assert isinstance(failure, NotSubmitted)
    assert witness.events == ["submitting"]


async def test_a_stream_that_stalls_times_out(writing: Writing) -> None:
    witness = WritingWitness()

    failure = await writing.failed(writing.request("hang=running", seconds_left=0.6), witness)

    assert failure.code is Code.TIMED_OUT
    assert witness.texts


async def test_a_cancelled_run_closes_its_connection(writing: Writing) -> None:
    witness = WritingWitness()
    writer = writing.writer()
    run = asyncio.create_task(writer.write(writing.request("hang=running"), witness))
    await asyncio.wait_for(witness.has_text.wait(), 10)

    run.cancel()
    await asyncio.wait({run}, timeout=5)

    assert run.cancelled()


async def test_a_stored_job_is_ignored(writing: Writing) -> None:
    failure = await writing.failed(replace(writing.request(), job={"id": "one"}))

    assert failure.code is Code.OUTCOME_UNKNOWN
    assert not writing.played.bill


# --- the providers' own clients


CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Write."},
        {"role": "user", "content": [{"type": "text", "text": MESSAGE}]},
    ],
    "stream": True,
}


def _chat(**more: Any) -> dict[str, Any]:
    script = more.pop("script", "")
    name = more.pop("name")
    system, user = CHAT["messages"]
    text = f"{MESSAGE} [{name} {script}]" if script else MESSAGE
    content = [{"type": "text", "text": text}]
    return {**CHAT, "messages": [system, {**user, "content": content}], **more}


async def test_the_official_client_of_openai_reads_the_same(stage: Stage) -> None:
    usual = {
        "name": "openai",
        "client": "openai",
        "model": "gpt-4.1",
        "max_completion_tokens": 364,
        "stream_options": {"include_usage": True},
    }
    scripts = ["", "fail=chat-filter", "fail=chat-refusal", "fail=model_not_found"]
    asked = [json.dumps(_chat(**usual, script=script)) for script in scripts]
    async with stage.playing(VENDORS["openai"]) as played:
        written, filtered, refused, gone = await ask_sdk(
            "openai", played.url, played.simulator.key, *asked
        )

    assert "".join(event.get("text", "") for event in written) == WRITTEN
    assert {"finish": "stop"} in written
    assert {"usage": INPUT_TOKENS + OUTPUT_TOKENS} in written
    assert {"finish": "content_filter"} in filtered
    assert any("refusal" in event for event in refused)
    assert gone == [{"error": "NotFoundError", "status": 404, "code": "model_not_found"}]


async def test_the_official_client_of_openrouter_reads_the_same(stage: Stage) -> None:
    usual = {"name": "openrouter", "model": "openai/gpt-4.1", "max_tokens": 364}
    scripts = ["", "fail=chat-refusal", "fail=credit"]
    asked = [_chat(**usual, script=script) for script in scripts]
    async with stage.playing(VENDORS["openrouter"]) as played:
        url = f"{played.url}{played.vendor.path}"
        written, refused, unpaid = await ask_sdk(
            "openrouter", url, played.simulator.key, json.dumps(asked)
        )

    total = INPUT_TOKENS + OUTPUT_TOKENS
    assert written == {"text": WRITTEN, "refusal": "", "finish": "stop", "usage": total}
    assert refused["refusal"]
    assert unpaid["status"] == 402


async def test_the_official_client_of_gemini_reads_the_same(stage: Stage) -> None:
    prompts = [MESSAGE, f"{MESSAGE} [gemini fail=SAFETY]", f"{MESSAGE} [gemini fail=503]"]
    asked = json.dumps([(prompt, True) for prompt in prompts])
    async with stage.playing(VENDORS["gemini"]) as played:
        written, refused, away = await ask_sdk(
            "gemini", played.url, played.simulator.key, "gemini-3.6-flash", asked
        )

    assert (written["text"], written["finish"]) == (WRITTEN, "STOP")
    assert refused["finish"] == "SAFETY"
    assert away["status"] == "UNAVAILABLE"
