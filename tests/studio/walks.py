"""Walks S1.39 and S2.22 of the requirements, with a picture of each step to be looked at.

`python -m tests.studio.walks LINK FOLDER`: LINK is what `make run` prints. Each line names the
rows that were seen to hold; the first that does not hold ends the walk.
"""

import argparse
import asyncio
import re
import sys
import time
from pathlib import Path

from playwright.async_api import FilePayload, Page, async_playwright, expect

from tests.studio.conftest import ARGUMENTS
from tests.studio.steps import choose_models, outputs, wait_for
from tests.tools import need
from tests.uploads import a_picture

PATIENCE_MILLISECONDS = 60_000
SETTLED_MILLISECONDS = 500
CONVERSATION = re.compile(r"/studio/conversations/conv_\w+$")
POST = re.compile(r"/studio/posts/post_\w+$")


class Walk:
    """Says which rows hold, and keeps a picture of what was on the screen."""

    def __init__(self, page: Page, folder: Path, name: str) -> None:
        self.page = page
        self._folder = folder
        self._name = name
        self._count = 0
        self._started = time.monotonic()

    async def look(self, rows: str, what: str) -> None:
        self._count += 1
        await self.page.wait_for_timeout(SETTLED_MILLISECONDS)
        await self.page.screenshot(path=self._folder / f"{self._name}-{self._count:02}.png")
        seconds = time.monotonic() - self._started
        sys.stdout.write(f"{self._name} {self._count:2}  {seconds:5.1f} s  {rows:<24} {what}\n")


async def generate_post(page: Page, message: str, caption: str, *models: str) -> None:
    await page.get_by_role("navigation").get_by_text("Posts").click()
    await page.get_by_role("button", name="New post").click()
    await page.get_by_label("What is the post about?").fill(message)
    await page.get_by_label("Caption model").select_option(caption)
    await choose_models(page, *models)
    await page.get_by_role("button", name="Create post").click()
    await page.wait_for_url(POST)


def strip_of(status: str) -> str:
    return f'[data-strip="{status}"]'


async def walk_conversation(walk: Walk) -> None:
    page = walk.page
    await expect(page.locator("figure").first).to_be_visible()
    await walk.look("", "the gallery, signed in by the link")
    await generate_post(page, "A quiet harbour", "local-writer", "Ink", "Silver")
    await expect(page.locator(strip_of("COMPLETED"))).to_have_count(2)
    await walk.look("S2.1 S2.2", "a post: its caption, then its images")

    await page.locator(".output").hover()
    await page.get_by_role("button", name="Edit the image of Ink").click()
    dialog = page.get_by_role("dialog", name="Start editing")
    await expect(dialog).to_contain_text(re.compile(r"Ink\s*\d+ × \d+"))
    await expect(dialog.get_by_role("button", name="Remove Ink")).to_be_visible()
    await expect(dialog.get_by_role("button", name="References")).to_be_visible()
    await expect(dialog.get_by_role("button", name="Start", exact=True)).to_be_disabled()
    await expect(page.get_by_label("What should change?")).to_be_focused()
    await walk.look("S1.1 S1.4 S1.5 S1.6 S1.7", "Edit of its image, and the dialog")

    await choose_models(page, "Ink", "Slow", "Lands last")
    await page.get_by_label("What should change?").fill("Make it night, with lanterns")
    await walk.look("S1.6", "three models are chosen")
    await page.keyboard.press("Control+Enter")
    await page.wait_for_url(CONVERSATION)
    for model in ("local-ink", "rehearsal-slow", "rehearsal-lands-last"):
        await expect(page.locator(f'[data-turn="0"] [data-model="{model}"]')).to_be_visible()
    await expect(page.get_by_text("Edit 1", exact=True)).to_be_visible()
    await expect(page.get_by_text("1 turn", exact=True)).to_be_visible()
    await walk.look("S1.8 S1.11 S1.36", "redirected; a skeleton for each model")
    await wait_for(page, 0, "COMPLETED", "local-ink")
    await expect(page.locator(outputs(page, 0, "GENERATING", "rehearsal-slow"))).to_be_visible()
    await expect(page.locator(".preview").first).to_be_attached()
    await walk.look("S1.13 S5.8", "the first has landed, another shows previews")
    await wait_for(page, 0, "COMPLETED", "rehearsal-slow")
    strip = page.get_by_role("list", name="All images of this conversation")
    await expect(strip.get_by_role("button")).to_have_count(4)
    await walk.look("S1.9 S1.10", "all have landed; title, turns, strip")
    await second_edit(walk)


