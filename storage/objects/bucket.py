"""A bucket of a server that speaks the S3 API: where it is, and how it is called."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader

from domain.errors import ObjectMissing, StoreUnavailable

CONNECT_SECONDS: Final = 3
SILENCE_SECONDS: Final = 10
OPERATION_SECONDS: Final = 20.0
"""The limit of one call, whatever the server does, unless the settings say otherwise."""
_TRIES: Final = 2
_CONNECTIONS: Final = 50
_NOTHING_OF_THE_MACHINE: Final[dict[str, tuple[None, None, str | None, None]]] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""Ignore the configuration of AWS' own tools on this machine: Darkroom's settings decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a bucket is, and the key that opens it."""

    name: str
    region: str
    endpoint: str
    """The server's origin, as this process reaches it."""
    public_endpoint: str
    """The same, as clients reach it."""
    addressing: Literal["path", "virtual"]
    """Whether the bucket's name stands in the path or before the server's name."""
    key_id: str = ""
    """Where it is empty, the platform's credentials are used."""
    secret: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The URL of the bucket itself, as this process reaches it."""
        return self._url_at(self.endpoint)

    @property
    def public_url(self) -> str:
        """The URL of the bucket as clients reach it."""
        return self._url_at(self.public_endpoint)

    def _url_at(self, endpoint: str) -> str:
        scheme, _, server = endpoint.partition("://")
        if self.addressing == "path":
            return f"{scheme}://{server}/{self.name}"
        return f"{scheme}://{self.name}.{server}"


def session_of(bucket: Bucket) -> AioSession:
    session = AioSession(session_vars=_NOTHING_OF_THE_MACHINE if bucket.key_id else None)
    session.register_component("data_loader", _description_of_s3())
    return session


@cache
def _description_of_s3() -> Loader:
    """What botocore knows of the API, for all sessions: to read it takes most of what opening a
    client costs.
    """
    return create_loader()


@asynccontextmanager
async def open_client(bucket: Bucket, session: AioSession | None = None) -> AsyncIterator[Any]:
    """A botocore client of the bucket's server, open until the block ends."""
    config = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": bucket.addressing},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=SILENCE_SECONDS,
        max_pool_connections=_CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        # Every body is signed with its SHA-256. The newer checksums are not known everywhere.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = session or session_of(bucket)
    async with session.create_client(
        "s3",
        region_name=bucket.region,
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.key_id or None,
        aws_secret_access_key=bucket.secret or None,
        config=config,
    ) as client:
        yield client


@asynccontextmanager
async def call_bucket(within_seconds: float = OPERATION_SECONDS) -> AsyncIterator[None]:
    """Wait for the bucket with a limit. Raise ObjectMissing or StoreUnavailable where it fails.

    What the server has said stays in the cause, which is for the log.
    """
    try:
        async with asyncio.timeout(within_seconds):
            yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "nothing")
        if code in ("NoSuchKey", "404"):  # An answer to HEAD has no body, so only the status.
            raise ObjectMissing("there is no such object") from error
        raise StoreUnavailable(f"the bucket answered {code}") from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StoreUnavailable(f"the bucket failed: {type(error).__name__}") from error
