"""Steps that tests of the studio share."""

import re

from playwright.async_api import Page, expect

from tests.clients import Data
from tests.waits import eventually

LANDING_MILLISECONDS = 80_000


async def choose_models(page: Page, *labels: str) -> None:
    """Leave exactly these models chosen."""
    await page.get_by_role("button", name="Models", exact=True).click()
    picker = page.get_by_role("group", name="Models")
    await expect(picker.locator("label:has(input:checked)").first).to_be_visible()
    while await picker.locator("label:has(input:checked)").count():
        await picker.locator("label:has(input:checked)").first.click()
    for label in labels:
        await picker.get_by_role("searchbox").fill(label)
        await picker.locator("label", has=page.get_by_text(label, exact=True)).click()
    await picker.get_by_role("button", name="Done").click()


async def start(page: Page, prompt: str, *labels: str) -> None:
    """Start a conversation from the newest image of the gallery."""
    await page.locator("figure").first.hover()
    await page.locator("figure .edit").first.click()
    await choose_models(page, *labels)
    await page.get_by_label("What should change?").fill(prompt)
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.wait_for_url(re.compile(r"/studio/conversations/conv_\w+$"))


def outputs(page: Page, turn: int, status: str, model: str = "") -> str:
    of_model = f'[data-model="{model}"]' if model else ""
    return f'[data-turn="{turn}"] [data-status="{status}"]{of_model}'


def path_of(payload: Data) -> str:
    return f"conversations/{payload['conversation']['id']}"


async def wait_for(page: Page, turn: int, status: str, model: str = "") -> None:
    found = page.locator(outputs(page, turn, status, model))
    await expect(found.first).to_be_visible(timeout=LANDING_MILLISECONDS)


async def wait_until_true(page: Page, script: str) -> None:
    """Wait for what a script says of the page. `Page.wait_for_function` asks again by `eval`, which
    the page's Content-Security-Policy forbids.
    """

    async def is_true() -> bool:
        return bool(await page.evaluate(script))

    await eventually(is_true, within=LANDING_MILLISECONDS / 1000, what=script)
