"""What anyone with the link of a share sees, in a real browser."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.api.test_shares import REVOKE, share
from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.operations import conversation_with, send, until_finished
from tests.studio.conftest import OpenStudio, find_barriers
from tests.tools import find_tool

PAGE_TURNS = 20
"""How many turns the page reads at once."""


async def add_turn(client: GraphQLClient, conversation_id: str, message: str) -> None:
    sent = await send(client, conversation_id, userMessage=message)
    await until_finished(client, sent["turn"])


async def expect_image(page: Page, turn: int) -> None:
    image = page.locator(f'[data-turn="{turn}"] [data-status="COMPLETED"] img.loaded')
    await expect(image.first).to_be_visible()


async def test_a_reader_sees_updates_until_the_share_is_revoked(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    conversation_id = (await conversation_with(client))["conversation"]["id"]
    made = await share(client, conversation_id, includePrompts=True)
    page = await open_studio(darkroom, None, path=f"shared/{made['token']}")

    await expect(page.get_by_role("heading", level=1)).to_have_text("A boat")
    assert await page.title() == "A boat · Darkroom"
    await expect(page.locator(".message")).to_have_text("A boat")
    await expect_image(page, 0)
    names = await page.get_by_role("main").get_by_role("button").all()
    labels = [await button.get_attribute("aria-label") for button in names]
    assert [label for label in labels if not re.match("Open|Compare", label or "")] == []
    assert await page.locator("a[href='/studio/'], textarea, input, form").count() == 0
    if find_tool("studio"):
        assert await find_barriers(page) == []

    await page.locator(".output .open").click()
    dialog = page.get_by_role("dialog", name="“A boat”")
    await expect(dialog.locator("img.loaded")).to_be_visible()
    labels = [
        await button.get_attribute("aria-label") for button in await dialog.locator("button").all()
    ]
    assert labels == ["Zoom out", "Zoom in", "Download", "Close"]
    await page.keyboard.press("e")
    await page.keyboard.press("f")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)

    await add_turn(client, conversation_id, "With a lighthouse")
    await expect_image(page, 1)
    await expect(page.locator(".message").last).to_have_text("With a lighthouse")
    assert await page.locator(".toasts li").count() == 0

    await page.locator(".output .open").last.click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await client(REVOKE, id=made["id"])
    await expect(page.get_by_role("heading", level=1)).to_have_text("This link has ended")
    await expect(page.locator("img")).to_have_count(0)
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("This link has ended")


async def test_a_signed_in_viewer_reads_a_share_like_anyone_else(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    """A token that is refused changes nothing, and is not sent."""
    conversation_id = (await conversation_with(client))["conversation"]["id"]
    made = await share(client, conversation_id)
    page = await open_studio(darkroom, None, locale="pt-BR")
    await page.evaluate("localStorage.setItem('darkroom.token', 'none')")
    sent: list[str] = []
    page.on("request", lambda request: sent.extend(request.headers))

    await page.goto(f"{darkroom.url}/studio/shared/{made['token']}")

    await expect(page.get_by_role("heading", level=1)).to_have_text("Conversa compartilhada")
    await expect_image(page, 0)
    await add_turn(client, conversation_id, "Sepia")
    await expect_image(page, 1)
    assert await page.locator(".message").count() == 0
    assert "authorization" not in sent
    assert await page.evaluate("localStorage.getItem('darkroom.token')") == "none"


@pytest.mark.parametrize("token", ["none", "%E0%A4%A", "a/b"])
async def test_an_unknown_share_says_so(
    darkroom: Darkroom, open_studio: OpenStudio, token: str
) -> None:
    page = await open_studio(darkroom, None, path=f"shared/{token}")

    title = "Pictures that develop as you talk" if "/" in token else "This link has ended"
    await expect(page.get_by_role("heading", level=1)).to_have_text(title)


async def test_a_long_conversation_is_read_in_pages(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    """What lands at its end is not shown behind a gap."""
    done = await conversation_with(client, turns=PAGE_TURNS + 1)
    conversation_id = done["conversation"]["id"]
    made = await share(client, conversation_id)
    page = await open_studio(darkroom, None, path=f"shared/{made['token']}")
    turns = page.locator("[data-turn]")

    await expect(turns).to_have_count(PAGE_TURNS)
    await add_turn(client, conversation_id, "Sepia")
    await expect(turns).to_have_count(PAGE_TURNS)
    await page.get_by_role("button", name="More turns").click()
    await expect(turns).to_have_count(PAGE_TURNS + 2)
    await expect(page.get_by_role("button", name="More turns")).to_have_count(0)
    await add_turn(client, conversation_id, "Sepia")
    await expect(turns).to_have_count(PAGE_TURNS + 3)
    indexes = [await turn.get_attribute("data-turn") for turn in await turns.all()]
    assert indexes == [str(index) for index in range(PAGE_TURNS + 3)]


async def test_shares_can_be_created_copied_and_revoked(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client)
    page = await open_studio(
        darkroom,
        token=client.token,
        path=f"conversations/{done['conversation']['id']}",
        permissions=["clipboard-read", "clipboard-write"],
    )
    await page.get_by_role("button", name="Share").click()
    menu = page.get_by_role("dialog", name="Share")

    await menu.get_by_label("Show the messages too").check()
    await menu.get_by_role("button", name="New link").click()

    await expect(page.locator(".toasts li")).to_contain_text("The link is copied.")
    url = await menu.get_by_label("Link", exact=True).input_value()
    assert await page.evaluate("navigator.clipboard.readText()") == url
    await page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject(new Error()))")
    await menu.get_by_role("button", name="Copy link").click()
    await expect(menu.get_by_label("Link", exact=True)).to_be_focused()
    if find_tool("studio"):
        assert await find_barriers(page) == []
    reader = await open_studio(darkroom, None, path=f"shared/{url.rpartition('/')[2]}")
    await expect(reader.locator(".message")).to_have_text("A boat")
    await page.reload()
    await page.get_by_role("button", name="Share").click()
    await expect(menu).to_contain_text("With messages · opened 1×")
    await menu.get_by_role("button", name="Revoke link").click()
    await expect(menu.get_by_label("Link", exact=True)).to_have_count(0)
    await expect(reader.get_by_role("heading", level=1)).to_have_text("This link has ended")
