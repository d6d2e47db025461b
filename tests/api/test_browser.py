"""A page of another origin in a real browser: the requests of docs/client-guide.md, unchanged."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from playwright.async_api import Browser, Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from commands.bucket import set_cors
from storage.objects.bucket import Bucket
from tests.buckets import settings_of
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import GALLERY
from tests.serving import free_port, serving
from tests.storage.places import new_bucket
from tests.tools import need
from tests.uploads import COMPLETE, CREATE, a_picture

DOCUMENT = Path(__file__).parents[2] / "docs/client-guide.md"
ASK = """
const ask = async (query, variables) => {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  const body = JSON.stringify({ query, variables });
  return await (await fetch(`${darkroom}/graphql`, { method: "POST", headers, body })).json();
};
"""
FILES = """
const files = await Promise.all(pictures.map(async ({ data, type }, index) =>
  new File([await (await fetch(`data:${type};base64,${data}`)).blob()], `${index}.png`, { type })));
"""
AS_A_FORM = """
for (const file of files) {
  const { data } = await ask(create, {
    files: [{ contentType: file.type, byteSize: file.size, method: "POST" }],
  });
  const [upload] = data.createUploads.uploads;
  const form = new FormData();
  for (const { name, value } of upload.fields) form.append(name, value);
  form.append("file", file);
  const answer = await fetch(upload.url, { method: "POST", body: form });
  if (!answer.ok) throw new Error(`not taken: ${answer.status}`);
  await ask(complete, { id: upload.id });
}
"""
SHOW = """
async (url) => {
  const image = new Image();
  image.crossOrigin = "anonymous";
  image.src = url;
  await image.decode();
  const pixels = await createImageBitmap(await (await fetch(url)).blob());
  return [image.naturalWidth, image.naturalHeight, pixels.width];
}
"""


@pytest.fixture
async def in_folder(start_darkroom: StartDarkroom) -> Darkroom:
    return await start_darkroom()


@pytest.fixture
async def in_bucket(start_darkroom: StartDarkroom, ceph_bucket: Bucket) -> Darkroom:
    """One that lets no page in before `python -m commands.bucket cors` has been run."""
    bucket = await new_bucket(ceph_bucket)
    darkroom = await start_darkroom(**settings_of(bucket))
    assert await set_cors(darkroom.settings, bucket) == 0
    return darkroom


@pytest.fixture(params=["in_folder", "in_bucket"])
def darkroom(request: pytest.FixtureRequest) -> Darkroom:
    return cast(Darkroom, request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=need("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty page of an origin of its own."""

    async def empty(_: Request) -> Response:
        return HTMLResponse("<!doctype html><title>An app</title>")

    port = free_port()
    async with serving(Starlette(routes=[Route("/", empty)]), port) as url:
        page = await browser.new_page()
        await page.goto(url)
        yield page
        await page.close()


def documented(heading: str) -> str:
    """The first piece of code of a chapter."""
    chapter = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2]
    found = re.search(r"```ts\n(.*?)```", chapter, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("how", ["as documented", "as a form"])
async def test_a_browser_page_uploads_and_shows_pictures(
    darkroom: Darkroom, page: Page, how: str
) -> None:
    client = darkroom.client()
    script = documented("Uploading images") if how == "as documented" else AS_A_FORM
    given = {
        "darkroom": client.url,
        "token": client.token,
        "create": CREATE,
        "complete": COMPLETE,
        "pictures": [
            {"data": b64encode(a_picture((320, 200))).decode(), "type": "image/png"},
            {"data": b64encode(a_picture((64, 64), format="WEBP")).decode(), "type": "image/webp"},
        ],
    }

    await page.evaluate(f"async ({{ {', '.join(given)} }}) => {{ {ASK + FILES + script} }}", given)

    images = (await client(GALLERY, origin="UPLOAD"))["viewer"]["images"]["nodes"]
    shown = [await page.evaluate(SHOW, image["url"]) for image in images]
    assert sorted(shown) == [[64, 64, 64], [320, 200, 320]]
