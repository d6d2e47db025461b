"""Many images in a real browser: searched, selected, added to albums, and scrolled."""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

from playwright.async_api import Page, Response, Route, expect
from pymongo import AsyncMongoClient

from domain.ids import new_image_id, viewer_id_of
from edge.dev_tokens import ISSUER
from tests.conftest import Darkroom
from tests.operations import conversation_with
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import wait_until_true
from tests.tools import find_tool

IDLE_MILLISECONDS = 2_000
"""Longer than the page waits for a moment without work."""
PICTURES = int(os.environ.get("DARKROOM_TEST_PICTURES", "400"))
"""`make resilience PICTURES=5000` scrolls through more."""
MOST_TILES = 120
"""As many as there are on three screens, and some."""
SCROLL_THROUGH = """
async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const list = document.querySelector("[role=list]");
  let blank = 0, tiles = 0, frames = 0, slow = 0, still = 0, before = performance.now();
  const look = () => {
    const { top, bottom } = list.getBoundingClientRect();
    const from = Math.max(top, 0), to = Math.min(bottom, innerHeight);
    const rows = [...list.children].map((row) => row.getBoundingClientRect());
    rows.sort((one, other) => one.top - other.top);
    let covered = from;
    for (const row of rows) if (row.top - covered <= 8.5) covered = Math.max(covered, row.bottom);
    if (covered < to - 8.5) blank += 1;
    tiles = Math.max(tiles, list.querySelectorAll("figure").length);
  };
  while (still < 200) {
    const at = scrollY;
    scrollBy(0, 300);
    await frame();
    const now = performance.now();
    if (now - before > 50) slow += 1;
    before = now;
    frames += 1;
    still = scrollY === at ? still + 1 : 0;
    if (still > 20 && document.querySelector(".end")) break;
    look();
  }
  for (const part of [0.5, 0, 0.8, 0.2]) {
    scrollTo(0, part * document.body.scrollHeight);
    await frame();
    look();
  }
  return { blank, tiles, frames, slow };
}
"""
"""At 300 pixels a frame, which no person can read, then with jumps."""


async def copy_images(darkroom: Darkroom, viewer: str, count: int) -> None:
    """Give the viewer many images, which share the files of the samples."""
    uri = darkroom.settings.mongodb_uri
    assert uri is not None
    async with AsyncMongoClient[dict[str, Any]](uri.get_secret_value()) as client:
        images = client[darkroom.settings.mongodb_database]["images"]
        owner = viewer_id_of(ISSUER, viewer)
        samples = await images.find({"ownerId": owner}).to_list()
        await images.insert_many(
            [samples[number % len(samples)] | {"_id": new_image_id()} for number in range(count)]
        )


async def heap_megabytes(page: Page) -> float:
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    usage = await session.send("Runtime.getHeapUsage")
    return float(usage["usedSize"]) / 1e6


async def select(page: Page, *positions: int) -> None:
    await page.get_by_role("button", name="Select", exact=True).click()
    for position in positions:
        await page.locator("figure .open").nth(position).click()
    await expect(page.get_by_text(f"{len(positions)} selected")).to_be_visible()


async def test_a_newcomer_begins_with_an_idea(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer, color_scheme="dark")
    idea = page.get_by_role("list", name="Ideas to begin with").get_by_role("button").first
    words = (await idea.inner_text()).strip()
    if find_tool("studio"):
        assert await find_barriers(page) == []

    await idea.click()

    dialog = page.get_by_role("dialog", name="Start editing")
    await expect(dialog.get_by_label("What should change?")).to_have_value(words)
    await dialog.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url(re.compile(r"/studio/conversations/conv_\w+$"))
    await page.get_by_role("link", name="Gallery", exact=True).click()
    await expect(page.get_by_role("list", name="Recent work")).to_be_visible()
    await expect(idea).to_be_hidden()


