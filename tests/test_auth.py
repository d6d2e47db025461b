"""Tokens: which viewer they identify, and each reason for refusing one."""

import asyncio
import gzip
import os
import stat
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.errors import Overloaded, Unauthenticated
from domain.ids import viewer_id_of
from edge.auth import LEEWAY, Authenticator, TokenRefused, parse_authorization
from edge.dev_tokens import AUDIENCE, ISSUER, DevelopmentIssuer
from edge.token_keys import ALGORITHMS_OF_KIND, FetchedKeys, StaticKeys
from settings import SettingsError, TokenAlgorithm
from tests.http import open_http
from tests.serving import free_port, serving

ROOT = Path(__file__).parent.parent
ISS = "https://id.example.com/"
AUD = "darkroom"
DAY = 86_400
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def in_seconds(seconds: int) -> int:
    return int(time.time()) + seconds


class Signer:
    """A private key, and what an issuer would publish of it."""

    def __init__(self, key: PrivateKey, algorithm: str, kid: str) -> None:
        self.key, self.algorithm, self.kid = key, algorithm, kid

    @property
    def jwk(self) -> dict[str, Any]:
        to_jwk = jwt.get_algorithm_by_name(self.algorithm).to_jwk
        return {**orjson.loads(to_jwk(self.key.public_key())), "kid": self.kid, "use": "sig"}

    def token(
        self,
        *,
        without: str = "",
        header: dict[str, Any] | None = None,
        algorithm: str | None = None,
        **claims: Any,
    ) -> str:
        now = in_seconds(0)
        all_claims = {"iss": ISS, "aud": AUD, "sub": "ana", "iat": now, "exp": now + 600, **claims}
        all_claims.pop(without, None)
        headers = {"kid": self.kid, **(header or {})}
        headers = {name: value for name, value in headers.items() if value is not None}
        return jwt.encode(
            all_claims, self.key, algorithm=algorithm or self.algorithm, headers=headers
        )


ED25519 = Signer(Ed25519PrivateKey.generate(), "EdDSA", "ed")
P256 = Signer(ec.generate_private_key(ec.SECP256R1()), "ES256", "p256")
RSA = Signer(rsa.generate_private_key(65537, 2048), "RS256", "rsa")
STRANGER = Signer(Ed25519PrivateKey.generate(), "EdDSA", "ed")
SIGNERS = (ED25519, P256, RSA)
KEYS = StaticKeys({"keys": [signer.jwk for signer in SIGNERS]})


@pytest.fixture
def authenticator() -> Authenticator:
    return Authenticator(KEYS, issuer=ISS, audience=AUD)


def unsigned(header: object, claims: object) -> str:
    parts = [orjson.dumps(header), orjson.dumps(claims), b"nothing"]
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def signed_with_the_public_key() -> str:
    """The classic: a public key taken for the secret of a symmetric algorithm."""
    header = {"alg": "HS256", "kid": "rsa", "typ": "JWT"}
    signing_input = unsigned(header, {"iss": ISS, "aud": AUD, "sub": "ana"}).rpartition(".")[0]
    hmac = jwt.get_algorithm_by_name("HS256")
    tag = hmac.sign(signing_input.encode(), orjson.dumps(RSA.jwk))
    return f"{signing_input}.{urlsafe_b64encode(tag).decode().rstrip('=')}"


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.algorithm)
async def test_a_token_identifies_its_viewer_until_it_expires(
    authenticator: Authenticator, signer: Signer
) -> None:
    ends = in_seconds(300)

    viewer = await authenticator.authenticate(signer.token(sub="ana", exp=ends))

    assert viewer.id == viewer_id_of(ISS, "ana")
    assert viewer.expires_at == datetime.fromtimestamp(ends, UTC)


async def test_a_token_needs_one_of_several_audiences(authenticator: Authenticator) -> None:
    await authenticator.authenticate(ED25519.token(aud=["other", AUD]))


async def test_an_expired_token_is_accepted_within_the_leeway(authenticator: Authenticator) -> None:
    await authenticator.authenticate(ED25519.token(exp=in_seconds(-10)))


