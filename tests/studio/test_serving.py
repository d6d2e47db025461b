"""The studio's files over HTTP: what a browser receives, and what its policy allows."""

import re

import httpx2
import pytest

from storage.objects.bucket import Bucket
from tests.buckets import settings_of
from tests.conftest import Darkroom, StartDarkroom
from tests.storage.places import new_bucket

AS_A_BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def http(darkroom: Darkroom) -> httpx2.AsyncClient:
    return darkroom.anonymous().http


def policy_of(response: httpx2.Response) -> dict[str, set[str]]:
    parts = [part.split() for part in response.headers["content-security-policy"].split(";")]
    return {name: set(sources) for name, *sources in parts}


async def test_a_browser_is_redirected_to_the_studio_and_a_program_to_the_api(
    http: httpx2.AsyncClient,
) -> None:
    browser = await http.get("/", headers=AS_A_BROWSER)
    program = await http.get("/")

    assert browser.headers["location"] == "/studio/"
    assert program.headers["location"] == "/graphql"
    assert (await http.get("/studio")).headers["location"] == "/studio/"


@pytest.mark.parametrize(
    "path", ["/studio/", "/studio/conversations", "/studio/conversations/conv_1"]
)
async def test_every_view_returns_the_page(http: httpx2.AsyncClient, path: str) -> None:
    response = await http.get(path)

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert 'name="darkroom-environment" content="development"' in response.text


async def test_the_page_can_load_nothing_from_other_hosts(
    http: httpx2.AsyncClient, darkroom: Darkroom
) -> None:
    policy = policy_of(await http.get("/studio/"))

    assert policy["default-src"] == {"'none'"}
    assert policy["script-src"] == policy["style-src"] == {"'self'"}
    assert policy["img-src"] == {"'self'", darkroom.settings.public_url, "blob:", "data:"}
    assert policy["connect-src"] == {"'self'", darkroom.settings.public_url}
    assert policy["frame-ancestors"] == {"'none'"}


async def test_the_page_can_connect_to_the_bucket(
    start_darkroom: StartDarkroom, ministack_bucket: Bucket
) -> None:
    bucket = await new_bucket(ministack_bucket)
    darkroom = await start_darkroom(**settings_of(bucket))

    policy = policy_of(await darkroom.anonymous().http.get("/studio/"))

    assert policy["connect-src"] == {"'self'", bucket.public_endpoint}
    assert bucket.public_endpoint in policy["img-src"]


async def test_assets_are_cached_for_ever_and_the_page_is_revalidated(
    http: httpx2.AsyncClient,
) -> None:
    page = await http.get("/studio/")
    names = re.findall(r'(?:src|href)="(/studio/assets/[^"]+)"', page.text)
    assert len(names) >= 2

    for name in names:
        asset = await http.get(name)
        assert asset.status_code == 200
        assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"

    again = await http.get("/studio/", headers={"if-none-match": page.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("identity", None),
        ("", None),
    ],
)
async def test_an_asset_is_sent_in_the_smallest_accepted_encoding(
    http: httpx2.AsyncClient, accepted: str, encoding: str | None
) -> None:
    page = await http.get("/studio/")
    script = re.findall(r'src="(/studio/assets/[^"]+\.js)"', page.text)[0]

    response = await http.get(script, headers={"accept-encoding": accepted})

    assert response.headers.get("content-encoding") == encoding
    assert response.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "path",
    [
        "/studio/assets/none.js",
        "/studio/../app.py",
        "/studio/%2e%2e/app.py",
        "/studio/sources.sha256",
    ],
)
async def test_only_files_of_the_build_are_served(http: httpx2.AsyncClient, path: str) -> None:
    response = await http.get(path)

    assert response.status_code == 404
    assert "import" not in response.text


async def test_the_licences_of_bundled_packages_are_served(http: httpx2.AsyncClient) -> None:
    text = (await http.get("/studio/licences.txt")).text

    for package in ("svelte", "@urql/core", "graphql-ws", "thumbhash"):
        assert re.search(rf"^{package} \d+\.\d+\.\d+ \(MIT\)$", text, flags=re.MULTILINE)
