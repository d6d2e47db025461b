"""For operators: prepare and test the bucket that stores the images.

`python -m commands.bucket cors` lets the pages of DARKROOM_ALLOWED_ORIGINS upload to it, and any
page show images by their links; with `--create` it creates the bucket first. `python -m
commands.bucket check` tries everything that Darkroom and its clients do with a bucket.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any, Final

import httpx2

from assembly.objects import bucket_of
from commands.console import run_main
from commands.startup import run_with_settings
from domain.errors import StoreUnavailable
from domain.images import new_key, shard_of
from domain.uploads import EVERY_ABILITY, DeclaredFile, PresignedUpload, UploadMethod
from runtime.lifecycle import FAILED, STOPPED, CannotStart, print_error
from settings import Settings
from storage.objects.bucket import Bucket, call_bucket, open_client
from storage.objects.s3 import S3ObjectStore, open_bucket

_TYPE: Final = "image/png"
_DATA: Final = b"Darkroom checks its bucket with this."
_PREFLIGHT_SECONDS: Final = 3600
_LIMIT_SECONDS: Final = 30.0


def main(arguments: list[str]) -> int:
    """Run the command. Return 1 if the bucket lacks something, 2 if the settings name none."""
    options = _parser().parse_args(arguments)
    return run_with_settings(lambda settings: _run(settings, options))


async def _run(settings: Settings, options: Namespace) -> int:
    bucket = bucket_of(settings)
    if bucket is None:
        raise CannotStart("Set DARKROOM_S3_BUCKET to the name of the bucket.")
    try:
        if options.command == "cors":
            return await _prepare(settings, bucket, create=options.create)
        return await _check(bucket, settings.allowed_origins)
    except StoreUnavailable as error:
        print_error(f"{bucket.name} at {bucket.endpoint}: {error}.")
        return FAILED


async def _prepare(settings: Settings, bucket: Bucket, *, create: bool) -> int:
    if create:
        async with open_client(bucket) as client, call_bucket():
            await _create(client, bucket)
    return await set_cors(settings, bucket)


async def _create(client: Any, bucket: Bucket) -> None:
    """Create the bucket, unless it exists and is ours."""
    already_exists = client.exceptions.BucketAlreadyOwnedByYou
    needs_location = bucket.region != "us-east-1"  # S3's default
    location = {"CreateBucketConfiguration": {"LocationConstraint": bucket.region}}
    try:
        await client.create_bucket(Bucket=bucket.name, **(location if needs_location else {}))
    except already_exists:
        return
    print(f"Created the bucket {bucket.name}.")


async def set_cors(settings: Settings, bucket: Bucket) -> int:
    """Replace the bucket's CORS rules and print them. Return the exit code."""
    origins = list(settings.allowed_origins)
    # Some servers read only the first rule that fits the origin, so that rule allows everything.
    upload = _rule("upload", ["GET", "HEAD", "PUT", "POST"], origins)
    show = _rule("show", ["GET", "HEAD"], ["*"])
    rules = [upload, show] if origins else [show]
    async with open_client(bucket) as client, call_bucket():
        await client.put_bucket_cors(Bucket=bucket.name, CORSConfiguration={"CORSRules": rules})
    print(f"Every origin may show images of {bucket.name}.")
    print(f"These origins may upload: {', '.join(origins) or 'none'}.")
    return STOPPED


def _rule(name: str, methods: list[str], origins: list[str]) -> dict[str, Any]:
    return {
        "ID": name,
        "AllowedMethods": methods,
        "AllowedOrigins": origins,
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag", "Content-Range"],
        "MaxAgeSeconds": _PREFLIGHT_SECONDS,
    }


async def _check(bucket: Bucket, origins: Sequence[str]) -> int:
    async with (
        open_bucket(bucket) as store,
        httpx2.AsyncClient(timeout=_LIMIT_SECONDS) as http,
    ):
        bucket_check = _BucketCheck(store, http, origins)
        steps: list[tuple[str, Callable[[], Awaitable[str | None]]]] = [
            ("stores an object and returns it", bucket_check.check_storing),
            ("lists its objects", bucket_check.check_listing),
            ("serves an object to a signed URL", bucket_check.check_signed_url),
            ("refuses an unsigned URL", bucket_check.check_unsigned_url),
            ("refuses an altered URL", bucket_check.check_altered_url),
            ("accepts uploads", bucket_check.check_abilities),
            ("accepts an upload by PUT", bucket_check.check_put),
            ("refuses a second upload to the same URL", bucket_check.check_second_put),
            ("refuses an upload of another length or digest", bucket_check.check_other_content),
            ("accepts an upload by POST", bucket_check.check_post),
            ("allows uploads from the allowed origins", bucket_check.check_cors),
            ("deletes objects", bucket_check.check_deleting),
        ]
        problem_count = 0
        for promise, step in steps:
            try:
                problem = await step()
            except (StoreUnavailable, httpx2.HTTPError) as error:
                problem = str(error) or type(error).__name__
            is_wrong = problem is not None and not isinstance(problem, _MissingAbility)
            mark = "no " if is_wrong else "n/a" if problem else "yes"
            print(f"{mark}  It {promise}{f': {problem}' if problem else ''}.")
            problem_count += is_wrong
    return FAILED if problem_count else STOPPED