REFUSALS: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no token": lambda: "abc",
    "two parts": lambda: "abc.def",
    "no JSON inside": lambda: "YWJj.YWJj.YWJj",
    "not ASCII": lambda: "é" * 20,
    "a lone surrogate": lambda: "\ud800",
    "header is a list": lambda: unsigned([], {}),
    "header nested without end": lambda: (
        urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".e30.e30"
    ),
    "too long": lambda: ED25519.token(filler="x" * 8192),
    "algorithm none": lambda: unsigned({"alg": "none", "kid": "ed"}, {"sub": "ana"}),
    "symmetric with the public key": signed_with_the_public_key,
    "algorithm outside the list": lambda: RSA.token(algorithm="RS512"),
    "algorithm of another key": lambda: RSA.token(header={"kid": "p256"}),
    "bad signature": lambda: ED25519.token()[:-8] + "AAAAAAAA",
    "altered claims": lambda: _with_claims_of(ED25519.token(), ED25519.token(sub="eve")),
    "signed by somebody else": STRANGER.token,
    "unknown kid": lambda: ED25519.token(header={"kid": "other"}),
    "no kid, signed by somebody else": lambda: STRANGER.token(header={"kid": None}),
    "kid is no text": lambda: unsigned({"alg": "EdDSA", "kid": 1}, {}),
    "unknown crit": lambda: ED25519.token(header={"crit": ["exp"], "exp": 1}),
    "wrong issuer": lambda: ED25519.token(iss="https://id.example.org/"),
    "no issuer": lambda: ED25519.token(without="iss"),
    "wrong audience": lambda: ED25519.token(aud="other"),
    "no audience": lambda: ED25519.token(without="aud"),
    "expired": lambda: ED25519.token(exp=in_seconds(-60), iat=in_seconds(-120)),
    "no end": lambda: ED25519.token(without="exp"),
    "end is no number": lambda: ED25519.token(exp="tomorrow"),
    "end is text": lambda: ED25519.token(exp=str(in_seconds(60))),
    "end is infinite": lambda: ED25519.token(exp=float("inf")),
    "not yet valid": lambda: ED25519.token(nbf=in_seconds(120)),
    "issued in the future": lambda: ED25519.token(iat=in_seconds(120), exp=in_seconds(180)),
    "time of issue is null": lambda: _raw(iat=None),
    "lives too long": lambda: ED25519.token(exp=in_seconds(DAY + 60)),
    "lives too long, without a time of issue": lambda: ED25519.token(
        without="iat", exp=in_seconds(DAY + 60)
    ),
    "end is no date": lambda: ED25519.token(without="iat", exp=10**18),
    "end is beyond every number": lambda: ED25519.token(without="iat", exp=10**400),
    "issued before every number": lambda: ED25519.token(iat=-(10**400)),
    "no subject": lambda: ED25519.token(without="sub"),
    "empty subject": lambda: ED25519.token(sub=""),
    "subject is no text": lambda: _raw(sub=7),
    "subject is too long": lambda: ED25519.token(sub="x" * 256),
    "a lone surrogate in the subject": lambda: ED25519.token(sub="ana\ud800"),
    "NUL in the subject": lambda: ED25519.token(sub="ana\0"),
    "a line break in the subject": lambda: ED25519.token(sub="ana\nbob"),
    "DEL in the subject": lambda: ED25519.token(sub="ana\x7f"),
    "subject is null": lambda: _raw(sub=None),
    "surrogates everywhere": lambda: ED25519.token(iss="\ud800", aud=["\udfff"], azp="\ud800"),
    "surrogates in the audience": lambda: ED25519.token(aud=["\udfff"]),
    "audience is an object": lambda: ED25519.token(aud={"darkroom": True}),
    "audiences that are no text": lambda: ED25519.token(aud=["darkroom", 1]),
    "issuer is a list": lambda: _raw(iss=[ISS]),
    "claims are a list": lambda: _signed(b"[]"),
    "claims nested without end": lambda: _signed(b"[" * 5000),
    "crit is empty": lambda: ED25519.token(header={"crit": []}),
    "crit names what PyJWT knows": lambda: ED25519.token(header={"crit": ["b64"], "b64": True}),
}


