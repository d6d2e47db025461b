"""What a person does in the studio, in a real browser."""

import re
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from playwright.async_api import FilePayload, Page, Route, expect

from edge.dev_tokens import DevelopmentIssuer
from tests.clients import GraphQLClient
from tests.conftest import Darkroom, StartDarkroom
from tests.operations import conversation_with, send
from tests.operations import start as start_by_api
from tests.serving import free_port
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import choose_models, outputs, path_of, start, wait_for, wait_until_true
from tests.tools import find_tool
from tests.uploads import a_picture


async def size_of(page: Page, selector: str) -> tuple[float, float]:
    box = await page.locator(selector).bounding_box()
    assert box is not None
    return box["width"], box["height"]


NAME_IS_SEEN = """
() => {
  const name = document.querySelector('[data-turn="1"] figcaption b');
  const { x, y, height } = name.getBoundingClientRect();
  return document.elementFromPoint(x + 4, y + height / 2) === name;
}
"""
"""The form of the next turn does not lie over it."""


async def test_a_viewer_signs_in_edits_twice_and_returns(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)

    await expect(page.locator("figure")).to_have_count(4)
    assert page.url == f"{darkroom.url}/studio/"
    await page.locator("figure").first.hover()
    await page.locator("figure .edit").first.click()
    dialog = page.get_by_role("dialog", name="Start editing")
    await expect(dialog).to_contain_text(re.compile(r"(Silver|Ink)\s*\d+ × \d+"))
    await choose_models(page, "Ink", "Slow")
    await expect(dialog).to_contain_text("8 credits")
    await page.get_by_label("What should change?").fill("Make it night, with a golden frame")
    await page.keyboard.press("Control+Enter")

    await page.wait_for_url(re.compile(r"/studio/conversations/conv_\w+$"))
    await wait_for(page, 0, "COMPLETED", "local-ink")
    await wait_for(page, 0, "COMPLETED", "rehearsal-slow")
    await expect(page.get_by_label("Title", exact=True)).to_have_value(
        "Make it night, with a golden frame"
    )

    await choose_models(page, "Ink")
    await page.get_by_label("What should change next?").fill("Make it @Im")
    mentions = page.get_by_role("listbox", name="References").get_by_role("option")
    await expect(mentions).to_have_count(2)
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("What should change next?")).to_have_value("Make it @Image2 ")
    await page.get_by_label("What should change next?").fill("Sepia, like @Image2")
    await page.get_by_role("button", name="Send").click()
    await wait_for(page, 1, "COMPLETED", "local-ink")
    await wait_until_true(page, NAME_IS_SEEN)
    await expect(page.get_by_text("Edit 2", exact=True)).to_be_visible()
    await expect(page.get_by_text("2 turns")).to_be_visible()
    strip = page.get_by_role("list", name="All images of this conversation")
    await expect(strip.get_by_role("listitem")).to_have_count(4)

    await page.reload()
    await wait_for(page, 1, "COMPLETED", "local-ink")
    await expect(page.locator("[data-turn]")).to_have_count(2)
    await page.get_by_role("link", name="Back to the gallery").click()
    await expect(page.locator("figure")).to_have_count(7)
    await expect(page.get_by_text("9,988 credits left")).to_be_attached()


async def test_an_image_is_made_from_a_message(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)

    await page.get_by_role("button", name="New picture").click()
    await choose_models(page, "Silver")
    await page.get_by_label("What would you like to see?").fill("A boat at dawn")
    await expect(page.get_by_role("dialog")).to_contain_text("2 credits")
    await page.get_by_role("button", name="Create").click()

    await wait_for(page, 0, "COMPLETED", "local-silver")
    await page.locator(".output .open").click()
    await expect(page.get_by_role("dialog", name="“A boat at dawn”")).to_be_visible()
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Download").click()
    assert re.fullmatch(r"img_\w+\.(png|jpg|webp)", (await download.value).suggested_filename)


async def test_every_final_state_of_an_output_offers_an_action(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)
    await start(page, "Make it warmer", "Fails once", "Refuses", "Hangs")

    await page.get_by_role("button", name="Cancel Hangs").click()
    await wait_for(page, 0, "CANCELLED", "rehearsal-hangs")
    await wait_for(page, 0, "FAILED", "rehearsal-fails-once")
    await wait_for(page, 0, "FAILED", "rehearsal-refuses")
    failed = page.locator(outputs(page, 0, "FAILED", "rehearsal-fails-once"))
    await expect(failed).to_contain_text("not available at the moment")
    if find_tool("studio"):
        assert await find_barriers(page) == []

    await failed.get_by_role("button", name="Try again").click()
    await wait_for(page, 0, "COMPLETED", "rehearsal-fails-once")
    refused = page.locator(outputs(page, 0, "FAILED", "rehearsal-refuses"))
    await refused.get_by_label("Another model instead of Refuses").select_option("local-ink")
    await wait_for(page, 0, "COMPLETED", "local-ink")