async def test_thousands_of_images_are_scrolled_without_a_blank_frame(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    """Only what is near the screen exists, and memory does not grow with what was passed."""
    assert await darkroom.client(viewer)("{ viewer { id } }")
    await copy_images(darkroom, viewer, PICTURES - 4)
    page = await open_studio(darkroom, viewer)
    await expect(page.locator("figure").first).to_be_visible()
    before = await heap_megabytes(page)

    seen = await page.evaluate(SCROLL_THROUGH)

    after = await heap_megabytes(page)
    print(f"{PICTURES} pictures: {seen}, {before:.1f} to {after:.1f} MB")  # noqa: T201
    await expect(page.get_by_text("That is everything.")).to_be_attached()
    assert seen["blank"] == 0
    assert seen["frames"] > PICTURES / 20
    assert seen["tiles"] <= MOST_TILES
    # An image is known by its texts and URLs, some 3 KB.
    assert after - before < 12 + PICTURES * 0.008

    top = await page.evaluate("scrollY")
    assert top > 0
    await page.get_by_role("link", name="Albums").click()
    await expect(page.get_by_role("main", name="Albums")).to_be_focused()
    await page.go_back()
    await wait_until_true(page, f"Math.abs(scrollY - {top}) <= 1")


async def test_images_are_found_by_prompts_and_models(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    await conversation_with(darkroom.client(viewer), userMessage="A green heron by a pond")
    page = await open_studio(darkroom, viewer)
    await expect(page.locator("figure")).to_have_count(5)
    recent = page.get_by_role("list", name="Recent work")
    await expect(recent.get_by_role("link")).to_contain_text("A green heron by a pond")

    await page.get_by_label("Search pictures").fill("heron")
    await expect(page.locator("figure")).to_have_count(1)
    await expect(recent).to_have_count(0)
    await page.get_by_label("Search pictures").fill("zebra")
    await expect(page.get_by_text("Nothing found")).to_be_visible()
    await page.get_by_label("Search pictures").fill("")
    await expect(page.locator("figure")).to_have_count(5)
    await page.get_by_label("Pictures by model").select_option("local-silver")
    await expect(page.locator("figure")).not_to_have_count(5)


async def test_several_images_can_be_selected_marked_and_deleted(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    """Images that a conversation needs are kept, and the page says so."""
    client = darkroom.client(viewer)
    images = (await client("{ viewer { images { nodes { id } } } }"))["viewer"]["images"]["nodes"]
    await conversation_with(client, sourceImageId=images[0]["id"])
    page = await open_studio(darkroom, viewer)
    await expect(page.locator("figure")).to_have_count(5)

    await select(page, 1, 2, 3)
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await page.get_by_role("button", name="Favourite", exact=True).click()
    await expect(page.get_by_role("button", name="No favourite")).to_be_visible()
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete", exact=True).click()

    await expect(page.locator("figure")).to_have_count(3)
    said = "2 images are deleted. 1 is used elsewhere and stays."
    await expect(page.locator(".toasts li")).to_contain_text(said)
    await page.keyboard.press("Escape")
    await page.get_by_role("radio", name="Favourites").check(force=True)
    await expect(page.locator("figure")).to_have_count(1)


async def test_a_range_can_be_selected_by_keyboard(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)
    await expect(page.locator("figure")).to_have_count(4)

    await page.get_by_role("button", name="Select", exact=True).press("Enter")
    await page.locator("figure .open").first.focus()
    await page.keyboard.press("Enter")
    for _ in range(2):
        await page.keyboard.press("Tab")
    await page.keyboard.press("Shift+Enter")

    await expect(page.get_by_text("3 selected")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Upload", exact=True)).to_be_visible()


def read_page_by_page(let_through: asyncio.Event) -> Callable[[Route], Awaitable[None]]:
    """Let an album be read two images at a time, and wait behind the first two."""

    async def handle(route: Route) -> None:
        asked = json.loads(route.request.post_data or "{}")
        if asked.get("operationName") != "AlbumPage":
            return await route.continue_()
        if asked["variables"].get("after"):
            await let_through.wait()
        asked["variables"]["first"] = 2
        return await route.continue_(post_data=json.dumps(asked))

    return handle


def hold(operation: str, let_through: asyncio.Event) -> Callable[[Route], Awaitable[None]]:
    """Let this operation wait on its way to the server."""

    async def handle(route: Route) -> None:
        if json.loads(route.request.post_data or "{}").get("operationName") == operation:
            await let_through.wait()
        await route.continue_()

    return handle


async def rename(page: Page, title: str) -> None:
    await page.get_by_label("Name of the album").fill(title)
    await page.keyboard.press("Enter")


def is_album_saved(response: Response) -> bool:
    return "UpdateAlbum" in (response.request.post_data or "")


async def test_an_album_can_be_created_filled_and_deleted(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)
    await expect(page.locator("figure")).to_have_count(4)

    await select(page, 0, 1, 2)
    await page.get_by_role("button", name="Add to album").click()
    dialog = page.get_by_role("dialog", name="Add to album")
    await dialog.get_by_label("Name of the album").fill("Boats")
    await dialog.get_by_role("button", name="Create").click()
    await expect(page.locator(".toasts li")).to_contain_text("Added to “Boats”")
    await expect(dialog).to_have_count(0)

    await page.get_by_role("link", name="Albums").click()
    await page.get_by_role("link", name="Boats").click()
    tiles = page.locator("figure img")
    await expect(tiles).to_have_count(3)
    order = [await tile.get_attribute("src") for tile in await tiles.all()]
    await select(page, 0)
    async with page.expect_response(is_album_saved):
        await page.get_by_role("button", name="To the end").click()
    await expect(tiles.last).to_have_attribute("src", order[0] or "")
    async with page.expect_response(is_album_saved):
        await page.get_by_role("button", name="Earlier").click()
    await expect(tiles.nth(1)).to_have_attribute("src", order[0] or "")
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await page.reload()
    await expect(tiles.nth(1)).to_have_attribute("src", order[0] or "")

    # By dragging as well; another tab follows.
    other = await open_studio(darkroom, viewer, path=page.url.split("/studio/")[1], beside=page)
    there = other.locator("figure img")
    await expect(there.nth(1)).to_have_attribute("src", order[0] or "")
    await tiles.nth(1).drag_to(tiles.nth(0), target_position={"x": 5, "y": 20})
    await expect(tiles.nth(0)).to_have_attribute("src", order[0] or "")
    await expect(there.nth(0)).to_have_attribute("src", order[0] or "")

    # Also while its pages are still being read; what changes meanwhile is read again.
    await expect(tiles).to_have_count(3)
    order = [await tile.get_attribute("src") or "" for tile in await tiles.all()]
    let_through = asyncio.Event()
    await page.route("**/graphql", read_page_by_page(let_through))
    await page.reload()
    await expect(tiles).to_have_count(2)
    await tiles.nth(1).drag_to(tiles.nth(0), target_position={"x": 5, "y": 20})
    async with other.expect_response(is_album_saved):
        await rename(other, "Barges")
    let_through.set()
    await expect(tiles).to_have_count(3)
    for position, image in enumerate([order[1], order[0], order[2]]):
        await expect(tiles.nth(position)).to_have_attribute("src", image)
        await expect(there.nth(position)).to_have_attribute("src", image)
    await expect(page.get_by_label("Name of the album")).to_have_value("Barges")
    await page.unroute_all(behavior="wait")
    await other.close()

    await select(page, 1)
    await page.get_by_role("button", name="Remove from album").click()
    await expect(tiles).to_have_count(2)

    # The list may be read before a new name has arrived.
    let_through = asyncio.Event()
    await page.route("**/graphql", hold("UpdateAlbum", let_through))
    await rename(page, "Ships")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("link", name="Back to the albums").click()
    await expect(page.get_by_role("link", name="Barges")).to_be_visible()
    let_through.set()
    await page.get_by_role("link", name="Ships").click()
    await page.unroute_all(behavior="wait")
    await page.get_by_role("button", name="Delete album").click()
    await expect(page.get_by_text("No albums yet")).to_be_visible()


async def test_models_are_loaded_after_the_images_or_for_a_form(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    let_through = asyncio.Event()
    asked: list[str] = []

    async def hold_images(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "{}")["operationName"])
        if asked[-1] == "Gallery":
            await let_through.wait()
        await route.continue_()

    page = await open_studio(darkroom, viewer)
    choice = page.get_by_label("Pictures by model")
    await expect(choice.get_by_role("option", name="Ink")).to_be_attached()
    await page.route("**/graphql", hold_images)

    await page.reload()
    await page.wait_for_timeout(IDLE_MILLISECONDS)
    assert "Gallery" in asked
    assert "Models" not in asked
    await page.get_by_role("button", name="New picture").click()
    await expect(page.get_by_role("button", name=re.compile("^Remove "))).to_be_visible()
    let_through.set()
    await page.unroute_all(behavior="wait")
