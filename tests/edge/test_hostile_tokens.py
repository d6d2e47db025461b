"""Tokens of unknown issuers, and signed ones with unusual claims, at a Darkroom in production."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import structlog

from tests.conftest import Darkroom, darkrooms
from tests.test_identity_providers import LocalIssuer, in_production, issuing, viewer_of

UNKNOWN_KEYS: Final = 60
BIG: Final = 20_000
HEADERS: Final = {
    "deep lists": b"[" * BIG,
    "deep objects": b'{"a":' * (BIG // 5),
    "a long number": b'{"alg":"RS256","kid":' + b"9" * BIG + b"}",
    "a number beyond all": b'{"alg":"RS256","kid":"a","x":1e999999}',
    "no object": b'"RS256"',
    "a kid that is no text": b'{"alg":"RS256","kid":["a"]}',
    "a long kid": b'{"alg":"RS256","kid":"' + b"k" * BIG + b'"}',
    "half a letter": b'{"alg":"RS256","kid":"\\ud800"}',
    "algorithms": b'{"alg":["none","RS256"],"kid":"a"}',
    "none": b'{"alg":"none","kid":"ins_2abc"}',
    "a symmetric algorithm": b'{"alg":"HS256","kid":"ins_2abc"}',
    "a key of its own": b'{"alg":"RS256","kid":"a","jwk":{"kty":"oct","k":"YQ"},"jku":"http://x/"}',
    "what is critical": b'{"alg":"RS256","kid":"ins_2abc","crit":7}',
    "bytes": bytes(range(256)),
}
CLAIMS: Final[dict[str, dict[str, Any]]] = {
    "an end that is text": {"exp": "tomorrow"},
    "an end beyond time": {"exp": 1e300},
    "an end that never comes": {"exp": float("inf")},
    "an end that is a list": {"exp": [1]},
    "an end that is true": {"exp": True},
    "a long number as its end": {"exp": 10**60},
    "a beginning that is text": {"iat": "now"},
    "a beginning in the year 3000": {"iat": 32_503_680_000, "nbf": 32_503_680_000},
    "a subject that is a number": {"sub": 7},
    "a subject that is a list": {"sub": ["ana"]},
    "a long subject": {"sub": "x" * 10_000},
    "an operator as its subject": {"sub": {"$gt": ""}},
    "no subject": {"sub": None},
    "another issuer": {"iss": "https://id.example.com"},
    "an audience": {"aud": ["x"] * 500},
}


@pytest.fixture(scope="module")
async def site(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Darkroom, LocalIssuer]]:
    folder: Path = tmp_path_factory.mktemp("tokens")
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        start = await stack.enter_async_context(darkrooms(mongodb_uri, folder))
        yield await in_production(start, issuer.issuer), issuer


async def status_with(darkroom: Darkroom, token: str) -> int:
    client = darkroom.anonymous()
    answer = await client.post({"query": "{ __typename }"}, authorization=f"Bearer {token}")
    assert "INTERNAL" not in answer.text
    return answer.status_code


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
async def test_any_token_header_is_refused_without_an_error(
    site: tuple[Darkroom, LocalIssuer], header: bytes
) -> None:
    darkroom, _ = site
    claims = encoded(json.dumps({"sub": "ana"}).encode())

    with structlog.testing.capture_logs() as logs:
        for signature in ("", "eA", "x" * 500):
            token = f"{encoded(header)}.{claims}.{signature}"
            assert await status_with(darkroom, token) == 401

    assert {line["event"] for line in logs} == {"token refused"}


@pytest.mark.parametrize("claims", CLAIMS.values(), ids=CLAIMS)
async def test_any_signed_claims_are_refused_without_an_error(
    site: tuple[Darkroom, LocalIssuer], claims: dict[str, Any]
) -> None:
    darkroom, issuer = site
    token = issuer.token({"sub": "ana", **claims}, life=60)

    assert await status_with(darkroom, token) == 401


async def test_tokens_with_unknown_keys_do_not_query_the_issuer_repeatedly(
    site: tuple[Darkroom, LocalIssuer],
) -> None:
    darkroom, issuer = site
    good = issuer.token({"sub": "ana"}, life=60)
    viewer_id = await viewer_of(darkroom, good)
    asked = len(issuer.asked)

    statuses = await asyncio.gather(
        *(
            status_with(darkroom, issuer.token({"sub": "ana"}, life=60, kid=f"key {number}"))
            for number in range(UNKNOWN_KEYS)
        )
    )

    assert set(statuses) == {401}
    assert len(issuer.asked) - asked <= 2  # the metadata, and the keys
    assert await viewer_of(darkroom, good) == viewer_id
