"""The object store in a bucket of any server that speaks the S3 API.

An object is whole or not there: the request has the body's length and digest, and keeps nothing
that differs. The bucket is private. What it gives to others is opened by links and offers alone,
which are signed here without asking the server.
"""

import asyncio
import os
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import BotoCoreError, ClientError

from domain.errors import ObjectMissing, ObjectTooLarge, StoreUnavailable
from domain.images import FOLDERS
from domain.object_keys import (
    LINK_WINDOW_SECONDS,
    OFFER_SECONDS,
    checked,
    checked_offer,
    content_type_of,
    is_key,
    linked,
)
from domain.ports.objects import MAX_OBJECT_BYTES, Link, StoredObject
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    UploadAbilities,
    UploadMethod,
    UploadOffer,
)
from storage.objects.abilities import find_abilities
from storage.objects.credentials import (
    LOOK_SECONDS,
    Credentials,
    find_credentials,
    following,
    read_credentials,
)
from storage.objects.links import Links
from storage.objects.sigv4 import Condition, Signer

CONNECT_SECONDS: Final = 3
SILENCE_SECONDS: Final = 10
OPERATION_SECONDS: Final = 20.0
"""For one call of the store, whatever the server does, unless the settings say otherwise."""
ABILITIES_SECONDS: Final = 5.0
"""For finding out what uploads the bucket takes: a client waits for its first one."""

_TRIES: Final = 2
_CONNECTIONS: Final = 50
_CHUNK_BYTES: Final = 256 * 1024
_PART_BYTES: Final = 8 * 1024 * 1024
_DELETED_AT_ONCE: Final = 1000
_LINK_SECONDS: Final = 2 * LINK_WINDOW_SECONDS
_EVERY_OBJECT: Final = {
    "CacheControl": f"private, max-age={_LINK_SECONDS}, immutable",
    "ContentDisposition": "inline",
}
_NEVER: Final = datetime.max.replace(tzinfo=UTC)
_UNTYPED: Final = ("binary/octet-stream", "application/octet-stream")
"""What tools that copy buckets make of a type that they do not know."""
_NOTHING_OF_THE_MACHINE: Final[dict[str, tuple[None, None, str | None, None]]] = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""The settings decide, not what AWS' own tools are set to on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where a bucket is, and who we are there."""

    name: str
    region: str
    endpoint: str
    """The server's origin, as this process reaches it."""
    public_endpoint: str
    """The same, as clients reach it."""
    addressing: Literal["path", "virtual"]
    """Whether the bucket's name stands in the path or before the server's name."""
    key_id: str = ""
    """Without one, the credentials are the platform's."""
    secret: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Of the bucket itself, as this process reaches it."""
        return self._url_at(self.endpoint)

    @property
    def public_url(self) -> str:
        """The same, as clients reach it."""
        return self._url_at(self.public_endpoint)

    def _url_at(self, endpoint: str) -> str:
        scheme, _, server = endpoint.partition("://")
        if self.addressing == "path":
            return f"{scheme}://{server}/{self.name}"
        return f"{scheme}://{self.name}.{server}"


def _session_of(bucket: Bucket) -> AioSession:
    return AioSession(session_vars=_NOTHING_OF_THE_MACHINE if bucket.key_id else None)


@asynccontextmanager
async def open_client(bucket: Bucket, session: AioSession | None = None) -> AsyncIterator[Any]:
    """A botocore client of the bucket's server. It lives as long as the process, and is closed."""
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
    session = session or _session_of(bucket)
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
async def open_bucket(
    bucket: Bucket,
    *,
    clock: Callable[[], float] = time.time,
    operation_seconds: float = OPERATION_SECONDS,
    look_seconds: float = LOOK_SECONDS,
) -> AsyncIterator["S3ObjectStore"]:
    """The store, open until the block ends. Raise StoreUnavailable where neither the bucket nor the
    platform has credentials.
    """
    session = _session_of(bucket)
    async with AsyncExitStack() as stack:
        credentials, kept = Credentials(bucket.key_id, bucket.secret), None
        if not bucket.key_id:
            async with answering(operation_seconds):
                kept = await find_credentials(session)
                credentials = await read_credentials(kept)
        client = await stack.enter_async_context(open_client(bucket, session))
        store = S3ObjectStore(
            client, bucket, credentials, clock=clock, operation_seconds=operation_seconds
        )
        if kept is not None:
            await stack.enter_async_context(following(kept, store.use, look_seconds=look_seconds))
        yield store


