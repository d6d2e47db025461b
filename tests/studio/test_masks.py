"""Masks: painted with a pointer or by numbers, uploaded, and applied."""

from io import BytesIO

from PIL import Image
from playwright.async_api import Locator, Page, expect

from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import conversation_with
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import path_of, wait_for
from tests.tools import find_tool

MASK = """
query Mask($id: ID!) {
  conversation(id: $id) { turns(last: 1) { nodes {
    options { feather keepOutside mask { url width height } }
    references { image { id } }
    outputs { drift { changed outsideMask } references { image { id } } }
  } } }
}
"""
WHITE, BLACK = 255, 0


async def open_editor(page: Page) -> Locator:
    await page.get_by_role("button", name="Mask", exact=True).click()
    editor = page.get_by_role("dialog", name="Paint where the image may change")
    await expect(editor.locator("canvas")).to_be_visible()
    return editor


async def paint(page: Page, canvas: Locator, *points: tuple[float, float]) -> None:
    """Draw a stroke through these points, in fractions of the canvas."""
    box = await canvas.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    await page.mouse.move(*places[0])
    await page.mouse.down()
    for place in places[1:]:
        await page.mouse.move(*place, steps=4)
    await page.mouse.up()


async def sent_mask(client: GraphQLClient, payload: Data) -> tuple[Data, Image.Image]:
    """The last turn, and its mask in grey."""
    data = await client(MASK, id=payload["conversation"]["id"])
    turn: Data = data["conversation"]["turns"]["nodes"][0]
    file = await client.http.get(turn["options"]["mask"]["url"])
    return turn, Image.open(BytesIO(file.content)).convert("L")


def brightness(mask: Image.Image, x: float, y: float) -> int:
    value = mask.getpixel((int(x * mask.width), int(y * mask.height)))
    assert isinstance(value, int)
    return value


async def test_only_the_painted_area_changes(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done))
    await page.get_by_label("What should change next?").fill("Make it night")

    editor = await open_editor(page)
    canvas = editor.locator("canvas")
    await paint(page, canvas, (0.2, 0.2), (0.5, 0.5))
    await paint(page, canvas, (0.2, 0.8), (0.5, 0.8))
    await page.keyboard.press("Control+z")
    await page.keyboard.press("e")
    await paint(page, canvas, (0.2, 0.2), (0.2, 0.21))
    await expect(canvas).to_have_attribute("data-marks", "2")
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await page.reload()
    editor = await open_editor(page)
    await expect(editor.locator("canvas")).to_have_attribute("data-marks", "2")
    await editor.get_by_label("Soft edge").fill("0")
    await editor.get_by_role("button", name="Use mask").click()
    await expect(editor).to_have_count(0)
    await expect(page.get_by_text("Only a part may change")).to_be_visible()
    await page.get_by_role("button", name="Send").click()
    await wait_for(page, 1, "COMPLETED")

    turn, mask = await sent_mask(client, done)
    assert brightness(mask, 0.45, 0.45) == WHITE
    assert brightness(mask, 0.2, 0.2) == brightness(mask, 0.35, 0.8) == BLACK
    assert (turn["options"]["feather"], turn["options"]["keepOutside"]) == (0, True)
    assert (
        turn["outputs"][0]["references"][0]["image"]["id"]
        == done["turn"]["outputs"][0]["image"]["id"]
    )
    await expect(page.locator('[data-turn="1"]').get_by_text("% changed")).to_be_visible()


async def test_a_mask_can_be_made_without_a_pointer(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, token=client.token, path=path_of(done))
    await page.get_by_label("What should change next?").fill("Make it night")
    await page.get_by_role("button", name="Mask", exact=True).focus()
    await page.keyboard.press("Enter")
    editor = page.get_by_role("dialog", name="Paint where the image may change")

    await editor.get_by_text("Rectangle by numbers").focus()
    await page.keyboard.press("Enter")
    await editor.get_by_label("From the left, %").fill("50")
    await page.keyboard.press("Enter")
    await expect(editor.get_by_role("status")).to_have_text("25 % may change")
    await editor.get_by_text("Rectangle by numbers").focus()
    await page.keyboard.press("i")
    await expect(editor.get_by_role("status")).to_have_text("75 % may change")
    await editor.get_by_role("button", name="Use mask").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Only a part may change")).to_be_visible()
    await page.get_by_label("What should change next?").press("Control+Enter")
    await wait_for(page, 1, "COMPLETED")

    _, mask = await sent_mask(client, done)
    assert brightness(mask, 0.25, 0.5) == WHITE
    assert brightness(mask, 0.75, 0.5) == BLACK


async def test_a_mask_can_be_painted_by_touch(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(
        darkroom, token=client.token, path=path_of(done), width=390, height=800, has_touch=True
    )
    await page.get_by_role("button", name="Mask", exact=True).tap()
    canvas = page.locator("dialog canvas")
    await canvas.tap()

    await expect(canvas).to_have_attribute("data-marks", "1")
    assert await page.evaluate("document.querySelector('dialog[open]').scrollWidth") <= 390