def _with_claims_of(token: str, other: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{other.split('.')[1]}.{signature}"


def _raw(**claims: Any) -> str:
    """Signed without the library's own look at the claims."""
    now, end = in_seconds(0), in_seconds(60)
    return _signed(
        orjson.dumps({"iss": ISS, "aud": AUD, "sub": "ana", "iat": now, "exp": end, **claims})
    )


def _signed(payload: bytes) -> str:
    return jwt.PyJWS().encode(payload, ED25519.key, algorithm="EdDSA", headers={"kid": "ed"})


@pytest.mark.parametrize("make", REFUSALS.values(), ids=list(REFUSALS))
async def test_an_invalid_token_is_refused(
    authenticator: Authenticator, make: Callable[[], str]
) -> None:
    token = make()

    with pytest.raises(TokenRefused) as refused:
        await authenticator.authenticate(token)

    assert refused.value.reason
    assert str(refused.value) == "A valid bearer token is required."


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: ED25519.token(iss="x"), "of another issuer"),
        (lambda: ED25519.token(aud="x"), "for another audience"),
        (lambda: ED25519.token(exp=in_seconds(-60)), "expired"),
        (lambda: ED25519.token(nbf=in_seconds(60)), "not valid yet"),
        (lambda: ED25519.token(header={"kid": "x"}), "unknown key"),
        (lambda: ED25519.token(header={"crit": ["x"], "x": 1}), "malformed header"),
        (lambda: RSA.token(algorithm="RS512"), "algorithm not accepted"),
        (STRANGER.token, "bad signature"),
        (lambda: ED25519.token(exp=in_seconds(2 * DAY)), "lives too long"),
    ],
)
async def test_a_refusal_has_a_reason_for_the_log(
    authenticator: Authenticator, make: Callable[[], str], reason: str
) -> None:
    with pytest.raises(TokenRefused) as refused:
        await authenticator.authenticate(make())

    assert refused.value.reason == reason


async def test_a_token_without_iat_is_accepted(authenticator: Authenticator) -> None:
    await authenticator.authenticate(ED25519.token(without="iat"))


async def test_a_token_is_valid_for_the_leeway_beyond_its_expiry(
    authenticator: Authenticator,
) -> None:
    viewer = await authenticator.authenticate(ED25519.token(exp=in_seconds(60)))

    assert viewer.expires_at
    assert viewer.valid_until == viewer.expires_at + LEEWAY


async def test_one_of_several_accepted_audiences_is_enough() -> None:
    authenticator = Authenticator(KEYS, issuer=ISS, audience=("api://darkroom", AUD))

    await authenticator.authenticate(ED25519.token(aud=AUD))
    await authenticator.authenticate(ED25519.token(aud=["x", "api://darkroom"]))
    with pytest.raises(TokenRefused):
        await authenticator.authenticate(ED25519.token(aud=["x", "y"]))


async def test_without_a_configured_audience_only_tokens_without_one_are_accepted() -> None:
    authenticator = Authenticator(KEYS, issuer=ISS, audience=())

    await authenticator.authenticate(ED25519.token(without="aud"))
    with pytest.raises(TokenRefused):
        await authenticator.authenticate(ED25519.token(aud="another API"))


@pytest.mark.parametrize(
    ("parties", "claims", "accepted"),
    [
        (["https://a.example"], {"azp": "https://a.example"}, True),
        (["https://a.example", "https://b.example"], {"azp": "https://b.example"}, True),
        (["https://a.example"], {"azp": "https://b.example"}, False),
        (["https://a.example"], {}, False),
        (["https://a.example"], {"azp": None}, False),
        (["https://a.example"], {"azp": ["https://a.example"]}, False),
        (["https://a.example"], {"azp": ""}, False),
        (["https://a.example", "none"], {}, True),
        (["https://a.example", "none"], {"azp": "none"}, False),
        (["none"], {"azp": "https://a.example"}, False),
        (["app-1"], {"client_id": "app-1"}, True),
        (["app-1"], {"client_id": "app-2"}, False),
        (["app-1"], {"client_id": "app-1", "azp": "app-2"}, False),
        (["app-1"], {"client_id": ["app-1"]}, False),
        (["app-1", "none"], {"client_id": "none"}, True),
        (["none-of-these"], {"client_id": "none"}, False),
        ([], {"azp": "https://b.example"}, True),
        ([], {}, True),
    ],
)
async def test_the_authorized_party_of_a_token_is_verified(
    parties: list[str], claims: dict[str, Any], accepted: bool
) -> None:
    authenticator = Authenticator(KEYS, issuer=ISS, audience=(), authorized_parties=parties)
    token = ED25519.token(without="aud", **claims)

    if accepted:
        await authenticator.authenticate(token)
    else:
        with pytest.raises(TokenRefused):
            await authenticator.authenticate(token)


