"""Types of values that settings have, and how they are checked."""

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
"""Algorithms with a private key: those who can verify a signature cannot make one."""

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
    """Keys decide who is admitted, and who pays: over the network they are sent through
    TLS only.
    """
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _http_url(value: str) -> str:
    if not value:
        return value
    url = urlsplit(value)
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
        raise PydanticCustomError("sentence", "should be an http or https URL")
    return value.rstrip("/")


def _https_url(value: str) -> str:
    url = _http_url(value)
    if url and not may_fetch_keys_from(url):
        raise PydanticCustomError("sentence", "should begin with https://")
    return url


def _header_value(value: SecretStr) -> SecretStr:
    # An error would quote a value that does not fit into a header.
    if not _KEY.fullmatch(value.get_secret_value()):
        raise PydanticCustomError("sentence", "should be letters, digits and signs, no spaces")
    return value


def _split_at_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < 32:
        raise PydanticCustomError("sentence", "should have at least 32 characters")
    return value


def _a_file(value: Path) -> Path:
    path = value.expanduser().absolute()
    if not path.is_file():
        raise PydanticCustomError(
            "sentence", "should name a file; {path} is none", {"path": str(path)}
        )
    return path


HttpUrl = Annotated[str, AfterValidator(_http_url)]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
"""Plain http is allowed for loopback only."""
Key = Annotated[SecretStr, AfterValidator(_header_value)]
Secret = Annotated[SecretStr, AfterValidator(_long_enough)]
AuthoritiesFile = Annotated[Path, AfterValidator(_a_file)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_at_commas)]
"""Separated by commas."""
TokenAlgorithms = Annotated[tuple[TokenAlgorithm, ...], NoDecode, BeforeValidator(_split_at_commas)]
InLowerCase = BeforeValidator(_lower)
HttpsUrls = Annotated[tuple[HttpsUrl, ...], NoDecode, BeforeValidator(_split_at_commas)]
