"""The form of a turn: options, references, the plan, and waiting turns."""

import json

from playwright.async_api import Page, expect

from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import SMALL, conversation_with
from tests.operations import start as start_by_api
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import path_of, wait_for
from tests.tools import find_tool

LAST_TURN = """
query LastTurn($id: ID!) {
  conversation(id: $id) { turns(last: 1) { nodes {
    status userMessage options { seed format width height }
    references { origin image { id } }
  } } }
}
"""


async def last_turn(client: GraphQLClient, payload: Data) -> Data:
    data = await client(LAST_TURN, id=payload["conversation"]["id"])
    turn: Data = data["conversation"]["turns"]["nodes"][0]
    return turn


async def set_options(page: Page) -> None:
    await page.get_by_label("Shape").select_option("custom")
    await page.get_by_label("Width").fill("320")
    await page.get_by_label("Height").fill("256")
    await page.get_by_role("button", name="More", exact=True).click()
    await page.get_by_label("Seed").fill("7")
    await page.get_by_label("File format").select_option("WEBP")


async def test_options_survive_a_reload_and_are_sent(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done))
    field = page.get_by_label("What should change next?")
    await field.fill("In winter")
    await set_options(page)
    await page.get_by_role("button", name="References").click()
    picker = page.get_by_role("dialog", name="References")
    for index in (2, 3):
        await picker.get_by_role("button", name=f"Image {index}", exact=False).first.click()
    await picker.get_by_role("button", name="Done").click()
    chosen = page.get_by_role("list", name="References").last.get_by_role("listitem")
    await expect(chosen).to_have_count(2)
    await expect(chosen.last).to_contain_text("@Image3")
    if find_tool("studio"):
        assert await find_barriers(page) == []

    await page.reload()
    await expect(field).to_have_value("In winter")
    await expect(chosen).to_have_count(2)
    await page.get_by_role("button", name="Send").click()
    await wait_for(page, 1, "COMPLETED")

    turn = await last_turn(client, done)
    wanted = {"seed": "7", "format": "WEBP", "width": 320, "height": 256}
    assert turn["options"] == wanted
    origins = [reference["origin"] for reference in turn["references"]]
    assert origins == ["PREVIOUS_TURN", "MANUAL", "MANUAL"]
    await page.get_by_role("button", name="Earlier").click()
    earlier = page.get_by_role("group", name="Earlier")
    await earlier.get_by_role("button", name="Favourite “In winter”").click()
    marked = earlier.get_by_role("button", pressed=True)
    await expect(marked).to_have_count(1)
    await earlier.get_by_role("button", name="In winter", exact=True).click()
    await expect(field).to_have_value("In winter")
    await expect(field).to_be_focused()
    kept = json.loads(await page.evaluate("localStorage['darkroom.preferences']"))
    assert kept["format"] == "WEBP"


async def test_a_turn_can_be_sent_while_the_previous_one_is_running(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    started = await start_by_api(client, selectedModels=["rehearsal-hangs"], options=SMALL)
    page = await open_studio(darkroom, token=client.token, path=path_of(started))

    await page.get_by_label("What should change next?").fill("And a moon")
    await expect(page.get_by_label("Wait until edit 1 has ended")).to_be_checked()
    await page.get_by_role("button", name="Send when ready").click()

    turn = page.locator('[data-turn="1"]')
    await expect(turn.get_by_text("Waiting for the edit before it")).to_be_visible()
    assert (await last_turn(client, started))["status"] == "WAITING"
    await turn.get_by_role("button", name="Cancel", exact=True).click()
    await expect(turn.get_by_text("Cancelled")).to_be_visible()