class S3ObjectStore:
    """An `ObjectStore` and an `UploadStore` in one bucket, under the same keys as in a folder."""

    def __init__(
        self,
        client: Any,
        bucket: Bucket,
        credentials: Credentials,
        *,
        clock: Callable[[], float],
        operation_seconds: float,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._clock = clock
        self._operation_seconds = operation_seconds
        self._public = _Address.of(bucket.public_url)
        # A page asks for each of its links several times, and its reader for the page again.
        self._links = Links(self._sign_link, clock)
        self.use(credentials)

    def use(self, credentials: Credentials) -> None:
        """Sign with these from now on. What was signed with others stays valid until those end."""
        self._signer = Signer(
            key_id=credentials.key_id,
            secret=credentials.secret,
            region=self._bucket.region,
            token=credentials.token,
        )
        self._signed_until = credentials.expires_at or _NEVER
        self._links.forget()

    async def put(self, key: str, data: bytes) -> None:
        checked(key)
        async with answering(self._operation_seconds):
            answer = await self._client.put_object(
                Bucket=self._bucket.name,
                Key=key,
                Body=data,
                ContentType=content_type_of(key),
                **_EVERY_OBJECT,
            )
        if not answer.get("ETag"):
            raise _no_answer_of_a_bucket()

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """As a multipart upload: the bucket shows nothing of it before it is complete."""
        target = {"Bucket": self._bucket.name, "Key": checked(key)}
        async with answering(self._operation_seconds):
            begun = await self._client.create_multipart_upload(
                **target, ContentType=content_type_of(key), **_EVERY_OBJECT
            )
        target["UploadId"] = begun["UploadId"]
        try:
            tags: list[dict[str, object]] = []
            async for part in _in_parts_of(parts, _PART_BYTES):
                number = len(tags) + 1
                async with answering(self._operation_seconds):
                    answer = await self._client.upload_part(**target, PartNumber=number, Body=part)
                tags.append({"PartNumber": number, "ETag": answer["ETag"]})
            async with answering(self._operation_seconds):
                await self._client.complete_multipart_upload(
                    **target, MultipartUpload={"Parts": tags}
                )
        except BaseException:
            # What a killed process leaves is for the bucket's own rules: see docs/operations.md.
            with suppress(StoreUnavailable):
                async with answering(self._operation_seconds):
                    await self._client.abort_multipart_upload(**target)
            raise

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        checked(key)
        async with answering(self._operation_seconds):
            answer = await self._client.get_object(Bucket=self._bucket.name, Key=key)
            async with answer["Body"] as body:
                _check_is_object(answer, key)
                return await _read(body, max_bytes)

    async def size(self, key: str) -> int:
        checked(key)
        async with answering(self._operation_seconds):
            answer = await self._client.head_object(Bucket=self._bucket.name, Key=key)
        _check_is_object(answer, key)
        return int(answer["ContentLength"])

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        checked(key)
        async with answering(self._operation_seconds):
            answer = await self._client.get_object(
                Bucket=self._bucket.name, Key=key, Range=f"bytes={start}-{start + count - 1}"
            )
            async with answer["Body"] as body:
                _check_is_object(answer, key)
                data = await _read(body, count)
        if len(data) != count:
            raise _no_answer_of_a_bucket()
        return data

    async def delete(self, keys: Sequence[str]) -> None:
        every = list(dict.fromkeys(checked(key) for key in keys))
        for begin in range(0, len(every), _DELETED_AT_ONCE):
            objects = [{"Key": key} for key in every[begin : begin + _DELETED_AT_ONCE]]
            async with answering(self._operation_seconds):
                answer = await self._client.delete_objects(
                    Bucket=self._bucket.name, Delete={"Objects": objects}
                )
            # Quiet answers are short, but nothing at all would be one too.
            reported = [*answer.get("Deleted", ()), *answer.get("Errors", ())]
            if {one.get("Key") for one in reported} != {one["Key"] for one in objects}:
                raise _no_answer_of_a_bucket()
            failed = {error.get("Code") for error in answer.get("Errors", ())} - {"NoSuchKey"}
            if failed:
                raise StoreUnavailable(f"the bucket kept what was to be deleted: {failed}")

    async def keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        for folder in folders:
            after: dict[str, str] = {}
            while True:
                async with answering(self._operation_seconds):
                    answer = await self._client.list_objects_v2(
                        Bucket=self._bucket.name, Prefix=f"{folder}/{shard}/", **after
                    )
                if answer.get("Name") != self._bucket.name:
                    raise _no_answer_of_a_bucket()
                for found in answer.get("Contents", ()):
                    if is_key(found["Key"]):
                        yield StoredObject(found["Key"], found["Size"], found["LastModified"])
                if not answer.get("IsTruncated"):
                    break
                after = {"ContinuationToken": answer["NextContinuationToken"]}

    def link(self, key: str) -> Link:
        """A link that is valid for 30 to 60 minutes, and the same for a window of 30."""
        return self._links.find(key)

    @property
    def name(self) -> str:
        return self._bucket.public_url

    async def find_abilities(self) -> UploadAbilities:
        """Not the public address is asked, which may not be within reach of this process."""
        async with answering(min(self._operation_seconds, ABILITIES_SECONDS)):
            return await find_abilities(self._offer_to_try, self._send, self.delete)

    def offer(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        owner: str = "",  # noqa: ARG002 - a bucket has places enough
        abilities: UploadAbilities = EVERY_ABILITY,
    ) -> UploadOffer:
        return self._offer_at(self._public, key, file, method, abilities)

    def _offer_to_try(
        self, key: str, file: DeclaredFile, method: UploadMethod, abilities: UploadAbilities
    ) -> UploadOffer:
        return self._offer_at(_Address.of(self._bucket.url), key, file, method, abilities)

    async def _send(self, request: AWSPreparedRequest) -> int:
        # Through the client's own connections, which know of proxies and authorities.
        answer = await self._client._endpoint.http_session.send(request)
        return int(answer.status_code)

    def _offer_at(
        self,
        address: "_Address",
        key: str,
        file: DeclaredFile,
        method: UploadMethod,
        abilities: UploadAbilities,
    ) -> UploadOffer:
        checked_offer(key, file)
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        if method is UploadMethod.PUT:
            return self._offer_to_put(address, key, file, now, once=abilities.takes_once)
        if not abilities.takes_forms:
            raise ValueError("the store takes no forms")
        return self._offer_to_post(address, key, file, now)

    def _sign_link(self, key: str, begin: int) -> Link:
        path = f"{self._public.path}/{linked(key)}"
        query = self._signer.query(
            "GET",
            path,
            headers={"host": self._public.host},
            at=datetime.fromtimestamp(begin, UTC),
            seconds=_LINK_SECONDS,
        )
        return Link(
            f"{self._public.origin}{path}?{query}",
            min(datetime.fromtimestamp(begin + _LINK_SECONDS, UTC), self._signed_until),
        )

    def _offer_to_put(
        self, address: "_Address", key: str, file: DeclaredFile, now: datetime, *, once: bool
    ) -> UploadOffer:
        path = f"{address.path}/{key}"
        headers = {"Content-Type": file.content_type}
        if once:
            headers["If-None-Match"] = "*"
        if file.sha256 is not None:
            headers["x-amz-checksum-sha256"] = _in_base64(file.sha256)
        signed = {name.lower(): value for name, value in headers.items()}
        query = self._signer.query(
            "PUT",
            path,
            headers={**signed, "host": address.host, "content-length": str(file.byte_size)},
            at=now,
            seconds=OFFER_SECONDS,
        )
        return UploadOffer(
            url=f"{address.origin}{path}?{query}",
            method=UploadMethod.PUT,
            headers=headers,
            fields={},
            expires_at=min(now + timedelta(seconds=OFFER_SECONDS), self._signed_until),
        )

    def _offer_to_post(
        self, address: "_Address", key: str, file: DeclaredFile, now: datetime
    ) -> UploadOffer:
        expires_at = min(now + timedelta(seconds=OFFER_SECONDS), self._signed_until)
        fields = {"key": key, "Content-Type": file.content_type}
        if file.sha256 is not None:
            fields["x-amz-checksum-algorithm"] = "SHA256"
            fields["x-amz-checksum-sha256"] = _in_base64(file.sha256)
        conditions: list[Condition] = [
            {"bucket": self._bucket.name},
            *({name: value} for name, value in fields.items()),
            ["content-length-range", file.byte_size, file.byte_size],
        ]
        return UploadOffer(
            url=f"{address.origin}{address.path or '/'}",
            method=UploadMethod.POST,
            headers={},
            fields=fields | self._signer.form(conditions, at=now, until=expires_at),
            expires_at=expires_at,
        )


@dataclass(frozen=True, slots=True)
class _Address:
    """Of the bucket, in the parts that are signed."""

    origin: str
    host: str
    path: str

    @classmethod
    def of(cls, url: str) -> Self:
        parts = urlsplit(url)
        return cls(f"{parts.scheme}://{parts.netloc}", parts.netloc, parts.path)


def _in_base64(data: bytes) -> str:
    return b64encode(data).decode()


@asynccontextmanager
async def answering(within_seconds: float = OPERATION_SECONDS) -> AsyncIterator[None]:
    """Wait for the bucket with a limit, and tell its troubles as the port says.

    Its own words stay in the cause, which is for the log.
    """
    try:
        async with asyncio.timeout(within_seconds):
            yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "nothing")
        if code in ("NoSuchKey", "404"):  # an answer to HEAD has no body with a code
            raise ObjectMissing("there is no such object") from error
        raise StoreUnavailable(f"the bucket answered {code}") from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StoreUnavailable(f"the bucket failed: {type(error).__name__}") from error


def _check_is_object(answer: Any, key: str) -> None:
    """Objects have a tag and the type of their key; an error that comes with 200 has not."""
    if not answer.get("ETag") or answer.get("ContentType") not in (content_type_of(key), *_UNTYPED):
        raise _no_answer_of_a_bucket()


def _no_answer_of_a_bucket() -> StoreUnavailable:
    return StoreUnavailable("something else answered in the bucket's place")


async def _in_parts_of(parts: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes, all parts of one size but the last, which may be empty if it is the only one.

    Buckets refuse smaller parts before the last.
    """
    held, any_given = bytearray(), False
    async for part in parts:
        held += part
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
            any_given = True
    if held or not any_given:
        yield bytes(held)


async def _read(body: Any, max_bytes: int) -> bytes:
    parts, count = [], 0
    while part := await body.read(_CHUNK_BYTES):
        count += len(part)
        if count > max_bytes:
            raise ObjectTooLarge(f"the object has more than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)