ALL_SIGNERS = {
    "RS256": RSA,
    "RS384": RSA,
    "RS512": RSA,
    "PS256": RSA,
    "PS384": RSA,
    "PS512": RSA,
    "ES256": P256,
    "ES384": Signer(ec.generate_private_key(ec.SECP384R1()), "ES384", "p384"),
    "ES512": Signer(ec.generate_private_key(ec.SECP521R1()), "ES512", "p521"),
    "EdDSA": ED25519,
}


def test_every_allowed_algorithm_has_a_key_type() -> None:
    verified = {algorithm for kind in ALGORITHMS_OF_KIND.values() for algorithm in kind}

    assert verified == set(get_args(TokenAlgorithm)) == {*ALL_SIGNERS, "Ed25519"}


@pytest.mark.parametrize("algorithm", ALL_SIGNERS)
async def test_an_algorithm_is_accepted_if_the_settings_name_it(algorithm: str) -> None:
    signer = ALL_SIGNERS[algorithm]
    keys = StaticKeys({"keys": [signer.jwk]})
    others = set(ALL_SIGNERS) - {algorithm}
    token = signer.token(algorithm=algorithm)

    with_it = Authenticator(keys, issuer=ISS, audience=AUD, algorithms=[algorithm])
    without = Authenticator(keys, issuer=ISS, audience=AUD, algorithms=others)

    await with_it.authenticate(token)
    with pytest.raises(TokenRefused):
        await without.authenticate(token)


async def test_a_key_that_names_its_algorithm_verifies_no_other() -> None:
    keys = StaticKeys({"keys": [{**RSA.jwk, "alg": "PS256"}]})
    authenticator = Authenticator(
        keys, issuer=ISS, audience=AUD, algorithms=get_args(TokenAlgorithm)
    )

    await authenticator.authenticate(RSA.token(algorithm="PS256"))
    with pytest.raises(TokenRefused):
        await authenticator.authenticate(RSA.token(algorithm="RS256"))


@pytest.mark.parametrize("named", [None, "EdDSA", "Ed25519"])
@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
async def test_ed25519_has_two_names(named: str | None, algorithm: str) -> None:
    """RFC 9864 names the algorithm after its curve; a key may name either, or none."""
    keys = StaticKeys({"keys": [{**ED25519.jwk, "alg": named}]})
    authenticator = Authenticator(keys, issuer=ISS, audience=AUD)

    await authenticator.authenticate(named_ed25519(algorithm))
    with pytest.raises(TokenRefused):
        await authenticator.authenticate(named_ed25519(algorithm, signed_by=STRANGER))


def named_ed25519(algorithm: str, *, signed_by: Signer = ED25519) -> str:
    """A token whose header gives the signature this name."""
    jws = jwt.PyJWS()
    jws.register_algorithm("Ed25519", OKPAlgorithm())
    claims = {"iss": ISS, "aud": AUD, "sub": "ana", "exp": in_seconds(60)}
    return jws.encode(
        orjson.dumps(claims), signed_by.key, algorithm=algorithm, headers={"kid": "ed"}
    )


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("Bearer abc.def-_~+/=", "abc.def-_~+/="), ("bEARER  abc ", "abc")],
)
def test_a_valid_token_header_is_accepted(header: str | None, token: str | None) -> None:
    assert parse_authorization(header) == token


@pytest.mark.parametrize(
    "header",
    [
        "",
        "abc",
        "Bearer",
        "Bearer ",
        "Basic YWJj",
        "Bearer a b",
        "Bearer é",
        "Bearer " + "a" * 8193,
    ],
)
def test_an_invalid_token_header_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated):
        parse_authorization(header)


