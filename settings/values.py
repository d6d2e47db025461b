"""The types of settings' values, and how they are checked."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

PREFIX: Final = "DARKROOM_"
TokenAlgorithm = Literal[
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
]
"""Asymmetric algorithms: a key that verifies signatures cannot make them."""

FeedPartitions = Annotated[
    Literal[1, 32, 1024, 32768],
    BeforeValidator(lambda given: int(given) if str(given).isdecimal() else given),
]

_KEY = re.compile(r"[!-~]+")


def is_loopback(host: str) -> bool:
    """Whether a listener on this host can be reached from this machine only."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def may_fetch_keys_from(url: str) -> bool:
    """Whether keys may be fetched from this URL: over a network only with TLS, since
    anyone who replaces a key can sign in as any viewer.
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _check_http_url(value: str) -> str:
    if not value:
        return value
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
        raise PydanticCustomError("sentence", "should be an http or https URL")
    return value.rstrip("/")


def _check_https_url(value: str) -> str:
    url = _check_http_url(value)
    if url and not may_fetch_keys_from(url):
        raise PydanticCustomError("sentence", "should begin with https://")
    return url


def _check_header_value(value: SecretStr) -> SecretStr:
    # Checked here, because a client's error about an invalid header would quote the secret.
    if not _KEY.fullmatch(value.get_secret_value()):
        raise PydanticCustomError("sentence", "should be visible ASCII characters, without spaces")
    return value


def _split_at_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _to_lower_case(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _check_length(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 32:
        raise PydanticCustomError("sentence", "should have at least 32 characters")
    return value


def _check_file(value: Path) -> Path:
    path = value.expanduser().absolute()
    if not path.is_file():
        raise PydanticCustomError(
            "sentence", "should name a file; {path} is not one", {"path": str(path)}
        )
    return path


HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
HttpsUrl = Annotated[str, AfterValidator(_check_https_url)]
"""Plain http is allowed for loopback only."""
Key = Annotated[SecretStr, AfterValidator(_check_header_value)]
Secret = Annotated[SecretStr, AfterValidator(_check_length)]
CaFile = Annotated[Path, AfterValidator(_check_file)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]
"""Separated by commas."""
TokenAlgorithms = Annotated[tuple[TokenAlgorithm, ...], NoDecode, BeforeValidator(_split_at_commas)]
InLowerCase = BeforeValidator(_to_lower_case)
HttpsUrls = Annotated[tuple[HttpsUrl, ...], NoDecode, BeforeValidator(_split_at_commas)]
