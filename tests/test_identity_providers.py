"""Tokens as identity providers issue them, and a Darkroom in production with settings for them.

Each issuer is an HTTP server of this test: it publishes its metadata and keys, and its tokens have
the claims and headers that the provider documents.
"""

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute

from bootstrap import open_api
from domain.errors import Overloaded
from domain.ids import viewer_id_of
from edge.admission import Admission
from edge.auth import Authenticator
from edge.execution import OperationExecutor
from edge.graphql_ws import GraphQLOverWebSocket
from edge.token_keys import FetchedKeys
from settings import Settings
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.edge.test_websocket import until_refused
from tests.http import open_http
from tests.serving import free_port, serving

RSA = rsa.generate_private_key(65537, 2048)
VIEWER = "{ viewer { id } }"
TENANT = "8f4c2d1e-6a3b-4f0e-9a7d-1c2b3a4d5e6f"
CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"


@dataclass
class LocalIssuer:
    """An issuer at a path of a server on loopback."""

    url: str
    issuer: str
    key: Any = RSA
    algorithm: str = "RS256"
    kid: str = "ins_2abc"
    jwk_fields: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 200

    async def answer(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        if self.status != 200:
            return Response(status_code=self.status)
        if request.url.path.endswith("/.well-known/openid-configuration"):
            return JSONResponse(
                {"issuer": self.issuer, "jwks_uri": f"{self.url}/the-keys", **self.metadata}
            )
        if request.url.path == "/the-keys":
            public = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.key.public_key())
            return JSONResponse(
                {"keys": [{**json.loads(public), "kid": self.kid} | self.jwk_fields]}
            )
        return Response(status_code=404)

    def token(self, claims: dict[str, Any], *, life: int, **header: Any) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + life}
        return jwt.encode(
            {"iss": self.issuer, **times, **claims},
            self.key,
            algorithm=self.algorithm,
            headers={"kid": self.kid, **header},
        )


@asynccontextmanager
async def issuing(path: str = "", **given: Any) -> AsyncIterator[LocalIssuer]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    issuer = LocalIssuer(url, url + path, **given)
    app = Starlette(routes=[Route("/{path:path}", issuer.answer)])
    async with serving(app, port):
        yield issuer


async def in_production(start: StartDarkroom, issuer: str, **given: Any) -> Darkroom:
    return await start(
        environment="production", secret=SecretStr("s" * 32), token_issuer=issuer, **given
    )


async def viewer_of(darkroom: Darkroom, token: str) -> str:
    data: Data = await darkroom.with_token(token)(VIEWER)
    viewer_id: str = data["viewer"]["id"]
    return viewer_id


async def assert_refused(darkroom: Darkroom, token: str) -> None:
    response = await darkroom.with_token(token).post({"query": VIEWER})
    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}


CLERK_CLAIMS = {
    "fva": [0, -1],
    "sid": "sess_2bcd",
    "sts": "active",
    "sub": "user_2cde",
    "v": 2,
}
"""Of a default session token: no `aud`. `azp` is the origin of the page, where there is one."""


async def test_session_tokens_of_clerk_are_accepted(start_darkroom: StartDarkroom) -> None:
    async with issuing() as clerk:
        darkroom = await in_production(
            start_darkroom,
            clerk.issuer,
            token_authorized_parties=("https://app.example.com", "http://localhost:5173"),
        )
        origin = {"azp": "http://localhost:5173"}

        viewer = await viewer_of(
            darkroom, clerk.token(CLERK_CLAIMS | origin, life=60, cat="cl_B7d4PD111AAA", typ="JWT")
        )

        assert viewer == viewer_id_of(clerk.issuer, "user_2cde")
        await assert_refused(
            darkroom, clerk.token(CLERK_CLAIMS | {"azp": "https://evil.example"}, life=60)
        )
        await assert_refused(darkroom, clerk.token(CLERK_CLAIMS, life=60))
        await assert_refused(
            darkroom, clerk.token(CLERK_CLAIMS | origin | {"aud": "another API"}, life=60)
        )


@pytest.mark.parametrize("parties", [(), ("https://app.example.com", "none")])
async def test_session_tokens_of_clerk_from_a_phone_have_no_authorized_party(
    start_darkroom: StartDarkroom, parties: tuple[str, ...]
) -> None:
    async with issuing() as clerk:
        darkroom = await in_production(
            start_darkroom, clerk.issuer, token_authorized_parties=parties
        )

        await viewer_of(darkroom, clerk.token(CLERK_CLAIMS, life=60))