@pytest.mark.parametrize(
    "change",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"alg": "RS256"},
        {"kty": "oct"},
        {"kty": ["OKP"]},
        {"crv": "X25519"},
        {"x": "AA"},
        {"x": None},
        {"d": "AA"},
        {"kid": 7},
        {"key_ops": []},
        {"alg": ["EdDSA"]},
    ],
    ids=str,
)
async def test_an_unusable_key_is_skipped(change: dict[str, Any]) -> None:
    keys = StaticKeys({"keys": [{**ED25519.jwk, **change}, None, P256.jwk]})

    assert not await keys.load_keys("ed")
    assert await keys.load_keys("p256")
    assert len(await keys.load_keys(None)) == 1


async def test_an_rsa_key_that_is_too_short_is_skipped() -> None:
    short = Signer(rsa.generate_private_key(65537, 1024), "RS256", "short")

    assert not await StaticKeys({"keys": [short.jwk]}).load_keys("short")


def without_kid(signer: Signer) -> dict[str, Any]:
    return {**signer.jwk, "kid": None}


RENAMED = Signer(ec.generate_private_key(ec.SECP256R1()), "ES256", "ed")


@pytest.mark.parametrize(
    ("published", "token", "reason"),
    [
        # One key: libraries of JOSE use it, whether it has a name or not.
        ([ED25519.jwk], lambda: ED25519.token(header={"kid": None}), None),
        ([without_kid(ED25519)], lambda: ED25519.token(header={"kid": None}), None),
        ([without_kid(ED25519)], STRANGER.token, "unknown key"),
        ([ED25519.jwk], lambda: STRANGER.token(header={"kid": None}), "bad signature"),
        # Several keys, but only one for the algorithm.
        ([P256.jwk, RSA.jwk, ED25519.jwk], lambda: RSA.token(header={"kid": None}), None),
        ([P256.jwk], lambda: RSA.token(header={"kid": None}), "algorithm of another kind of key"),
        ([P256.jwk, RENAMED.jwk], lambda: P256.token(header={"kid": None}), "no key id"),
        # One name for several keys, of different kinds or of the same.
        ([RENAMED.jwk, ED25519.jwk], ED25519.token, None),
        ([STRANGER.jwk, ED25519.jwk], ED25519.token, None),
        ([STRANGER.jwk, ED25519.jwk], STRANGER.token, None),
        ([STRANGER.jwk, RENAMED.jwk], ED25519.token, "bad signature"),
        ([STRANGER.jwk, ED25519.jwk], lambda: ED25519.token(aud="x"), "for another audience"),
    ],
)
async def test_a_token_is_verified_by_the_keys_that_may_have_signed_it(
    published: list[dict[str, Any]], token: Callable[[], str], reason: str | None
) -> None:
    keys = StaticKeys({"keys": published})
    authenticator = Authenticator(keys, issuer=ISS, audience=AUD)
    given = token()

    for _ in range(2):  # the second time, it is remembered
        if reason is None:
            assert (await authenticator.authenticate(given)).id == viewer_id_of(ISS, "ana")
        else:
            with pytest.raises(TokenRefused) as refused:
                await authenticator.authenticate(given)
            assert refused.value.reason == reason


# Keys that are fetched


class KeyServer:
    """Publishes keys, and counts requests."""

    def __init__(self) -> None:
        self.signers: tuple[Signer, ...] = SIGNERS
        self.asked = 0
        self.body: bytes | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.has_been_asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def answer(self, _: Request) -> Response:
        self.asked += 1
        self.has_been_asked.set()
        await self.open.wait()
        body = self.body or orjson.dumps({"keys": [signer.jwk for signer in self.signers]})
        return Response(body, status_code=self.status, headers=self.headers)


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Published:
    def __init__(self, server: KeyServer, keys: FetchedKeys, watch: Watch) -> None:
        self.server, self.keys, self.watch = server, keys, watch


@pytest.fixture
async def published() -> AsyncIterator[Published]:
    async with _published() as published:
        yield published


@asynccontextmanager
async def _published() -> AsyncIterator[Published]:
    server, watch = KeyServer(), Watch()
    app = Starlette(routes=[Route("/keys", server.answer)])
    async with serving(app, free_port()) as url, open_http() as http:
        keys = FetchedKeys(f"{url}/keys", http, clock=watch)
        yield Published(server, keys, watch)
        server.open.set()
        await keys.aclose()