async def test_a_reload_during_a_turn_loses_nothing(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)
    await start(page, "Make it night", "Slow")
    await page.get_by_label("What should change next?").fill("And then the words")
    await wait_for(page, 0, "GENERATING")
    size = await size_of(page, ".sheet-of-paper")

    await page.reload()

    await wait_for(page, 0, "GENERATING")
    await expect(page.get_by_role("progressbar")).to_have_attribute(
        "aria-valuenow", re.compile(r"\d")
    )
    await expect(page.get_by_text(re.compile(r"Developing \d+ % · Preview \d"))).to_be_visible()
    await expect(page.locator(".preview").first).to_be_attached()
    await wait_for(page, 0, "COMPLETED")
    await expect(page.get_by_label("What should change next?")).to_have_value("And then the words")
    assert await size_of(page, ".sheet-of-paper") == size


async def test_the_studio_recovers_after_being_offline(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, None, path="statistics")
    # Before it is signed in: all views are fetched soon after that.
    await page.route("**/assets/Albums-*.js", lambda route: route.abort())
    await page.goto(f"{darkroom.url}/studio/#token={darkroom.token(viewer)}")
    await start(page, "Make it night", "Slow")
    await wait_for(page, 0, "GENERATING")

    await page.context.set_offline(True)
    await expect(page.get_by_text("You are offline.")).to_be_visible()
    await page.context.set_offline(False)

    await expect(page.get_by_text("You are offline.")).to_be_hidden()
    await wait_for(page, 0, "COMPLETED")

    # A view whose code has not been fetched yet.
    await page.get_by_role("link", name="Albums").click()
    await expect(page.get_by_text("Darkroom cannot be reached.")).to_be_visible()
    await page.context.set_offline(True)
    await page.unroute_all(behavior="wait")
    await page.context.set_offline(False)
    await expect(page.get_by_label("Name of the album")).to_be_visible()


async def test_a_dialog_whose_code_cannot_be_fetched_says_so_and_can_be_tried_again(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, None, path="statistics")
    await page.route("**/assets/Lightbox-*", lambda route: route.abort())
    await page.goto(f"{darkroom.url}/studio/#token={darkroom.token(viewer)}")
    await page.locator("figure .open").first.click()
    unloaded = page.get_by_role("dialog", name="Darkroom cannot be reached.")
    await expect(unloaded).to_be_visible()

    await unloaded.get_by_role("button", name="Close").click()
    await expect(unloaded).to_be_hidden()
    await page.locator("figure .open").first.click()
    await page.unroute_all(behavior="wait")
    await page.evaluate("document.body.dataset.first = ''")
    await unloaded.get_by_role("button", name="Try again").click()
    await expect(unloaded).to_be_hidden()

    zoom_in = page.get_by_role("dialog").get_by_role("button", name="Zoom in")
    # Chromium 150 does not ask again for code that it could not fetch once: the page becomes a new
    # one. Chromium 156 does.
    new_page = page.locator("body:not([data-first])")
    await expect(page.locator("dialog[open]").or_(new_page).first).to_be_visible()
    if await new_page.count():
        await page.locator("figure .open").first.click()
    await expect(zoom_in).to_be_visible()


async def test_the_studio_recovers_after_a_restart_of_the_server(
    start_darkroom: StartDarkroom, viewer: str, open_studio: OpenStudio
) -> None:
    port = free_port()
    async with AsyncExitStack() as first_life:
        darkroom = await start_darkroom(within=first_life, port=port)
        page = await open_studio(darkroom, viewer)
        await start(page, "Make it night", "Slow")
        await wait_for(page, 0, "GENERATING")
    await expect(page.get_by_text("Connecting to Darkroom again")).to_be_visible()

    await start_darkroom(port=port)

    await wait_for(page, 0, "COMPLETED")
    await expect(page.get_by_text("Connecting to Darkroom again")).to_be_hidden()


