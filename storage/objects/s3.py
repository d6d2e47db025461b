"""The object store in a bucket of any server that speaks the S3 API.

An object is whole or not there: the request has the body's length and digest, and the server keeps
nothing that differs. The bucket is private: `bucket_signing` opens single objects to others.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from botocore.awsrequest import AWSPreparedRequest

from domain.batches import in_batches
from domain.errors import ObjectTooLarge, StoreUnavailable
from domain.images import FOLDERS
from domain.object_keys import checked, content_type_of, is_key
from domain.ports.objects import MAX_OBJECT_BYTES, Link, StoredObject
from domain.uploads import (
    EVERY_ABILITY,
    DeclaredFile,
    PresignedUpload,
    UploadAbilities,
    UploadMethod,
)
from storage.objects.abilities import find_abilities
from storage.objects.bucket import (
    OPERATION_SECONDS,
    Bucket,
    call_bucket,
    open_client,
    session_of,
)
from storage.objects.bucket_signing import LINK_SECONDS, BucketSigner
from storage.objects.credentials import (
    LOOK_SECONDS,
    Credentials,
    find_credentials,
    read_credentials,
    renewing,
)
from storage.objects.links import Links

ABILITIES_SECONDS: Final = 5.0
"""The limit for finding out what uploads the bucket takes: a client waits for the first time."""

_CHUNK_BYTES: Final = 256 * 1024
_PART_BYTES: Final = 8 * 1024 * 1024
BATCH_SIZE: Final = 1000
"""The most keys that a server lists or deletes for one request."""
_OBJECT_HEADERS: Final = {
    "CacheControl": f"private, max-age={LINK_SECONDS}, immutable",
    "ContentDisposition": "inline",
}
_UNTYPED: Final = ("binary/octet-stream", "application/octet-stream")
"""The types that tools which copy buckets give to objects of unknown types."""


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
    session = session_of(bucket)
    async with AsyncExitStack() as stack:
        credentials, kept = Credentials(bucket.key_id, bucket.secret), None
        if not bucket.key_id:
            async with call_bucket(operation_seconds):
                kept = await find_credentials(session)
                credentials = await read_credentials(kept)
        client = await stack.enter_async_context(open_client(bucket, session))
        store = S3ObjectStore(
            client, bucket, credentials, clock=clock, operation_seconds=operation_seconds
        )
        if kept is not None:
            await stack.enter_async_context(renewing(kept, store.use, look_seconds=look_seconds))
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
        self.use(credentials)

    def use(self, credentials: Credentials) -> None:
        """Sign with these from now on. What other credentials have signed stays valid until they
        expire.
        """
        bucket = self._bucket
        self._public = BucketSigner(bucket, bucket.public_url, credentials)
        self._internal = BucketSigner(bucket, bucket.url, credentials)
        # A page asks for each of its links several times, and its reader for the page again.
        self._links = Links(self._public.sign_link, self._clock)

    async def put(self, key: str, data: bytes) -> None:
        checked(key)
        async with call_bucket(self._operation_seconds):
            answer = await self._client.put_object(
                Bucket=self._bucket.name,
                Key=key,
                Body=data,
                ContentType=content_type_of(key),
                **_OBJECT_HEADERS,
            )
        if not answer.get("ETag"):
            raise _not_a_bucket()

    async def put_parts(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """Store an object by a multipart upload, which the bucket does not show before it is
        complete.
        """
        target = {"Bucket": self._bucket.name, "Key": checked(key)}
        async with call_bucket(self._operation_seconds):
            upload = await self._client.create_multipart_upload(
                **target, ContentType=content_type_of(key), **_OBJECT_HEADERS
            )
        target["UploadId"] = upload["UploadId"]
        try:
            tags: list[dict[str, object]] = []
            async for part in _regroup(parts, _PART_BYTES):
                number = len(tags) + 1
                async with call_bucket(self._operation_seconds):
                    answer = await self._client.upload_part(**target, PartNumber=number, Body=part)
                tags.append({"PartNumber": number, "ETag": answer["ETag"]})
            async with call_bucket(self._operation_seconds):
                await self._client.complete_multipart_upload(
                    **target, MultipartUpload={"Parts": tags}
                )
        except BaseException:
            # If the process is killed, `delete_parts` removes the parts, or the bucket's lifecycle
            # rules: see docs/operations.md.
            with suppress(StoreUnavailable):
                async with call_bucket(self._operation_seconds):
                    await self._client.abort_multipart_upload(**target)
            raise

    async def delete_parts(self, key: str) -> None:
        target = {"Bucket": self._bucket.name}
        # A key may lack the permission, or a server the operation: lifecycle rules are left then.
        with suppress(StoreUnavailable):
            async with call_bucket(self._operation_seconds):
                listed = await self._client.list_multipart_uploads(**target, Prefix=checked(key))
            for upload in listed.get("Uploads", ()):
                async with call_bucket(self._operation_seconds):
                    await self._client.abort_multipart_upload(
                        **target, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
        await self.delete([key])

    async def get(self, key: str, *, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        checked(key)
        async with call_bucket(self._operation_seconds):
            answer = await self._client.get_object(Bucket=self._bucket.name, Key=key)
            async with answer["Body"] as body:
                _check_is_object(answer, key)
                return await _read(body, max_bytes)

    async def get_size(self, key: str) -> int:
        checked(key)
        async with call_bucket(self._operation_seconds):
            answer = await self._client.head_object(Bucket=self._bucket.name, Key=key)
        _check_is_object(answer, key)
        return int(answer["ContentLength"])

    async def read(self, key: str, *, start: int, count: int) -> bytes:
        checked(key)
        async with call_bucket(self._operation_seconds):
            answer = await self._client.get_object(
                Bucket=self._bucket.name, Key=key, Range=f"bytes={start}-{start + count - 1}"
            )
            async with answer["Body"] as body:
                _check_is_object(answer, key)
                data = await _read(body, count)
        if len(data) != count:
            raise _not_a_bucket()
        return data

    async def delete(self, keys: Sequence[str]) -> None:
        every = list(dict.fromkeys(checked(key) for key in keys))
        for batch in in_batches(every, BATCH_SIZE):
            objects = [{"Key": key} for key in batch]
            async with call_bucket(self._operation_seconds):
                answer = await self._client.delete_objects(
                    Bucket=self._bucket.name, Delete={"Objects": objects}
                )
            # Quiet answers would be shorter, but an empty answer from another server would look the
            # same.
            reported = [*answer.get("Deleted", ()), *answer.get("Errors", ())]
            if {entry.get("Key") for entry in reported} != {target["Key"] for target in objects}:
                raise _not_a_bucket()
            failed = {error.get("Code") for error in answer.get("Errors", ())} - {"NoSuchKey"}
            if failed:
                raise StoreUnavailable(f"the bucket kept what was to be deleted: {failed}")

    async def list_keys(
        self, shard: str, *, folders: Sequence[str] = FOLDERS
    ) -> AsyncIterator[StoredObject]:
        for folder in folders:
            after: dict[str, str] = {}
            while True:
                async with call_bucket(self._operation_seconds):
                    answer = await self._client.list_objects_v2(
                        Bucket=self._bucket.name,
                        Prefix=f"{folder}/{shard}/",
                        MaxKeys=BATCH_SIZE,
                        **after,
                    )
                if answer.get("Name") != self._bucket.name:
                    raise _not_a_bucket()
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
        """Ask the bucket at its internal address: this process may not reach the public one."""
        async with call_bucket(min(self._operation_seconds, ABILITIES_SECONDS)):
            return await find_abilities(self._presign_to_try, self._send, self.delete)

    def presign(
        self,
        key: str,
        file: DeclaredFile,
        *,
        method: UploadMethod,
        owner: str = "",  # noqa: ARG002 - a bucket has room for any number
        abilities: UploadAbilities = EVERY_ABILITY,
    ) -> PresignedUpload:
        return self._public.presign(key, file, method=method, abilities=abilities, now=self._now())

    def _presign_to_try(
        self, key: str, file: DeclaredFile, *, method: UploadMethod, abilities: UploadAbilities
    ) -> PresignedUpload:
        return self._internal.presign(
            key, file, method=method, abilities=abilities, now=self._now()
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock()), UTC)

    async def _send(self, request: AWSPreparedRequest) -> int:
        # Through the client's own connections, which know of proxies and authorities.
        answer = await self._client._endpoint.http_session.send(request)
        return int(answer.status_code)


def _check_is_object(answer: Any, key: str) -> None:
    """Check that an answer is an object, which has a tag and the type of its key; an error that
    comes with 200 has not.
    """
    if not answer.get("ETag") or answer.get("ContentType") not in (content_type_of(key), *_UNTYPED):
        raise _not_a_bucket()


def _not_a_bucket() -> StoreUnavailable:
    return StoreUnavailable("something else answered in the bucket's place")


async def _regroup(parts: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in parts of one size. The last part may be smaller, and empty if it is the
    only one.

    Buckets refuse smaller parts before the last one.
    """
    buffer, has_yielded = bytearray(), False
    async for part in parts:
        buffer += part
        while len(buffer) >= size:
            yield bytes(buffer[:size])
            del buffer[:size]
            has_yielded = True
    if buffer or not has_yielded:
        yield bytes(buffer)


async def _read(body: Any, max_bytes: int) -> bytes:
    parts, count = [], 0
    while part := await body.read(_CHUNK_BYTES):
        count += len(part)
        if count > max_bytes:
            raise ObjectTooLarge(f"the object has more than {max_bytes} bytes")
        parts.append(part)
    return b"".join(parts)
