"""Which tokens are accepted in production, and how people sign in to the studio."""

from typing import Final, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from settings.values import (
    HttpsUrl,
    HttpsUrls,
    Names,
    TokenAlgorithm,
    TokenAlgorithms,
    may_fetch_keys_from,
)

DEFAULT_TOKEN_ALGORITHMS: Final[tuple[TokenAlgorithm, ...]] = ("RS256", "ES256", "EdDSA", "Ed25519")
NO_AUTHORIZED_PARTY: Final = "none"
"""Among the authorized parties: a token without `azp` is accepted too."""


class IdentitySettings(BaseModel):
    token_issuer: str | None = Field(
        default=None,
        min_length=1,
        description="The `iss` of accepted tokens, exactly as the issuer writes it (needed in "
        "production, only used there)",
    )
    jwks_url: HttpsUrl | None = Field(
        default=None,
        description="The https URL where the token issuer publishes its keys (only used in "
        "production; default: what <issuer>/.well-known/openid-configuration names)",
    )
    token_audience: Names = Field(
        default=(),
        description="The accepted values of `aud`, separated by commas: a token needs one of them. "
        "Without it only tokens without `aud` are accepted (only used in production)",
    )
    token_authorized_parties: Names = Field(
        default=(),
        description="The accepted values of `azp`, or of `client_id` where a token has no `azp`, "
        "separated by commas; `none` among them accepts tokens without `azp`. Without it neither "
        "is checked (only used in production)",
    )
    token_algorithms: TokenAlgorithms = Field(
        default=DEFAULT_TOKEN_ALGORITHMS,
        min_length=1,
        description="The accepted algorithms of tokens, separated by commas, among "
        f"{', '.join(get_args(TokenAlgorithm))} (only used in production)",
    )
    token_max_seconds: int = Field(
        default=86_400,
        ge=60,
        le=2_592_000,
        description="The maximum lifetime of a token in seconds, from `iat` to `exp` (only "
        "used in production)",
    )
    studio_client_id: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="The studio's client id at the token issuer, a public client whose redirect "
        "URI is <public URL>/studio/; with it, people sign in to the studio there (only used in "
        "production)",
    )
    studio_scopes: str = Field(
        default="openid",
        pattern=r"^openid( [!#-\[\]-~]+)*$",
        description="The OAuth scopes of a sign-in to the studio; with offline_access many issuers "
        "issue a refresh token (only used in production)",
    )
    studio_sign_in_urls: HttpsUrls = Field(
        default=(),
        description="Further https URLs that the studio may connect to, separated by commas: for a "
        "token endpoint that has another host than the token issuer (only used in production)",
    )


def supports_discovery(issuer: str) -> bool:
    """Whether the issuer is a URL at which its OpenID configuration can be fetched."""
    try:
        parts = urlsplit(issuer)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        return False
    return is_url and not parts.query and not parts.fragment and may_fetch_keys_from(issuer)
