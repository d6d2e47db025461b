"""An OpenID provider at which people sign in, with the authorization code flow and PKCE.

It speaks the wire as a browser sees it: a page with a form, redirects, a session cookie, and a
token endpoint that other origins may call. Refresh tokens are used once.
"""

import json
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any
from urllib.parse import urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.serving import free_port, serving

CLIENT = "studio"
AUDIENCE = "darkroom"
KID = "simulated"


@dataclass
class OpenIDProvider:
    url: str
    life_seconds: int = 300
    refreshes: bool = True
    nonce: str | None = None
    """What it claims in place of the nonce that it was given."""
    counts: Counter[str] = field(default_factory=Counter)
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    _sessions: dict[str, str] = field(default_factory=dict)
    _codes: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    _refresh_tokens: dict[str, str] = field(default_factory=dict)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/keys", self._keys),
                Route("/authorize", self._authorize, methods=["GET", "POST"]),
                Route("/token", self._token, methods=["POST"]),
                Route("/end", self._end),
            ],
            middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])],
        )

    async def _metadata(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "end_session_endpoint": f"{self.url}/end",
                "jwks_uri": f"{self.url}/keys",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _keys(self, _: Request) -> Response:
        public = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(self._key.public_key()))
        return JSONResponse({"keys": [{**public, "kid": KID, "alg": "ES256", "use": "sig"}]})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        person = self._sessions.get(request.cookies.get("session", ""))
        if request.method == "POST":
            person = str((await request.form())["name"])
        elif person is None and asked.get("prompt") != "none":
            self.counts["pages"] += 1
            return HTMLResponse(
                "<!doctype html><title>Provider</title><link rel=icon href=data:,>"
                "<form method=post><label>Name <input name=name></label>"
                "<button>Continue</button></form>"
            )
        answer = {"state": asked["state"], "iss": self.url}
        if person is None:
            return _redirect(asked["redirect_uri"], answer | {"error": "login_required"})
        code = token_urlsafe()
        self._codes[code] = (person, asked)
        response = _redirect(asked["redirect_uri"], answer | {"code": code})
        session = token_urlsafe()
        self._sessions[session] = person
        response.set_cookie("session", session, httponly=True)
        return response

    async def _token(self, request: Request) -> Response:
        form = {name: str(value) for name, value in (await request.form()).items()}
        self.counts[form["grant_type"]] += 1
        if form["grant_type"] == "refresh_token":
            person = self._refresh_tokens.pop(form["refresh_token"], None)
            if person is None or person not in self._sessions.values():
                return JSONResponse({"error": "invalid_grant"}, 400)
            return self._issue(person, {})
        person, asked = self._codes.pop(form["code"])
        challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest())
        assert challenge.decode().rstrip("=") == asked["code_challenge"]
        assert form["redirect_uri"] == asked["redirect_uri"]
        assert form["client_id"] == CLIENT
        return self._issue(person, {"nonce": self.nonce or asked["nonce"]})

    def _issue(self, person: str, claims: Mapping[str, str]) -> Response:
        body: dict[str, Any] = {
            "access_token": self._sign({"sub": person, "aud": AUDIENCE}),
            "id_token": self._sign({"sub": person, "aud": CLIENT, "name": f"{person}!", **claims}),
            "token_type": "Bearer",
            "expires_in": self.life_seconds,
        }
        if self.refreshes:
            refresh_token = token_urlsafe()
            self._refresh_tokens[refresh_token] = person
            body["refresh_token"] = refresh_token
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    def _sign(self, claims: Mapping[str, str]) -> str:
        now = int(time.time())
        times = {"iat": now, "exp": now + self.life_seconds}
        return jwt.encode(
            {"iss": self.url, **times, **claims}, self._key, "ES256", headers={"kid": KID}
        )

    async def _end(self, request: Request) -> Response:
        self._sessions.pop(request.cookies.get("session", ""), None)
        assert request.query_params["client_id"] == CLIENT
        return RedirectResponse(request.query_params["post_logout_redirect_uri"])


def _redirect(uri: str, answer: Mapping[str, str]) -> RedirectResponse:
    return RedirectResponse(f"{uri}?{urlencode(answer)}", 303)


@asynccontextmanager
async def an_openid_provider(**given: Any) -> AsyncIterator[OpenIDProvider]:
    port = free_port()
    provider = OpenIDProvider(f"http://127.0.0.1:{port}", **given)
    async with serving(provider.app(), port):
        yield provider