async def test_api_tokens_of_auth0_are_accepted(start_darkroom: StartDarkroom) -> None:
    async with issuing("/") as auth0:
        darkroom = await in_production(
            start_darkroom, auth0.issuer, token_audience=("https://darkroom.example.com",)
        )
        claims = {
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "aud": ["https://darkroom.example.com", f"{auth0.issuer}userinfo"],
            "azp": "my_client_id",
            "scope": "openid profile email",
        }

        viewer = await viewer_of(darkroom, auth0.token(claims, life=86_400, typ="at+jwt"))

        assert viewer == viewer_id_of(auth0.issuer, str(claims["sub"]))
        assert auth0.asked == ["/.well-known/openid-configuration", "/the-keys"]
        await assert_refused(
            darkroom, auth0.token(claims | {"aud": f"{auth0.issuer}userinfo"}, life=86_400)
        )
        await assert_refused(darkroom, auth0.token(claims, life=86_400 + 60))


@pytest.mark.parametrize(
    ("path", "claims", "life"),
    [
        (
            f"/{TENANT}/",  # as https://sts.windows.net/{tenant}/
            {"aud": f"api://{CLIENT}", "appid": CLIENT, "appidacr": "1", "ver": "1.0"},
            4_500,
        ),
        (
            f"/{TENANT}/v2.0",  # as https://login.microsoftonline.com/{tenant}/v2.0
            {"aud": CLIENT, "azp": "0e1f2a3b-4c5d-6e7f-8091-a2b3c4d5e6f7", "ver": "2.0"},
            5_400,
        ),
    ],
    ids=["v1", "v2"],
)
async def test_access_tokens_of_entra_are_accepted(
    start_darkroom: StartDarkroom, path: str, claims: dict[str, Any], life: int
) -> None:
    # Entra's keys have no `alg`, but a certificate and the issuer that they belong to.
    fields = {"use": "sig", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg", "x5c": ["MIIC"], "issuer": "…"}
    async with issuing(path, jwk_fields=fields) as entra:
        darkroom = await in_production(
            start_darkroom, entra.issuer, token_audience=(CLIENT, f"api://{CLIENT}")
        )
        claims = {
            "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
            "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "tid": TENANT,
            "scp": "access_as_user",
            **claims,
        }

        viewer = await viewer_of(darkroom, entra.token(claims, life=life))

        assert viewer == viewer_id_of(entra.issuer, claims["sub"])
        await assert_refused(
            darkroom, entra.token(claims | {"aud": "00000003-0000-0000-c000-000000000000"}, life=60)
        )
        await assert_refused(
            darkroom, entra.token(claims | {"iss": entra.issuer.replace(TENANT, CLIENT)}, life=60)
        )


async def test_the_lifetime_and_algorithms_of_an_issuer_are_settings(
    start_darkroom: StartDarkroom,
) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    async with issuing(key=key, algorithm="ES384") as issuer:
        strict = await in_production(start_darkroom, issuer.issuer)
        ours = await in_production(
            start_darkroom, issuer.issuer, token_algorithms=("ES384",), token_max_seconds=300
        )

        await viewer_of(ours, issuer.token({"sub": "ana"}, life=300))
        await assert_refused(ours, issuer.token({"sub": "ana"}, life=400))
        await assert_refused(strict, issuer.token({"sub": "ana"}, life=300))


async def test_a_key_with_the_algorithm_name_of_rfc_9864_is_accepted(
    start_darkroom: StartDarkroom,
) -> None:
    key = Ed25519PrivateKey.generate()
    async with issuing(key=key, algorithm="EdDSA", jwk_fields={"alg": "Ed25519"}) as issuer:
        darkroom = await in_production(start_darkroom, issuer.issuer)

        await viewer_of(darkroom, issuer.token({"sub": "ana"}, life=60))


async def test_keys_can_be_at_another_url_than_the_metadata_says(
    start_darkroom: StartDarkroom,
) -> None:
    async with issuing(metadata={"jwks_uri": "https://nowhere.invalid/"}) as issuer:
        darkroom = await in_production(
            start_darkroom, issuer.issuer, jwks_url=f"{issuer.url}/the-keys"
        )

        await viewer_of(darkroom, issuer.token({"sub": "ana"}, life=60))
        assert issuer.asked == ["/the-keys"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://login.example.com/{tenantid}/v2.0"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": 7},
        {"jwks_uri": "http://id.example.com/keys"},
        {"jwks_uri": "//keys"},
        {"jwks_uri": "https://["},
        {"jwks_uri": "file:///etc/passwd"},
    ],
    ids=str,
)
async def test_untrusted_metadata_provides_no_keys(metadata: dict[str, Any]) -> None:
    async with issuing(metadata=metadata) as issuer, open_http() as http:
        keys = FetchedKeys(None, http, issuer=issuer.issuer)

        with pytest.raises(Overloaded):
            await keys.load_keys(issuer.kid)
        assert "/the-keys" not in issuer.asked