async def second_edit(walk: Walk) -> None:
    page = walk.page
    await page.get_by_role("button", name="References", exact=True).click()
    picker = page.get_by_role("dialog", name="References")
    await picker.get_by_label("References").set_input_files(
        FilePayload(name="mine.png", mimeType="image/png", buffer=a_picture((320, 200)))
    )
    chosen = page.locator(".composer").get_by_role("list", name="References")
    await expect(chosen.get_by_role("listitem")).to_contain_text("@Image4")
    await choose_models(page, "Silver", "Lands last", "Fails")
    field = page.get_by_label("What should change next?")
    await field.fill("Like @Image4, in autumn")
    await walk.look("S1.12 S1.15 S4.22", "the next edit, with a reference of one's own")
    await page.get_by_role("button", name="Send").click()
    await expect(field).to_have_value("")
    await wait_for(page, 1, "COMPLETED", "local-silver")
    await expect(page.locator(outputs(page, 1, "GENERATING")).first).to_be_visible()
    await walk.look("S1.14 S1.35", "sent, cleared; all outputs before are its references")
    await wait_for(page, 1, "COMPLETED", "rehearsal-lands-last")
    await wait_for(page, 1, "FAILED", "rehearsal-fails")
    await expect(page.get_by_text("2 turns")).to_be_visible()
    await walk.look("S1.2 S1.32", "one has failed, and its siblings are there")

    await page.reload()
    await wait_for(page, 1, "COMPLETED", "local-silver")
    await expect(page.locator("[data-turn]")).to_have_count(2)
    await walk.look("S1.3 S1.37", "all is there after a refresh")
    await page.get_by_role("link", name="Back to the gallery").click()
    await expect(page.locator("figure").first).to_be_visible()
    await walk.look("S1.39", "back where pictures are made")


async def walk_post(walk: Walk) -> None:
    page = walk.page
    caption = page.locator("[data-caption]")
    await generate_post(
        page, "Bread at dawn", "rehearsal-caption-slow", "Ink", "Slow", "Lands last", "Fails"
    )
    await expect(caption).to_have_attribute("data-caption", "GENERATING_CAPTION")
    await walk.look("S2.2 S2.4 S2.13", "the caption is being written")
    await page.reload()
    await expect(caption).to_have_attribute("data-caption", "GENERATING_CAPTION")
    await walk.look("S2.20", "refreshed while it is written")
    await expect(caption).to_have_attribute("data-caption", "GENERATING_IMAGES")
    skeleton = page.locator(f"{strip_of('GENERATING')}, {strip_of('QUEUED')}").first
    await expect(skeleton).to_have_attribute("title", "Do not worry, this takes a few seconds")
    await walk.look("S2.5 S2.13 S2.14", "the caption, then skeletons with a tooltip")
    await expect(page.locator(".badge")).to_have_text(re.compile(r"^[1-3]/4$"))
    await walk.look("S2.1 S2.3 S2.6", "the first image, and how many of all")
    await page.get_by_role("link", name="Gallery", exact=True).click()
    await expect(page.locator("figure").first).to_be_visible()
    await walk.look("S2.17", "away; it goes on, and the gallery says so")
    await page.go_back()
    await page.reload()
    await expect(page.locator(strip_of("COMPLETED"))).to_have_count(3)
    await expect(page.locator(strip_of("FAILED"))).to_have_count(1)
    await walk.look("S2.8 S2.20 S2.22", "one has failed while others succeeded")

    await generate_post(page, "Nothing at all", "local-writer", "Refuses")
    await expect(page.get_by_role("main").get_by_text("No image was generated")).to_be_visible()
    await walk.look("S2.18", "no image is made: the caption stays")
    await generate_post(page, "No words", "rehearsal-caption-fails", "Ink")
    await expect(caption.get_by_text("The content could not be generated")).to_be_visible()
    await walk.look("S2.13 S2.21", "no caption: an error, and no images")


async def main(link: str, folder: Path) -> None:
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        expect.set_options(timeout=PATIENCE_MILLISECONDS)
        page = await browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-US")
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(link)
        await walk_conversation(Walk(page, folder, "S1"))
        await walk_post(Walk(page, folder, "S2"))
        await browser.close()
    sys.stdout.write(f"console: {complaints or 'empty'}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("link")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(given.link, given.folder))
