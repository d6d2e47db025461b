"""Posts in a real browser: the caption while it is written, the images, and how they can end."""

import asyncio
import json
import re

from playwright.async_api import Page, Route, expect

from tests.api.posts import CANCEL_POST, generate
from tests.conftest import Darkroom
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import LANDING_MILLISECONDS, choose_models
from tests.tools import find_tool
from tests.waits import PATIENCE_SECONDS


async def wait_for(page: Page, status: str, model: str) -> None:
    strip = page.get_by_role("button", name=f"Show the image of {model}")
    await expect(strip).to_have_attribute("data-strip", status, timeout=LANDING_MILLISECONDS)


async def test_a_post_is_shown_from_its_caption_to_its_last_image(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    client = darkroom.client(viewer)
    models = ["local-ink", "rehearsal-fails-once", "rehearsal-hangs"]
    being_written = await generate(
        client,
        userMessage="A boat at dusk",
        captionModel="rehearsal-caption-hangs",
        selectedModels=models,
    )
    page = await open_studio(darkroom, viewer, path=f"posts/{being_written['id']}")
    caption = page.locator("[data-caption]")
    skeleton = page.get_by_role("button", name="Show the image of Hangs")
    await expect(page.get_by_role("heading", level=1)).to_have_text("A boat at dusk")
    await expect(caption.locator(".text")).to_contain_text("A boat", timeout=LANDING_MILLISECONDS)
    await expect(skeleton).to_have_attribute("title", "Begins once the caption is written")

    post = await generate(
        client,
        userMessage="A boat at dawn",
        captionModel="rehearsal-caption-slow",
        selectedModels=models,
    )
    await page.goto(f"{darkroom.url}/studio/posts/{post['id']}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("A boat at dawn")
    await expect(caption.locator(".text")).to_contain_text("A boat", timeout=LANDING_MILLISECONDS)
    await expect(caption.get_by_role("button", name="Copy caption")).to_be_visible(
        timeout=LANDING_MILLISECONDS
    )
    await expect(skeleton).to_have_attribute("title", "Do not worry, this takes a few seconds")
    await expect(page.locator(".badge")).to_have_text(re.compile(r"^[0-2]/3$"))
    # At once: it gives up by itself after twenty seconds.
    await skeleton.click()
    await page.get_by_role("button", name="Cancel Hangs").click()
    await wait_for(page, "CANCELLED", "Hangs")
    await wait_for(page, "COMPLETED", "Ink")
    await page.get_by_role("button", name="Show the image of Ink").click()
    await expect(page.locator(".output .open")).to_be_visible()
    await wait_for(page, "FAILED", "Fails once")
    if find_tool("studio"):
        assert await find_barriers(page) == []

    await page.reload()
    await page.get_by_role("button", name="Show the image of Fails once").click()
    await page.get_by_role("button", name="Try again").click()
    await wait_for(page, "COMPLETED", "Fails once")
    await caption.get_by_role("button", name="Write again").click()
    await expect(caption).to_have_attribute("data-caption", "GENERATING_CAPTION")

    await page.get_by_role("button", name="Show the image of Ink").click()
    await page.locator(".output").hover()
    await page.get_by_role("button", name="Edit the image of Ink").click()
    await expect(page.get_by_role("dialog", name="Start editing")).to_be_visible()


async def test_a_failed_caption_says_why_and_can_be_retried(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    client = darkroom.client(viewer)
    await generate(
        client, captionModel="rehearsal-caption-fails-once", selectedModels=["local-ink"]
    )
    page = await open_studio(darkroom, viewer, path="posts")

    await expect(page.get_by_text("Failed", exact=True)).to_be_visible()
    await page.get_by_role("list").get_by_role("link").click()
    await expect(page.get_by_text("The content could not be generated")).to_be_visible()
    caption = page.locator("[data-caption]")
    await caption.get_by_role("button", name="again").click()
    await wait_for(page, "COMPLETED", "Ink")

    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete post").click()
    await expect(page.get_by_text("No posts yet")).to_be_visible()


async def test_a_list_that_arrives_after_a_later_change_shows_the_change(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    client = darkroom.client(viewer)
    page = await open_studio(darkroom, viewer, path="statistics")
    post = await generate(client, captionModel="rehearsal-caption-hangs")
    is_read, may_arrive = asyncio.Event(), asyncio.Event()

    async def delay(route: Route) -> None:
        if "posts(" not in (route.request.post_data or "") or is_read.is_set():
            await route.continue_()
            return
        answer = await route.fetch()
        is_read.set()
        await may_arrive.wait()
        await route.fulfill(response=answer)

    await page.route("**/graphql", delay)
    await page.get_by_role("link", name="Posts").click()
    await asyncio.wait_for(is_read.wait(), PATIENCE_SECONDS)
    credits_left = page.locator(".credits .unseen")
    await expect(credits_left).not_to_have_text("10,000 credits left")
    await client(CANCEL_POST, id=post["id"])
    await expect(credits_left).to_have_text("10,000 credits left")
    may_arrive.set()

    await expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()


async def test_the_caption_stays_if_no_image_is_made(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    post = await generate(
        darkroom.client(viewer),
        userMessage="Um barco ao amanhecer",
        selectedModels=["rehearsal-refuses"],
    )
    page = await open_studio(darkroom, viewer, path=f"posts/{post['id']}", locale="pt-BR")

    await expect(page.get_by_text("Nenhuma imagem foi gerada")).to_be_visible()
    await expect(page.locator("[data-caption] .text")).to_contain_text("barco")
    await expect(page.get_by_text("Imagens geradas")).to_be_visible()


async def test_a_new_post_can_use_an_image_of_the_gallery(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)
    await page.locator("figure .open").first.click()
    await page.get_by_role("dialog").get_by_role("button", name="New post").click()
    dialog = page.get_by_role("dialog", name="New post")
    await expect(
        dialog.get_by_role("list", name="References").get_by_role("listitem")
    ).to_have_count(1)
    await choose_models(page, "Ink")

    await dialog.get_by_label("What is the post about?").fill("A quiet evening")
    await dialog.get_by_label("Hashtags").select_option("2")
    await dialog.get_by_label("Tone").fill("warm")
    kept = json.loads(await page.evaluate("localStorage['darkroom.preferences']"))
    assert (kept["caption"]["tone"], kept["caption"]["hashtags"]) == ("warm", 2)
    await expect(dialog).to_contain_text(re.compile(r"[45] credits"))
    await expect(dialog.locator(".stale")).to_have_count(0)
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await page.keyboard.press("Control+Enter")

    await page.wait_for_url(re.compile(r"/studio/posts/post_\w+$"))
    await expect(page.locator("[data-caption] .text")).to_contain_text("#")
    await wait_for(page, "COMPLETED", "Ink")
    await page.get_by_role("link", name="Posts").first.click()
    await expect(page.get_by_role("main").get_by_role("link")).to_have_count(1)

    await page.get_by_role("link", name="Gallery", exact=True).click()
    recent = page.get_by_role("list", name="Recent work").get_by_role("link")
    await expect(recent).to_have_count(1)
    await expect(recent).to_contain_text("Post")
    await recent.click()
    await page.wait_for_url(re.compile(r"/studio/posts/post_\w+$"))
