"""Object stores that accept signed URLs and presigned uploads over real HTTP, all with one
interface.
"""

import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import httpx2
from starlette.applications import Starlette

from domain.images import new_key
from domain.ports.objects import Objects
from domain.signing import Signer
from domain.uploads import DeclaredFile, PresignedUpload, UploadMethod
from edge.signed_objects import signed_object_routes
from edge.signed_uploads import signed_upload_routes
from storage.objects.bucket import Bucket, open_client
from storage.objects.folder import FolderObjectStore
from storage.objects.s3 import open_bucket
from tests.http import open_http
from tests.serving import free_port, serving

PICTURE = bytes(range(250)) * 4
PUT, POST = UploadMethod.PUT, UploadMethod.POST


class Clock:
    """The true time, or a number of seconds before it: servers use their own clocks."""

    def __init__(self) -> None:
        self.behind = 0.0

    def __call__(self) -> float:
        return time.time() - self.behind


class Place:
    """A store, and a client that has only what it is given."""

    def __init__(self, store: Objects, clock: Clock, http: httpx2.AsyncClient) -> None:
        self.store = store
        self.clock = clock
        self.http = http

    async def put(self, data: bytes = PICTURE, *, content_type: str = "image/png") -> str:
        """Put an object and return its key."""
        key = new_key("images", content_type)
        await self.store.put(key, data)
        return key

    def presign(
        self,
        method: UploadMethod,
        *,
        key: str | None = None,
        data: bytes = PICTURE,
        with_digest: bool = False,
        content_type: str = "image/png",
        owner: str = "",
    ) -> tuple[str, PresignedUpload]:
        """A presigned upload for these bytes, and its key."""
        key = key or new_key("uploads", content_type)
        file = DeclaredFile(
            content_type=content_type,
            byte_size=len(data),
            sha256=sha256(data).digest() if with_digest else None,
        )
        return key, self.store.presign(key, file, method=method, owner=owner)

    async def send(
        self,
        presigned: PresignedUpload,
        data: bytes = PICTURE,
        *,
        url: str | None = None,
        without: str = "",
        instead: Mapping[str, str] | None = None,
    ) -> httpx2.Response:
        """Do as the presigned upload says, but for what is named."""
        changes = dict(instead or {})
        headers = {name: changes.get(name, value) for name, value in presigned.headers.items()}
        fields = {name: changes.get(name, value) for name, value in presigned.fields.items()}
        headers.pop(without, None)
        fields.pop(without, None)
        if presigned.method is PUT:
            return await self.http.put(url or presigned.url, headers=headers, content=data)
        files = {"file": ("IMG 0001 (1).png", data, "image/png")}
        return await self.http.post(url or presigned.url, data=fields, files=files)


@asynccontextmanager
async def place_in_folder(folder: Path) -> AsyncIterator[Place]:
    clock, port = Clock(), free_port()
    store = FolderObjectStore(
        folder, public_url=f"http://127.0.0.1:{port}", signer=Signer(b"a secret"), clock=clock
    )
    routes = [
        *signed_object_routes(store),
        *signed_upload_routes(store, origins=r"https://app\.test"),
    ]
    async with serving(Starlette(routes=routes), port), _client() as http:
        yield Place(store, clock, http)
    await store.aclose()


@asynccontextmanager
async def place_in_bucket(bucket: Bucket) -> AsyncIterator[Place]:
    clock = Clock()
    async with open_bucket(bucket, clock=clock) as store, _client() as http:
        yield Place(store, clock, http)


async def make_bucket(bucket: Bucket) -> None:
    async with open_client(bucket) as client:
        await client.create_bucket(Bucket=bucket.name)


async def new_bucket(server: Bucket) -> Bucket:
    """An empty one where another one is."""
    bucket = replace(server, name=a_bucket_name())
    await make_bucket(bucket)
    return bucket


async def keys_in(bucket: Bucket) -> dict[str, int]:
    """Everything that is in a bucket, with its size."""
    found: dict[str, int] = {}
    async with open_client(bucket) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name)
        async for page in pages:
            found |= {one["Key"]: one["Size"] for one in page.get("Contents", ())}
    return found


def altered(url: str, name: str) -> str:
    """The URL with the last character of one of its parameters changed."""
    found = re.search(rf"[?&]{name}=([^&]*)", url)
    assert found is not None, url
    last = found.end() - 1
    return url[:last] + ("0" if url[last] != "0" else "1") + url[last + 1 :]


def a_bucket_name() -> str:
    return f"test-{uuid4().hex}"


def _client() -> httpx2.AsyncClient:
    return open_http(timeout=20)
