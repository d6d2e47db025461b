"""Exports, imports, restored conversations and statistics in a real browser."""

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.conftest import Darkroom, StartDarkroom
from tests.operations import conversation_with
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import path_of
from tests.tools import find_tool


async def test_an_export_is_downloaded_and_imported(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio, tmp_path: Path
) -> None:
    done = await conversation_with(darkroom.client(viewer))
    page = await open_studio(darkroom, viewer, path=path_of(done))

    await page.get_by_role("button", name="Export", exact=True).click()
    tray = page.get_by_role("region", name="Exports and imports")
    await expect(tray).to_contain_text("Export of A boat")
    download_button = tray.get_by_role("button", name="Download")
    await expect(download_button).to_be_visible(timeout=20_000)
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await page.reload()
    async with page.expect_download() as download:
        await download_button.click()
    path = tmp_path / "export.zip"
    await (await download.value).save_as(path)
    assert path.read_bytes().startswith(b"PK")

    await page.get_by_role("button", name="Settings").click()
    await page.get_by_label("Import an export").set_input_files(path)
    await expect(tray).to_contain_text("Import of export.zip")
    await tray.get_by_role("link", name="Open").click(timeout=20_000)
    await expect(page.get_by_label("Title", exact=True)).to_have_value("A boat")
    assert not page.url.endswith(done["conversation"]["id"])

    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK no export at all")
    await page.get_by_label("Import an export").set_input_files(bad)
    await expect(tray.locator('[data-job="FAILED"]')).to_be_visible(timeout=20_000)


@pytest.mark.parametrize("width", [390, 1280])
async def test_models_can_be_compared(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio, width: int
) -> None:
    await conversation_with(darkroom.client(viewer), selectedModels=["local-ink", "local-silver"])
    page = await open_studio(darkroom, viewer, width=width)

    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("link", name="Models compared").click()

    await expect(page.get_by_role("rowheader")).to_have_count(2)
    await expect(page.get_by_role("row", name="Ink")).to_contain_text("0 %")
    await page.get_by_label("Period").select_option("7")
    await expect(page.get_by_role("rowheader")).to_have_count(2)
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    if find_tool("studio"):
        assert await find_barriers(page) == []


async def test_a_deleted_conversation_can_be_restored(
    start_darkroom: StartDarkroom, viewer: str, open_studio: OpenStudio
) -> None:
    darkroom = await start_darkroom(restore_days=7)
    done = await conversation_with(darkroom.client(viewer))
    page = await open_studio(darkroom, viewer, path=path_of(done))
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Delete conversation").click()
    await expect(page.locator("figure")).to_have_count(4)

    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("link", name="Deleted conversations").click()
    await expect(page.get_by_text("They can be restored for 7 days.")).to_be_visible()
    if find_tool("studio"):
        assert await find_barriers(page) == []
    await page.get_by_role("button", name="Restore A boat").click()

    await expect(page.get_by_label("Title", exact=True)).to_have_value("A boat")
    await expect(page.locator('[data-turn="0"] [data-status="COMPLETED"]')).to_be_visible()
    await page.goto(f"{darkroom.url}/studio/deleted")
    await expect(page.get_by_text("No conversation was deleted")).to_be_visible()


async def test_if_deleted_conversations_are_not_kept_no_restoring_is_offered(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, viewer, path="deleted")

    await expect(page.get_by_text("There is nothing at this address")).to_be_visible()
