"""`python -m commands.bucket`, as an operator runs it."""

import os
from dataclasses import replace

import pytest

from storage.objects.bucket import Bucket
from tests.commands import run_with
from tests.http import open_http
from tests.storage.places import a_bucket_name, keys_in


async def run(command: str, bucket: Bucket | None, **environment: str) -> tuple[int, str]:
    """The exit code, and the output of both streams."""
    named = {}
    if bucket is not None:
        named = {
            "DARKROOM_S3_BUCKET": bucket.name,
            "DARKROOM_S3_ENDPOINT": bucket.endpoint,
            "DARKROOM_S3_KEY_ID": bucket.key_id,
            "DARKROOM_S3_SECRET": bucket.secret,
        }
    alone = {"PATH": os.environ["PATH"], **named, **environment}
    ran = await run_with(alone, "bucket", *command.split())
    return ran.code, ran.said


async def test_a_publicly_readable_bucket_fails_the_check(ministack_bucket: Bucket) -> None:
    code, said = await run("check", ministack_bucket)

    assert code == 1
    wrong = [line for line in said.splitlines() if not line.startswith("yes  It ")]
    assert wrong == ["no   It refuses an unsigned URL: it answered 200."]


async def test_a_missing_bucket_is_created(ministack_bucket: Bucket) -> None:
    new = replace(ministack_bucket, name="made-by-a-command")

    first = await run("cors --create", new)
    again = await run("cors --create", new)

    assert (first[0], again[0]) == (0, 0)
    assert "Created the bucket made-by-a-command." in first[1]
    assert await keys_in(new) == {}


async def test_a_private_bucket_is_checked_and_left_unchanged(ceph_bucket: Bucket) -> None:
    # A Ceph of 2021 does not look at digests.
    digests = "no   It refuses an upload of another length or digest: it answered 200."
    app = "https://a.test"
    origins = (
        f"no   It allows uploads from the allowed origins: {app} is refused; "
        "`python -m commands.bucket cors` sets the rules."
    )

    before = await run("check", ceph_bucket, DARKROOM_ALLOWED_ORIGINS=app)
    await run("cors", ceph_bucket, DARKROOM_ALLOWED_ORIGINS=app)
    after = await run("check", ceph_bucket, DARKROOM_ALLOWED_ORIGINS=app)

    found = [
        (code, [line for line in said.splitlines() if not line.startswith("yes  It ")])
        for code, said in (before, after)
    ]
    assert found == [(1, [digests, origins]), (1, [digests])]


async def test_origins_of_the_settings_can_upload(ceph_bucket: Bucket) -> None:
    code, said = await run(
        "cors", ceph_bucket, DARKROOM_ALLOWED_ORIGINS="https://a.test,http://b.test:*"
    )

    assert (code, said.splitlines()[-1]) == (
        0,
        "These origins may upload: https://a.test, http://b.test:*.",
    )
    may_upload = {
        origin: await _is_let_in(ceph_bucket, origin, "PUT")
        for origin in ("https://a.test", "http://b.test:8080", "https://c.test")
    }
    assert list(may_upload.values()) == [True, True, False]
    for origin in may_upload:
        assert await _is_let_in(ceph_bucket, origin, "GET")


async def _is_let_in(bucket: Bucket, origin: str, method: str) -> bool:
    """The preflight request of a browser."""
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,if-none-match",
    }
    async with open_http() as http:
        answer = await http.options(f"{bucket.public_url}/uploads/a.png", headers=asked)
    return answer.headers.get("access-control-allow-origin") in (origin, "*")


@pytest.mark.parametrize("command", ["check", "cors"])
async def test_missing_settings_are_reported_in_a_message(
    ministack_bucket: Bucket, command: str
) -> None:
    assert await run(command, None) == (2, "Set DARKROOM_S3_BUCKET to the name of the bucket.\n")


async def test_a_missing_bucket_cannot_be_configured(ministack_bucket: Bucket) -> None:
    name = a_bucket_name()

    code, said = await run("cors", ministack_bucket, DARKROOM_S3_BUCKET=name)

    where = f"{name} at {ministack_bucket.endpoint}"
    assert (code, said) == (1, f"{where}: the bucket answered NoSuchBucket.\n")
