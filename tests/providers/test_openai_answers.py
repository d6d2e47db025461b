"""How errors of OpenAI and Azure are classified, wherever they occur."""

import httpx2
import pytest
from structlog.testing import capture_logs

from domain.errors import GenerationErrorCode, NotSubmitted
from providers.openai.failures import retry_hint
from providers.openai.wire import reply_to
from providers.streaming_json import InlineJson
from providers.synchronous.images_reply import PICTURES
from tests.providers.runs import Played, Witness
from tests.providers.test_openai import azure_of
from tests.providers.vendors import VENDORS
from tests.simulators.openai_answers import FAILURES

Code = GenerationErrorCode
a_run = VENDORS["openai"].run


@pytest.mark.parametrize("previews", [0, 2])
@pytest.mark.parametrize(
    ("script", "code"),
    [
        pytest.param("result=detail", Code.PROVIDER_BAD_RESPONSE, id="200, an error inside"),
        pytest.param("result=strange", Code.PROVIDER_BAD_RESPONSE, id="200, other fields"),
        pytest.param("result=list", Code.PROVIDER_BAD_RESPONSE, id="200, not an object"),
        pytest.param("bare", Code.PROVIDER_BAD_RESPONSE, id="200, images without bytes"),
        pytest.param("fail=filtered", Code.CONTENT_REFUSED, id="refused, the reason inside"),
    ],
)
async def test_a_response_of_openai_is_classified(
    openai: Played, script: str, code: Code, previews: int
) -> None:
    failure = await openai.failed(a_run(script, preview_count=previews))

    assert failure.code is code
    assert len(openai.calls) == 1


@pytest.mark.parametrize(
    ("hint", "wait"), [("1500ms", 1.5), ("12slimit", 12)], ids=["in milliseconds", "of a limit"]
)
async def test_retry_hints_of_openai_are_returned(openai: Played, hint: str, wait: float) -> None:
    failure = await openai.failed(a_run(f"submit=429 retry_after={hint}"))

    assert isinstance(failure, NotSubmitted)
    assert failure.retry_after_seconds == pytest.approx(wait, abs=0.1)


@pytest.mark.parametrize(
    ("script", "previews", "code"),
    [
        pytest.param("hang=running", 2, Code.TIMED_OUT, id="a stream that never ends"),
        pytest.param("hang=running", 0, Code.OUTCOME_UNKNOWN, id="says nothing while it works"),
    ],
)
async def test_a_run_ends_at_its_deadline(
    openai: Played, script: str, previews: int, code: Code
) -> None:
    failure = await openai.failed(a_run(script, preview_count=previews, seconds_left=1.0))

    assert (failure.code, failure.retryable) == (code, True)


async def test_a_204_has_an_unknown_outcome(openai: Played) -> None:
    failure = await openai.failed(a_run("taken submit=204"))

    assert failure.code is Code.OUTCOME_UNKNOWN


def test_a_response_of_an_unknown_type_is_no_delivery() -> None:
    reply, document = reply_to(a_run(), ()), InlineJson(PICTURES)

    shown = reply.take(document, {"type": "image_generation.pondering"})

    assert shown == []
    assert reply.is_empty
    assert reply.failure().code is Code.PROVIDER_BAD_RESPONSE


async def test_a_response_with_only_blocked_pictures_is_a_refusal(openai: Played) -> None:
    failure = await openai.failed(a_run("black=all", image_count=2))

    assert (failure.code, failure.retryable) == (Code.CONTENT_REFUSED, False)