async def test_an_expired_session_asks_for_another_and_keeps_typed_text(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    issuer = DevelopmentIssuer(darkroom.settings.data_dir)
    page = await open_studio(darkroom, None)
    await page.clock.install()
    await page.route("**/studio/token", lambda route: route.abort())
    token = issuer.token(viewer, life=timedelta(minutes=10))
    await page.goto(f"{darkroom.url}/studio/#token={token}")
    await page.get_by_role("button", name="New picture").click()
    await page.get_by_label("What would you like to see?").fill("A boat at dawn")

    await page.clock.fast_forward("10:00")
    await expect(page.get_by_role("dialog", name="Your session has ended")).to_be_visible()
    await page.get_by_label("Token").fill(darkroom.token(viewer))
    await page.get_by_role("button", name="Sign in").click()

    await expect(page.get_by_role("dialog", name="Your session has ended")).to_be_hidden()
    await expect(page.get_by_label("What would you like to see?")).to_have_value("A boat at dawn")
    await page.get_by_role("button", name="Create").click()
    await wait_for(page, 0, "COMPLETED")


async def test_two_tabs_show_the_same_state(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    one = await open_studio(darkroom, viewer)
    await start(one, "Make it night", "Lands last")
    path = one.url.partition("/studio/")[2]
    other = await open_studio(darkroom, None, path=path, beside=one)

    await wait_for(one, 0, "COMPLETED")
    await wait_for(other, 0, "COMPLETED")
    theirs = other.get_by_label("Title", exact=True)
    await theirs.fill("A calm ni")
    await one.get_by_label("Title", exact=True).fill("A quiet night")
    await one.keyboard.press("Enter")
    await expect(other.get_by_role("heading", level=1)).to_have_text("A quiet night")
    await expect(theirs).to_have_value("A calm ni")
    await theirs.press("Escape")
    await expect(theirs).to_have_value("A quiet night")

    await one.get_by_role("button", name="Settings").click()
    await one.get_by_role("button", name="Sign out").click()
    await expect(other.get_by_role("button", name="Sign in")).to_be_visible()


async def test_files_are_uploaded_and_an_invalid_one_says_why(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)

    await page.get_by_label("Upload", exact=True).set_input_files(
        [
            FilePayload(name="good.png", mimeType="image/png", buffer=a_picture((320, 200))),
            FilePayload(name="bad.png", mimeType="image/png", buffer=b"no image"),
            FilePayload(name="empty.png", mimeType="image/png", buffer=b""),
            FilePayload(name="note.txt", mimeType="text/plain", buffer=b"words"),
        ]
    )

    tray = page.get_by_role("region", name="Uploads")
    await expect(tray.locator('[data-state="done"]')).to_contain_text("good.png")
    await expect(tray.locator('[data-state="failed"]')).to_have_count(3)
    reason = tray.get_by_text("This file is not a PNG, JPEG, WebP or HEIC image.")
    await expect(reason).to_have_count(2)
    await expect(tray).to_contain_text("The file is empty.")
    await expect(page.locator("figure")).to_have_count(5)
    await page.get_by_role("radio", name="Uploads").check(force=True)
    await expect(page.locator("figure")).to_have_count(1)


async def test_a_file_is_sent_to_a_new_url_if_its_own_has_expired(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    refused: list[tuple[str, int]] = []

    async def expire(route: Route) -> None:
        # What was never signed is refused as what has expired is.
        response = await route.fetch(url=re.sub(r"offer=.*", "offer=x", route.request.url))
        refused.append((route.request.method, response.status))
        await route.fulfill(response=response)

    page = await open_studio(darkroom, viewer, foreseen=re.compile("status of 403"))
    await page.route(re.compile(r"\?offer="), expire, times=1)
    file = FilePayload(name="late.png", mimeType="image/png", buffer=a_picture((320, 200)))
    await page.get_by_label("Upload", exact=True).set_input_files(file)

    tray = page.get_by_role("region", name="Uploads")
    await expect(tray.locator('[data-state="done"]')).to_contain_text("late.png")
    assert refused == [("PUT", 403)]


async def test_everything_can_be_done_by_keyboard(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)
    main = page.get_by_role("main", name="Gallery")
    await expect(page.locator("figure .open")).to_have_count(4)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(main).to_be_focused()
    await page.locator("figure .open").first.focus()

    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_be_visible()
    name = await page.get_by_role("dialog").get_attribute("aria-label")
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("dialog")).not_to_have_attribute("aria-label", name or "")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)

    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("figure .heart").first).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Start editing")).to_be_visible()
    await expect(page.get_by_label("What should change?")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_view_has_an_accessibility_violation(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio, scheme: str
) -> None:
    page = await open_studio(darkroom, None, color_scheme=scheme)
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    barriers = await find_barriers(page)

    page = await open_studio(darkroom, viewer, color_scheme=scheme)
    await expect(page.locator("figure")).to_have_count(4)
    barriers += await find_barriers(page)
    await page.locator("figure .open").first.click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    barriers += await find_barriers(page)
    await page.get_by_role("dialog").get_by_role("button", name="Edit").click()
    await page.get_by_role("button", name="Models", exact=True).click()
    barriers += await find_barriers(page)

    assert barriers == []


TOO_SMALL = """
() => [...document.querySelectorAll("main button, main select, main [type=search], header button")]
  .filter((one) => one.checkVisibility({ opacityProperty: true }))
  .map((one) => ({ one, box: one.getBoundingClientRect() }))
  .filter(({ box }) => Math.min(box.width, box.height) < 44)
  .map(({ one }) => one.outerHTML)
"""
"""What a finger would miss."""


@pytest.mark.parametrize("width", [320, 2200])
async def test_every_view_fits_every_width(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio, width: int
) -> None:
    """Also in Portuguese, whose words are longer."""
    phone = width < 640
    page = await open_studio(darkroom, viewer, width=width, locale="pt-BR", has_touch=phone)
    await expect(page.locator("figure")).to_have_count(4)

    assert await page.evaluate("document.documentElement.scrollWidth") == width
    if phone:
        assert await page.evaluate(TOO_SMALL) == []
    await page.locator("figure .edit").first.click(force=True)
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await page.evaluate("document.querySelector('dialog[open]').scrollWidth") <= width


async def test_the_studio_can_be_used_in_portuguese(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer, locale="pt-BR")

    await expect(page.get_by_role("button", name="Nova imagem")).to_be_visible()
    assert await page.evaluate("document.documentElement.lang") == "pt-BR"
    await page.get_by_role("button", name="Configurações").click()
    await page.get_by_label("Idioma").select_option("en")
    await expect(page.get_by_role("button", name="New picture")).to_be_visible()


async def test_an_error_is_shown_over_a_dialog(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer)
    await page.locator("figure .open").first.click()
    await expect(page.get_by_role("dialog")).to_be_visible()

    await page.context.set_offline(True)
    await page.get_by_role("dialog").get_by_role("button", name="Favourite").click()

    said = page.locator(".toasts li")
    await expect(said).to_contain_text("Darkroom cannot be reached.")
    assert await page.locator(".toasts").evaluate("(list) => list.matches(':popover-open')")


async def test_an_unknown_view_says_so(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer, path="conversations/conv_none")

    await expect(page.get_by_text("There is nothing at this address")).to_be_visible()
    await page.get_by_role("link", name="Go to the gallery").click()
    await expect(page.locator("figure")).to_have_count(4)


async def test_the_next_turn_continues_from_the_chosen_output(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink", "local-silver"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done))
    ink, silver = (
        page.locator(outputs(page, 0, "COMPLETED", model))
        for model in ("local-ink", "local-silver")
    )

    for chosen, label, other in ((silver, "Silver", ink), (ink, "Ink", silver)):
        choice = page.get_by_role("button", name=f"Go on from the image of {label}")
        await chosen.hover()
        await choice.click()
        await expect(choice).to_have_attribute("aria-pressed", "true")
        await expect(chosen.get_by_text("Chosen")).to_be_visible()
        await expect(other.get_by_text("Chosen")).to_have_count(0)

    await page.reload()
    await expect(ink.get_by_text("Chosen")).to_be_visible()
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await ink.hover()
    await page.get_by_role("button", name="Go on from the image of Ink").click()
    await expect(page.get_by_text("Chosen")).to_have_count(0)


async def test_a_turn_waits_until_the_previous_one_has_ended(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    started = await start_by_api(client, selectedModels=["rehearsal-hangs", "local-ink"])
    conversation_id = started["conversation"]["id"]
    await send(client, conversation_id, whenReady=True, selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(started))
    waits = page.locator('[data-turn="1"]').get_by_text("Waiting for the edit before it")

    await expect(waits).to_be_visible()
    await wait_for(page, 0, "COMPLETED", "local-ink")
    await page.get_by_role("button", name="Cancel Hangs").click()
    await wait_for(page, 1, "COMPLETED", "local-ink")
    await expect(waits).to_have_count(0)


async def test_a_waiting_turn_is_cancelled(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    started = await start_by_api(client, selectedModels=["rehearsal-hangs"])
    await send(client, started["conversation"]["id"], whenReady=True)
    page = await open_studio(darkroom, token=client.token, path=path_of(started))
    turn = page.locator('[data-turn="1"]')

    await turn.get_by_role("button", name="Cancel").click()

    await expect(turn.get_by_text("Cancelled")).to_be_visible()
    await expect(turn.get_by_role("button", name="Cancel")).to_have_count(0)