async def test_keys_are_fetched_once_for_concurrent_requests(published: Published) -> None:
    published.server.open.clear()
    asking = [asyncio.create_task(published.keys.load_keys("ed")) for _ in range(50)]
    await asyncio.wait_for(published.server.has_been_asked.wait(), 10)

    published.server.open.set()
    found = await asyncio.gather(*asking)

    assert all(found)
    assert published.server.asked == 1


async def test_a_cancelled_request_does_not_cancel_the_fetch_for_others(
    published: Published,
) -> None:
    published.server.open.clear()
    first, second = (asyncio.create_task(published.keys.load_keys("ed")) for _ in range(2))
    await asyncio.wait_for(published.server.has_been_asked.wait(), 10)

    first.cancel()
    await asyncio.wait([first])
    published.server.open.set()

    assert await second


async def test_fetched_keys_need_no_names(published: Published) -> None:
    published.server.body = orjson.dumps({"keys": [without_kid(ED25519), P256.jwk]})
    authenticator = Authenticator(published.keys, issuer=ISS, audience=AUD)

    for signer in (ED25519, P256):
        await authenticator.authenticate(signer.token(header={"kid": None}))
    with pytest.raises(TokenRefused):
        await authenticator.authenticate(ED25519.token())


async def test_an_unknown_kid_fetches_keys_at_most_once_a_minute(published: Published) -> None:
    await published.keys.load_keys("ed")
    published.watch.now += 61

    for number in range(20):
        assert not await published.keys.load_keys(f"unknown {number}")
    assert published.server.asked == 2

    published.watch.now += 61
    assert not await published.keys.load_keys("unknown")
    assert published.server.asked == 3


async def test_after_a_key_rotation_new_and_old_tokens_are_accepted(published: Published) -> None:
    published.server.signers = (ED25519,)
    authenticator = Authenticator(published.keys, issuer=ISS, audience=AUD)
    old = ED25519.token()
    await authenticator.authenticate(old)

    published.server.signers = (ED25519, P256)
    published.watch.now += 61

    await authenticator.authenticate(P256.token())
    await authenticator.authenticate(old)


async def test_tokens_of_a_withdrawn_key_are_refused(published: Published) -> None:
    authenticator = Authenticator(published.keys, issuer=ISS, audience=AUD)
    token = ED25519.token()
    await authenticator.authenticate(token)

    published.server.signers = (P256,)
    published.watch.now += 601
    # A request notices their age, and does not wait for the refresh.
    published.server.has_been_asked.clear()
    await authenticator.authenticate(token)
    await asyncio.wait_for(published.server.has_been_asked.wait(), 10)

    with pytest.raises(Unauthenticated):
        await _until_refused(authenticator, token)


async def _until_refused(authenticator: Authenticator, token: str) -> None:
    async with asyncio.timeout(10):
        while True:
            await authenticator.authenticate(token)
            await asyncio.sleep(0.01)


async def test_known_keys_are_used_for_an_hour_while_their_source_is_unavailable(
    published: Published,
) -> None:
    await published.keys.load_keys("ed")
    published.server.status = 503

    published.watch.now += 600 + 3599
    assert await published.keys.load_keys("ed")

    published.watch.now += 61
    with pytest.raises(Overloaded):
        await published.keys.load_keys("ed")

    published.server.status = 200
    published.watch.now += 61
    assert await published.keys.load_keys("ed")


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, None, {}),
        (204, None, {}),
        (302, None, {"location": "/keys"}),
        (200, b"<html>", {}),
        (200, b"[]", {}),
        (200, b'{"keys": []}', {}),
        (200, b'{"keys": {}}', {}),
        (200, b'{"keys": ["' + b"x" * 300_000 + b'"]}', {}),
    ],
    ids=["500", "204", "redirect", "HTML", "list", "no keys", "keys are no list", "too large"],
)
async def test_a_response_without_keys_is_a_server_error(
    published: Published, status: int, body: bytes | None, headers: dict[str, str]
) -> None:
    server = published.server
    server.status, server.body, server.headers = status, body, headers

    with pytest.raises(Overloaded):
        await published.keys.load_keys("ed")