class _MissingAbility(str):
    """An ability that the bucket lacks, and that Darkroom can do without."""

    __slots__ = ()


class _BucketCheck:
    """What Darkroom and its clients do with a bucket. Each step returns what is wrong, or None."""

    def __init__(
        self, store: S3ObjectStore, http: httpx2.AsyncClient, origins: Sequence[str]
    ) -> None:
        self._store = store
        self._http = http
        self._origins = [origin.replace("*", "8000") for origin in origins]
        self._key = new_key("images", _TYPE)
        self._uploads = [new_key("uploads", _TYPE) for _ in range(3)]
        self._abilities = EVERY_ABILITY

    async def check_storing(self) -> str | None:
        await self._store.put(self._key, _DATA)
        return None if await self._store.get(self._key) == _DATA else "it returned other bytes"

    async def check_listing(self) -> str | None:
        listed = self._store.list_keys(shard_of(self._key), folders=("images",))
        found = [info async for info in listed if info.key == self._key]
        return None if found else "it lists nothing"

    async def check_signed_url(self) -> str | None:
        answer = await self._http.get(self._store.link(self._key).url)
        if answer.content != _DATA:
            return _describe_response(answer)
        cached = "max-age" in answer.headers.get("cache-control", "")
        return None if cached else "clients may not cache the response"

    async def check_unsigned_url(self) -> str | None:
        return _expect_refusal(
            await self._http.get(self._store.link(self._key).url.partition("?")[0])
        )

    async def check_altered_url(self) -> str | None:
        url = self._store.link(self._key).url
        return _expect_refusal(await self._http.get(url[:-1] + ("0" if url[-1] != "0" else "1")))

    async def check_abilities(self) -> None:
        self._abilities = await self._store.find_abilities()

    async def check_put(self) -> str | None:
        answer = await self._send(self._presign(0, UploadMethod.PUT), _DATA)
        return None if answer.is_success else _describe_response(answer)

    async def check_second_put(self) -> str | None:
        if not self._abilities.takes_once:
            return _MissingAbility(
                "it does not support If-None-Match, so an upload can be replaced"
            )
        return _expect_refusal(await self._send(self._presign(0, UploadMethod.PUT), _DATA))

    async def check_other_content(self) -> str | None:
        presigned = self._presign(1, UploadMethod.PUT)
        longer, other = _DATA + b"!", _DATA.upper()
        return _expect_refusal(await self._send(presigned, longer)) or _expect_refusal(
            await self._send(presigned, other)
        )

    async def check_post(self) -> str | None:
        if not self._abilities.takes_forms:
            return _MissingAbility("it does not support POST forms, so uploads are sent by PUT")
        answer = await self._send(self._presign(2, UploadMethod.POST), _DATA)
        return None if answer.is_success else _describe_response(answer)

    async def check_cors(self) -> str | None:
        if not self._origins:
            return _MissingAbility("DARKROOM_ALLOWED_ORIGINS names none")
        url = self._presign(0, UploadMethod.PUT).url
        for origin in self._origins:
            headers = {
                "Origin": origin,
                "Access-Control-Request-Method": "PUT",
                "Access-Control-Request-Headers": "content-type,if-none-match",
            }
            answer = await self._http.options(url, headers=headers)
            allowed = answer.headers.get("access-control-allow-origin")
            if not answer.is_success or allowed not in (origin, "*"):
                return f"{origin} is refused; `python -m commands.bucket cors` sets the rules"
        return None

    async def check_deleting(self) -> str | None:
        await self._store.delete([self._key, *self._uploads])
        answer = await self._http.get(self._store.link(self._key).url)
        return None if answer.status_code == 404 else _describe_response(answer)

    def _presign(self, index: int, method: UploadMethod) -> PresignedUpload:
        file = DeclaredFile(content_type=_TYPE, byte_size=len(_DATA), sha256=sha256(_DATA).digest())
        return self._store.presign(
            self._uploads[index], file, method=method, abilities=self._abilities
        )

    async def _send(self, presigned: PresignedUpload, data: bytes) -> httpx2.Response:
        if presigned.method is UploadMethod.PUT:
            return await self._http.put(
                presigned.url, headers=dict(presigned.headers), content=data
            )
        return await self._http.post(
            presigned.url, data=dict(presigned.fields), files={"file": ("file", data, _TYPE)}
        )


def _describe_response(answer: httpx2.Response) -> str:
    return f"it answered {answer.status_code}"


def _expect_refusal(answer: httpx2.Response) -> str | None:
    return None if 400 <= answer.status_code < 500 else _describe_response(answer)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.bucket", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    cors = commands.add_parser("cors", help="replace the bucket's CORS rules")
    cors.add_argument(
        "--create", action="store_true", help="create the bucket first, if it does not exist"
    )
    commands.add_parser("check", help="store, read, list, sign, upload and delete small objects")
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