MEANINGS: dict[str, tuple[Code, bool, Code]] = {
    "moderation_blocked": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "content_policy_violation": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "image_content_policy_violation": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "contentFilter": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "content_filter": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "filtered": (Code.CONTENT_REFUSED, False, Code.CONTENT_REFUSED),
    "invalid_value": (Code.PROVIDER_REJECTED_INPUT, False, Code.PROVIDER_REJECTED_INPUT),
    "invalid_image": (Code.PROVIDER_REJECTED_INPUT, False, Code.PROVIDER_REJECTED_INPUT),
    "billing_hard_limit_reached": (
        Code.PROVIDER_AUTHENTICATION,
        False,
        Code.PROVIDER_AUTHENTICATION,
    ),
    "insufficient_quota": (Code.PROVIDER_AUTHENTICATION, False, Code.PROVIDER_AUTHENTICATION),
    "organization_must_be_verified": (
        Code.PROVIDER_AUTHENTICATION,
        False,
        Code.PROVIDER_REJECTED_INPUT,
    ),
    "DeploymentNotFound": (Code.PROVIDER_AUTHENTICATION, False, Code.PROVIDER_AUTHENTICATION),
    "model_not_found": (Code.MODEL_RETIRED, False, Code.MODEL_RETIRED),
    "rate_limit_exceeded": (Code.PROVIDER_RATE_LIMITED, True, Code.PROVIDER_RATE_LIMITED),
    "429": (Code.PROVIDER_RATE_LIMITED, True, Code.PROVIDER_RATE_LIMITED),
    "server_error": (Code.PROVIDER_UNAVAILABLE, True, Code.PROVIDER_UNAVAILABLE),
}

"""As a status, and inside a success."""


TAKES_NOTHING = {"rate_limit_exceeded", "429", "server_error"}


@pytest.mark.parametrize("kind", sorted(FAILURES))
async def test_every_error_code_is_classified(openai: Played, kind: str) -> None:
    code, retryable, inside = MEANINGS[kind]

    failure = await openai.failed(a_run(f"fail={kind}"))
    whole = await openai.failed(a_run(f"fail={kind} late"))
    streamed = await openai.failed(a_run(f"fail={kind} late", preview_count=1))

    assert (failure.code, failure.retryable) == (code, retryable)
    assert (whole.code, streamed.code) == (inside, inside)
    # Only an answered status says for certain that nothing was done.
    assert isinstance(failure, NotSubmitted) == (retryable and kind in TAKES_NOTHING)
    assert not isinstance(whole, NotSubmitted)
    assert not isinstance(streamed, NotSubmitted)


async def test_partial_images_are_kept_if_the_run_fails(openai: Played) -> None:
    witness = Witness()

    failure = await openai.failed(
        a_run("fail=moderation_blocked late", preview_count=3), observer=witness
    )

    assert failure.code is Code.CONTENT_REFUSED
    assert len(witness.previews) == 3


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "3", "retry-after-ms": "2500"}, 2.5),
        ({"retry-after": "3", "retry-after-ms": "soon"}, 3),
        ({"retry-after": "9999999"}, 600),
        ({"retry-after-ms": "999999999"}, 600),
        ({"x-ratelimit-reset-requests": "5s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s"}, 5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m"}, 600),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m120ms"}, 60.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "tomorrow"}, None),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
    ],
)
def test_retry_after_is_parsed(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_hint(httpx2.Headers(headers)) == (seconds and pytest.approx(seconds))


async def test_a_slow_response_is_awaited(openai: Played) -> None:
    for previews in (0, 2):
        delivery = await openai.made(a_run("seconds=0.6", preview_count=previews))
        assert delivery.images


async def test_a_missing_model_is_an_alert(openai: Played) -> None:
    with capture_logs() as logs:
        failure = await openai.failed(VENDORS["azure"].run(model="img-gpt-image-1"))

    assert failure.code is Code.MODEL_RETIRED
    assert [line["log_level"] for line in logs] == ["error"]


async def test_a_missing_deployment_is_an_alert(openai: Played) -> None:
    for api_version in ("preview", "2025-04-01-preview"):
        azure = azure_of(openai, api_version=api_version, deployments={"gpt-image-2": "nobody-s"})
        failure = await openai.failed(a_run(model="img-gpt-image-2"), provider=azure)
        assert failure.code is Code.PROVIDER_AUTHENTICATION