async def test_keys_may_be_packed_once(published: Published) -> None:
    """Some servers pack what was asked for as it is. A body that is packed twice may be 40 KB, and
    have 200 MB that unpack to nothing.
    """
    server = published.server
    once = gzip.compress(orjson.dumps({"keys": [ED25519.jwk]}))
    server.body, server.headers = gzip.compress(once), {"content-encoding": "gzip, gzip"}
    with pytest.raises(Overloaded):
        await published.keys.load_keys("ed")

    server.body, server.headers = once, {"content-encoding": "gzip"}
    published.watch.now += 3
    assert await published.keys.load_keys("ed")


async def test_an_unreachable_key_source_is_a_server_error() -> None:
    async with open_http() as http:
        keys = FetchedKeys(f"http://127.0.0.1:{free_port()}/keys", http)

        with pytest.raises(Overloaded):
            await keys.load_keys("ed")


async def test_keys_from_other_hosts_are_fetched_over_tls_only() -> None:
    async with open_http() as http:
        FetchedKeys("https://id.example.com/keys", http)
        with pytest.raises(ValueError, match="https"):
            FetchedKeys("http://id.example.com/keys", http)


# The development issuer


def print_token(
    data_dir: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "commands.token", *arguments],
        cwd=ROOT,
        env={**os.environ, "DARKROOM_DATA_DIR": str(data_dir), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_the_token_command_prints_nothing_but_a_valid_token(tmp_path: Path) -> None:
    printed = print_token(tmp_path / "data", "ana")

    assert printed.returncode == 0
    assert printed.stderr == ""
    token = printed.stdout.removesuffix("\n")
    assert "\n" not in token
    viewer = await DevelopmentIssuer(tmp_path / "data").authenticator().authenticate(token)
    assert viewer.id == viewer_id_of(ISSUER, "ana")


@pytest.mark.parametrize("arguments", [(), ("",), ("x" * 256,), ("a\nb",), ("ana", "bob")])
def test_the_token_command_refuses_an_invalid_name(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    printed = print_token(tmp_path, *arguments)

    assert printed.returncode == 2
    assert printed.stdout == ""
    assert 1 <= len(printed.stderr.splitlines()) <= 2


def test_the_token_command_issues_nothing_in_production(tmp_path: Path) -> None:
    production = {
        "DARKROOM_ENVIRONMENT": "production",
        "DARKROOM_MONGODB_URI": "mongodb://db.example.com",
        "DARKROOM_SECRET": "s" * 32,
        "DARKROOM_JWKS_URL": "https://id.example.com/keys",
        "DARKROOM_TOKEN_ISSUER": ISS,
        "DARKROOM_TOKEN_AUDIENCE": AUD,
    }

    printed = print_token(tmp_path, "ana", **production)

    assert printed.returncode == 2
    assert printed.stdout == ""
    assert "DARKROOM_TOKEN_ISSUER" in printed.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_development_key_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    first = DevelopmentIssuer(tmp_path).public_keys()
    second = DevelopmentIssuer(tmp_path).public_keys()

    (path,) = tmp_path.iterdir()
    assert first == second
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "d" not in first["keys"][0]


def test_an_invalid_key_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "issuer-key.pem").write_text("nonsense")

    with pytest.raises(SettingsError, match="is not a private key"):
        DevelopmentIssuer(tmp_path)


async def test_a_development_token_can_be_valid_for_a_working_day(
    tmp_path: Path,
) -> None:
    issuer = DevelopmentIssuer(tmp_path)
    authenticator = issuer.authenticator()

    await authenticator.authenticate(issuer.token("ana", life=timedelta(hours=12)))
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(issuer.token("ana", life=timedelta(hours=13)))


async def test_another_issuer_accepts_no_development_token(tmp_path: Path) -> None:
    issuer = DevelopmentIssuer(tmp_path)

    for authenticator in (
        Authenticator(StaticKeys(issuer.public_keys()), issuer=ISS, audience=AUDIENCE),
        Authenticator(KEYS, issuer=ISSUER, audience=AUDIENCE),
    ):
        with pytest.raises(TokenRefused):
            await authenticator.authenticate(issuer.token("ana"))
