"""The page of a conversation: actions on turns, and comparing images."""

import json
import re
from collections.abc import Awaitable, Callable

from playwright.async_api import Route, expect

from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.operations import conversation_with, send
from tests.operations import start as start_by_api
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import path_of, wait_for
from tests.tools import find_tool

SHIFTS = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
MOST_SHIFT = 0.02
BROKEN = {"errors": [{"message": "It is lost.", "extensions": {"code": "INTERNAL"}}]}


def lose_an_answer(operation: str, *, for_good: bool = False) -> Callable[[Route], Awaitable[None]]:
    """The server performs the first request, and the browser never receives the response."""
    lost = False

    async def handle(route: Route) -> None:
        nonlocal lost
        asked = json.loads(route.request.post_data or "{}").get("operationName")
        if lost or asked != operation:
            return await route.continue_()
        lost = True
        await route.fetch()
        return await (route.fulfill(json=BROKEN) if for_good else route.abort())

    return handle


async def test_a_turn_can_be_rerun_forked_and_deleted(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done))
    other = await open_studio(darkroom, None, path=path_of(done), beside=page)
    turns = page.locator("[data-turn]")

    # The first response is lost: the request is repeated, and performed once.
    await page.route("**/graphql", lose_an_answer("Rerun"))
    await page.locator('[data-turn="0"]').hover()
    await page.get_by_role("button", name="Run again: edit 1").click()
    await wait_for(page, 1, "COMPLETED")
    await expect(page.get_by_role("button", name="Run again: edit 1")).to_be_enabled()
    await expect(page.get_by_text("2 turns")).to_be_visible()
    await page.unroute_all(behavior="wait")
    await wait_for(other, 1, "COMPLETED")

    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete edit 2").click()
    await expect(turns).to_have_count(1)
    await expect(page.get_by_text("1 turn", exact=True)).to_be_visible()
    await expect(other.locator("[data-turn]")).to_have_count(1)

    await page.get_by_role("button", name="Fork after edit 1").click()
    await page.wait_for_url(lambda url: not url.endswith(path_of(done)))
    await wait_for(page, 0, "COMPLETED")
    await expect(turns).to_have_count(1)

    # An answer is lost for good. Its turn comes nevertheless, and a further click means another.
    await page.route("**/graphql", lose_an_answer("Rerun", for_good=True))
    for index in (1, 2):
        await page.locator('[data-turn="0"]').hover()
        await page.get_by_role("button", name="Run again: edit 1").click()
        await wait_for(page, index, "COMPLETED")
    await page.unroute_all(behavior="wait")


async def test_a_turn_that_others_build_on_cannot_be_deleted(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, turns=2, selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done))
    page.on("dialog", lambda dialog: dialog.accept())

    await page.get_by_role("button", name="Delete edit 1").click()

    await expect(page.locator(".toasts li")).to_be_visible()
    await expect(page.locator("[data-turn]")).to_have_count(2)


async def test_images_can_be_compared_in_three_ways(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink", "local-silver"])
    await send(client, done["conversation"]["id"], selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done))
    await wait_for(page, 1, "COMPLETED")

    await page.get_by_role("button", name="Compare the images of edit 1").click()
    dialog = page.get_by_role("dialog", name="Compare")
    await dialog.get_by_text("Side by side").click()
    await expect(dialog.get_by_role("button", name="Enlarge all")).to_have_count(2)
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await page.keyboard.press("Escape")

    for name in ("Compare the image of Ink", "Compare the image of Silver"):
        await page.get_by_role("button", name=name).first.click()
    await page.get_by_role("button", name="Compare the image of Ink").last.click()
    await page.get_by_role("button", name="Compare 3 images").click()
    await expect(dialog.get_by_role("button", name="Enlarge all")).to_have_count(3)
    await dialog.get_by_text("Slider").click()
    slider = dialog.get_by_role("slider", name="Where the left image ends")
    await slider.press("ArrowRight")
    await expect(slider).to_have_attribute("aria-valuetext", re.compile(r"5[01] %"))
    await dialog.get_by_label("Right image").select_option("2")
    await dialog.get_by_text("Hold", exact=True).click()
    hold = dialog.get_by_role("button", name="Hold to see Ink")
    await hold.focus()
    await page.keyboard.down(" ")
    await expect(hold).to_have_attribute("aria-pressed", "true")
    await page.keyboard.up(" ")
    await expect(hold).to_have_attribute("aria-pressed", "false")


async def test_the_layout_does_not_shift_while_an_image_develops(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    models = ["rehearsal-lands-last", "rehearsal-slow", "rehearsal-fails"]
    started = await start_by_api(client, selectedModels=models)
    page = await open_studio(darkroom, token=client.token, path=path_of(started))
    mask = page.get_by_role("button", name="Mask", exact=True)
    # With the first image there is something to edit.
    await expect(mask).to_be_disabled()
    await page.evaluate(SHIFTS)

    await wait_for(page, 0, "FAILED")
    await wait_for(page, 0, "COMPLETED", "rehearsal-lands-last")
    await expect(mask).to_be_enabled()

    assert await page.evaluate("window.shift") <= MOST_SHIFT


async def test_a_conversation_fits_the_width_of_a_phone(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done), width=320)
    await wait_for(page, 0, "COMPLETED")

    assert await page.evaluate("document.documentElement.scrollWidth") == 320
    await expect(page.get_by_role("button", name="Settings")).to_be_in_viewport(ratio=1)
    await expect(page.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)

    await page.get_by_role("button", name="References", exact=True).click()
    dialog = page.get_by_role("dialog", name="References")
    await expect(dialog.get_by_role("button", name="Done")).to_be_in_viewport(ratio=1)