async def test_a_socket_outlives_short_tokens_of_clerk_by_renewal(
    start_darkroom: StartDarkroom,
) -> None:
    async with issuing() as clerk:
        darkroom = await in_production(start_darkroom, clerk.issuer)
        old, new = (clerk.token(CLERK_CLAIMS, life=life) for life in (-25, 60))
        unknown = clerk.token(CLERK_CLAIMS, life=60, kid="ins_3abc")

        async with darkroom.anonymous().socket(token=old) as socket:
            await socket.send(type="ping", payload={"authorization": f"Bearer {new}"})
            assert (await socket.receive())["payload"]["expiresAt"].endswith("Z")
            await until_refused(darkroom, old)
            await socket.send(type="ping")
            assert await socket.receive() == {"type": "pong"}
            await socket.send(type="ping", payload={"Authorization": f"bearer {unknown}"})
            assert await socket.closed_with() == 4403


async def test_a_socket_keeps_its_token_while_a_new_one_cannot_be_verified(
    mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    now = [1_000.0]
    settings = Settings(
        data_dir=tmp_path, mongodb_uri=SecretStr(mongodb_uri), mongodb_database=database_name
    )
    async with (
        issuing() as issuer,
        open_http() as http,
        open_api(settings) as api,
    ):
        keys = FetchedKeys(None, http, issuer=issuer.issuer, clock=lambda: now[0])
        admission = Admission(
            Authenticator(keys, issuer=issuer.issuer, audience=None),
            api.admission._viewers,
            api.blocked_viewers,
        )
        executor = OperationExecutor(api.services)
        endpoint = GraphQLOverWebSocket(
            executor,
            admission,
            allowed_origins=re.compile(""),
            call_when_deleted=api.services.updates.viewers.call_when_deleted,
            call_when_blocked=api.blocked_viewers.call_when_blocked,
        )
        routes = [WebSocketRoute("/graphql", endpoint)]
        async with serving(Starlette(routes=routes), free_port()) as url:
            client = GraphQLClient(url, issuer.token(CLERK_CLAIMS, life=60))
            ping = {"authorization": f"Bearer {issuer.token(CLERK_CLAIMS, life=61)}"}
            async with client.socket() as socket:
                issuer.status = 503
                now[0] += 10_000
                await socket.send(type="ping", payload=ping)
                assert await socket.receive() == {"type": "pong"}

                issuer.status = 200
                now[0] += 60
                await socket.send(type="ping", payload=ping)
                assert (await socket.receive())["payload"]["expiresAt"]
            await client.aclose()
        await keys.aclose()


@pytest.mark.parametrize("subject", ["a\ud800b", "a\0b", "a\nb", "\x1b[2J", "\x7f", "\udfff" * 255])
async def test_a_subject_that_is_not_a_string_is_refused_without_an_internal_error(
    start_darkroom: StartDarkroom, subject: str
) -> None:
    async with issuing() as issuer:
        darkroom = await in_production(start_darkroom, issuer.issuer)
        token = issuer.token({"sub": subject}, life=60)

        await assert_refused(darkroom, token)
        async with darkroom.anonymous().socket(token=issuer.token({"sub": "é 😀"}, life=60)):
            pass


async def test_a_refusal_is_logged_with_its_reason_and_without_the_token(
    start_darkroom: StartDarkroom,
) -> None:
    async with issuing() as issuer:
        darkroom = await in_production(start_darkroom, issuer.issuer, token_audience=("darkroom",))
        token = issuer.token({"sub": "ana", "aud": "canary-audience"}, life=60)

        with structlog.testing.capture_logs() as logs:
            await assert_refused(darkroom, token)

    (line,) = [line for line in logs if line["event"] == "token refused"]
    assert line["reason"] == "for another audience"
    text = orjson.dumps(logs, default=str).decode()
    assert not any(part in text for part in (*token.split("."), "canary"))


async def test_a_deployment_without_an_audience_or_party_logs_a_warning(
    start_darkroom: StartDarkroom, tmp_path: Path
) -> None:
    with structlog.testing.capture_logs() as logs:
        await in_production(start_darkroom, "https://id.example.com")

    assert "tokens for every application are accepted" in [line["event"] for line in logs]
