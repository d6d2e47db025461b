"""Every view with content, in the dark theme, in Portuguese, on a phone."""

from playwright.async_api import expect

from tests.api.posts import generate
from tests.api.test_albums import create
from tests.conftest import Darkroom
from tests.operations import samples
from tests.studio.conftest import OpenStudio, find_barriers
from tests.tools import find_tool

WIDTH = 390


async def test_no_view_has_an_accessibility_violation_in_the_dark_theme(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    client = darkroom.client(viewer)
    post = await generate(client, userMessage="Um barco", selectedModels=["local-ink"])
    ids = [image["id"] for image in await samples(client)]
    album = (await create(client, "Barcos", imageIds=ids))["album"]
    views = {
        "posts": "Publicações",
        f"posts/{post['id']}": "Um barco",
        "albums": "Álbuns",
        f"albums/{album['id']}": "Barcos",
        "statistics": "Comparação de modelos",
    }
    page = await open_studio(
        darkroom, viewer, color_scheme="dark", locale="pt-BR", width=WIDTH, has_touch=True
    )

    for path, title in views.items():
        await page.goto(f"{darkroom.url}/studio/{path}")
        await expect(page.get_by_role("heading", level=1)).to_have_text(title)
        assert await page.evaluate("document.documentElement.scrollWidth") == WIDTH
        if find_tool("studio"):
            assert await find_barriers(page) == []
